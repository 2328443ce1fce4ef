"""Publishing over the hub's HTTP API (PROTOCOL.md sections 5 and 8).

publisher: sends, retries and keeps connections, which `tidings.http_client` provides.
requests: GET requests and their responses. responses: publish requests, receipts and errors.
"""
