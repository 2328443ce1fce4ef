"""A strict HTTP/1.1 client on which every exchange ends at one deadline.

The HTTP publisher, the hub's hooks and the fetch of a JWKS use it.

connection: one connection and its exchanges. byte_stream: a socket, and TLS over it, with a deadline.
response: the framing of a response. deadline: a point in time.
"""
