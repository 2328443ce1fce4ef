"""The head of an event stream.

The stream ends with its connection (`Connection: close`) and is not chunked: a chunk's
length in front of every publication would buy nothing, as neither end ever reuses the connection.
Source: WHATWG HTML section 9.2.
"""

from __future__ import annotations

from tidings_hub.engine import http


def head(extra: bytes, retry_ms: int) -> bytes:
    """200 with its headers, and how long a client waits before it comes back."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
        b"X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n%b%b%b\r\nretry: %d\n\n"
    ) % (http.date_line(), http.CLOSE, extra, retry_ms)
