"""Publishing to a message queue from which hubs consume, with kombu.

publisher: retries and results. connection: producers that wait for confirms. address: URLs and kombu's connections.
"""
