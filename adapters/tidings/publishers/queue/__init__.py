"""Publishing to a message queue from which hubs consume, with kombu.

publisher: retries and results. connection: producers that wait for confirms. address: URLs.
queue_connection: one connection of kombu.
"""
