"""HTTP hooks: a backend in any language decides on connections, subscriptions and publications of clients.

PROTOCOL.md section 12.
"""
