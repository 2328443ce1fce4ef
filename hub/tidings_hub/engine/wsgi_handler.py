"""Requests that are not ours: to the WSGI application, one at a time, and the connection back to the pump.

The request is read to its end before a greenlet sees it, and the answer is written by the
pump: no greenlet ever waits for a slow client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidings_hub import runtime
from tidings_hub.engine import http
from tidings_hub.engine.sse_handler import coded

if TYPE_CHECKING:
    import logging

    from tidings_hub.engine.http import Head
    from tidings_hub.engine.http_connection import Link
    from tidings_hub.engine.limits import EngineLimits, EngineMetrics

# What belonged to the connection and not to the request, or was settled when the body was read.
_HOP = frozenset({
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
    "expect", "http2-settings",
})  # fmt: skip
_FORWARDED = ("x-forwarded-", "forwarded", "x-real-ip")
_RELAY = "tidings-relay"
# The application sees this line only where another node of this hub sent the request.
RELAYED_LINE = f"{_RELAY}ed: 1"


def request_bytes(head: Head, body: bytes, *, trusted: bool, relayed: bool = False) -> bytes:
    """The request once more, in one unambiguous form: no transfer coding, one length, no unbelieved proxy headers."""
    target = f"{head.path}?{head.query}" if head.query else head.path
    lines = [f"{head.method} {target} HTTP/{head.version}"]
    lines += [
        f"{name}: {value}"
        for name, value in head.headers.items()
        if name not in _HOP and not name.startswith(_RELAY) and (trusted or not name.startswith(_FORWARDED))
    ]
    if relayed:
        lines.append(RELAYED_LINE)
    lines.append(f"content-length: {len(body)}")
    if not head.keep_alive:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Wsgi:
    """Answers by a WSGI application, in a bounded pool of greenlets."""

    def __init__(
        self, app: runtime.WsgiApp, *, limits: EngineLimits, metrics: EngineMetrics, log: logging.Logger
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._log = log
        self._server = runtime.WsgiServer(app, log=log)
        self._pool = runtime.Pool(limits.wsgi_pool, limits.wsgi_queue, failed=self._failed)

    @property
    def running(self) -> int:
        """Requests that the application has not answered yet."""
        return self._pool.running + len(self._pool)

    def begin(self, _link: Link, _head: Head) -> int | None:
        """The limit of a body."""
        return self._limits.body_max_bytes

    def too_large(self, link: Link) -> None:
        """413."""
        link.refuse(413, coded("too_large"))

    def again(self, link: Link, line: bytes) -> bool:
        """Nothing here is worth a short way."""
        return False

    def finish(self, link: Link, head: Head, body: bytes) -> None:
        """Hand it over, or refuse when too many wait."""
        raw = request_bytes(head, body, trusted=link.server.trusts(link.address[0]), relayed=link.relayed)
        port = link.address[1] if link.remote == link.address[0] else 0
        request = runtime.WsgiRequest(raw, (link.remote, port), link.server.local, link.secure)
        link.part()
        self._metrics.wsgi_requests += 1
        if not self._pool.submit(self._serve, link, request):
            self._metrics.wsgi_refused += 1
            link.rejoin(http.response(503, coded("full"), kind=http.JSON, extra=http.CLOSE), keep_alive=False)

    def _serve(self, link: Link, request: runtime.WsgiRequest) -> None:
        limits = self._limits
        try:
            answer = self._server.serve_wsgi_request(
                request, timeout_s=limits.wsgi_timeout_s, response_max_bytes=limits.wsgi_response_max_bytes
            )
            raw, keep_alive = answer.raw, answer.keep_alive
        except (TimeoutError, runtime.ResponseTooLarge) as error:
            if isinstance(error, TimeoutError):
                self._metrics.wsgi_timeouts += 1
            else:
                self._metrics.wsgi_too_large += 1
            self._log.error("a WSGI answer was given up: %s %s", type(error).__name__, error)
            raw, keep_alive = b"", False
        if not raw:
            raw, keep_alive = http.response(500, coded("internal"), kind=http.JSON, extra=http.CLOSE), False
        link.rejoin(raw, keep_alive=keep_alive)

    def _failed(self, error: BaseException) -> None:
        self._metrics.application_errors += 1
        self._log.error("a WSGI request failed", exc_info=error)
