"""Publishing over the hub's HTTP API (PROTOCOL.md sections 5 and 8).

publisher: sends, retries and keeps connections. connection: one HTTP/1.1 connection with a deadline.
requests: GET requests and their responses. responses: publish requests, receipts and errors.
"""
