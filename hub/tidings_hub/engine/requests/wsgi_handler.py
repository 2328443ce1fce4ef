"""Pass all other requests to the WSGI application, one at a time per connection. Some need no WSGI.

The hub reads a request to its end before a greenlet sees it, and the pump writes the response. So no greenlet ever
waits for a slow client.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from tidings_hub import runtime
from tidings_hub.engine.capacity.address_limit import AddressLimit
from tidings_hub.engine.protocols import http_response
from tidings_hub.engine.protocols.error_body import api_error_json
from tidings_hub.engine.protocols.wsgi_response import BadWsgiResponse, checked_response
from tidings_hub.engine.requests.direct_requests import DirectApplication, DirectRequests
from tidings_hub.log import log_rate_limited

if TYPE_CHECKING:
    from tidings_hub.engine.http_connection import HttpConnection
    from tidings_hub.engine.mount import EngineContext
    from tidings_hub.engine.protocols.http_request import RequestHead

# Headers that describe the connection, or the transfer of a body that is already read.
_HOP_HEADERS = frozenset({
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
    "expect", "http2-settings",
})  # fmt: skip
_FORWARDED_PREFIXES = ("x-forwarded-", "forwarded", "x-real-ip")
_RELAY_PREFIX = "tidings-relay"
# The application sees this header only if another node of this hub sent the request.
RELAYED_LINE = f"{_RELAY_PREFIX}ed: 1"


def request_bytes(head: RequestHead, body: bytes, *, trusted: bool, relayed: bool = False) -> bytes:
    """Serialize a request in one unambiguous form: no transfer coding and exactly one length.

    `trusted`: keep the headers in which proxies describe the client. `relayed`: another node sent the request.
    """
    target = f"{head.path}?{head.query}" if head.query else head.path
    lines = [f"{head.method} {target} HTTP/{head.version}"]
    lines += [
        f"{name}: {value}"
        for name, value in head.headers.items()
        if name not in _HOP_HEADERS
        and not name.startswith(_RELAY_PREFIX)
        and (trusted or not name.startswith(_FORWARDED_PREFIXES))
    ]
    if relayed:
        lines.append(RELAYED_LINE)
    lines.append(f"content-length: {len(body)}")
    if not head.keep_alive:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Workload(Enum):
    """Kinds of requests. Each has its own greenlets, so a slow kind does not delay the others."""

    # Liveness, readiness and metrics: a few at a time, answered at once.
    PROBES = "probes"
    # The HTTP API.
    BACKENDS = "backends"
    # Requests of clients and of backends that wait for the notification service.
    INBOX = "inbox"
    NOTIFICATIONS = "notifications"
    # Everything else, including the user's own application.
    PAGES = "pages"


# Probes of a balancer, a supervisor and Prometheus, at a time and waiting. Anyone may send them, so one address may
# have only a part of them: a node that refuses the probe of its supervisor is killed.
_PROBES = 16
_PROBE_QUEUE = 240
_PROBES_PER_ADDRESS = 16


_SERVED = (Workload.BACKENDS, Workload.PAGES, Workload.INBOX, Workload.NOTIFICATIONS)
# Greenlets of backends that wait for the next request instead of ending. Their calls are the hub's own.
_IDLE_GREENLETS = 64
_OF_BACKENDS = (Workload.BACKENDS, Workload.NOTIFICATIONS)


def only_pages(_path: str) -> Workload:
    """All requests are of one kind."""
    return Workload.PAGES


class WsgiHandler:
    """Runs a WSGI application in bounded pools of greenlets.

    `workload_of`: the workload of a path. `direct`: answers some requests instead.
    """

    def __init__(
        self,
        app: runtime.WsgiApp,
        context: EngineContext,
        *,
        workload_of: Callable[[str], Workload],
        direct: DirectApplication | None,
    ) -> None:
        self._workload_of = workload_of
        self._room = context.room
        self._room.wsgi = self
        self._limits = limits = context.limits
        self._metrics = context.metrics
        self._log = log = context.log
        self._server = runtime.WsgiServer(app, log=log)
        self._pools = {
            workload: runtime.Pool(
                limits.wsgi_pool,
                limits.wsgi_queue,
                on_error=self._on_error,
                idle_max=_IDLE_GREENLETS if workload is Workload.BACKENDS else 0,
            )
            for workload in _SERVED
        }
        self._served = tuple(self._pools.values())
        self._direct: DirectRequests | None = None
        if direct is not None:
            backends = self._pools[Workload.BACKENDS]
            self._direct = DirectRequests(direct, backends, limits=limits, discard=self._discard)
        self._pools[Workload.PROBES] = runtime.Pool(_PROBES, _PROBE_QUEUE, on_error=self._on_error)
        self._probes = AddressLimit(_PROBES_PER_ADDRESS)

    @property
    def running(self) -> int:
        """Number of requests without a response, waiting ones included."""
        return sum(pool.unfinished for pool in self._pools.values()) + self._joined

    @property
    def _joined(self) -> int:
        return 0 if self._direct is None else self._direct.joined

    @property
    def served(self) -> int:
        """Number of requests without a response, except probes."""
        # Every new session reads it.
        backends, pages, inbox, notifications = self._served
        return backends.unfinished + pages.unfinished + inbox.unfinished + notifications.unfinished + self._joined

    def accept_body(self, _http_connection: HttpConnection, _head: RequestHead) -> int | None:
        """Return the limit of a body in bytes."""
        return self._limits.body_max_bytes

    def on_body_too_large(self, http_connection: HttpConnection) -> None:
        """Respond with status 413."""
        http_connection.refuse(413, api_error_json("too_large"))

    def try_repeat(self, http_connection: HttpConnection, line: bytes) -> bool:
        """Return False: WSGI requests always take the normal path."""
        return False

    def handle(self, http_connection: HttpConnection, head: RequestHead, body: bytes) -> None:
        """Pass the request to the pool of its workload. If that or the node has no room, respond with status 503."""
        workload = self._workload_of(head.path)
        if not self._has_room(workload, http_connection.remote):
            self._metrics.wsgi_refused += 1
            http_connection.extra_headers += http_response.retry_after_line()
            http_connection.refuse(503, api_error_json("full"), close=True)
            return
        self._metrics.wsgi_requests += 1
        if not self._handle_directly(http_connection, head, body, workload):
            self._pass_to_wsgi(http_connection, head, body, workload)

    def _handle_directly(
        self, http_connection: HttpConnection, head: RequestHead, body: bytes, workload: Workload
    ) -> bool:
        """Answer without WSGI, now or later. Return False if this is not possible: then nothing has changed."""
        direct = self._direct
        if direct is None or http_connection.is_relayed:
            return False
        if workload is Workload.PROBES:
            response = direct.respond(head)
            if response is not None:
                raw = response.render(keep_alive=head.keep_alive)
                http_connection.detach()
                http_connection.reattach(raw, keep_alive=head.keep_alive, is_probe=True)
            return response is not None
        if workload is not Workload.BACKENDS or not direct.accepts(head):
            return False
        http_connection.detach()
        if not direct.submit(http_connection, body, keep_alive=head.keep_alive):
            self._refuse(http_connection)
        return True

    def _refuse(self, http_connection: HttpConnection) -> None:
        self._metrics.wsgi_refused += 1
        response = _error_response(503, "full", http_response.retry_after_line())
        http_connection.reattach(response, keep_alive=False)

    def _pass_to_wsgi(
        self, http_connection: HttpConnection, head: RequestHead, body: bytes, workload: Workload
    ) -> None:
        address, remote = http_connection.address, http_connection.remote
        server = http_connection.server
        is_trusted = server.is_trusted_proxy(address[0])
        raw = request_bytes(head, body, trusted=is_trusted, relayed=http_connection.is_relayed)
        port = address[1] if remote == address[0] else 0
        request = runtime.WsgiRequest(raw, (remote, port), server.local_address, http_connection.secure)
        http_connection.detach()
        serve = self._serve_probe if workload is Workload.PROBES else self._serve
        if not self._pools[workload].submit(serve, http_connection, request, workload):
            self._refuse(http_connection)
        elif workload is Workload.PROBES:
            self._probes.add(remote)

    def _has_room(self, workload: Workload, remote: str) -> bool:
        if workload is Workload.PROBES:
            return self._probes.has_room(remote)
        return self._room.has_backend_room() if workload in _OF_BACKENDS else self._room.has_page_room()

    def _serve_probe(self, http_connection: HttpConnection, request: runtime.WsgiRequest, workload: Workload) -> None:
        remote = request.remote[0]
        try:
            self._serve(http_connection, request, workload)
        finally:
            self._probes.remove(remote)

    def _serve(self, http_connection: HttpConnection, request: runtime.WsgiRequest, workload: Workload) -> None:
        limits = self._limits
        try:
            response = self._server.serve_wsgi_request(
                request, timeout_s=limits.wsgi_timeout_s, response_max_bytes=limits.wsgi_response_max_bytes
            )
            raw, keep_alive = response.raw, response.keep_alive
            if raw:
                is_head_method = request.raw.startswith(b"HEAD ")
                raw = checked_response(raw, is_head_method=is_head_method, keep_alive=keep_alive)
        except (TimeoutError, runtime.ResponseTooLarge, BadWsgiResponse, SystemExit) as error:
            # SystemExit: `sys.exit` in a view must not end the node.
            raw, keep_alive = self._discard(error), False
        if not raw:
            raw, keep_alive = _error_response(500, "internal"), False
        http_connection.reattach(raw, keep_alive=keep_alive, is_probe=workload is Workload.PROBES)

    def _discard(self, error: BaseException) -> bytes:
        """Count and log what ended a request. Return its response."""
        self._count(error)
        log_rate_limited(
            *(self._log, logging.ERROR, f"wsgi {type(error).__name__}"),
            *("a WSGI response was discarded: %s %s", type(error).__name__, error),
        )
        return _error_response(500, "internal")

    def _count(self, error: BaseException) -> None:
        if isinstance(error, TimeoutError):
            self._metrics.wsgi_timeouts += 1
        elif isinstance(error, runtime.ResponseTooLarge):
            self._metrics.wsgi_too_large += 1
        else:
            self._metrics.application_errors += 1

    def _on_error(self, error: BaseException) -> None:
        self._metrics.application_errors += 1
        self._log.error("a WSGI request failed", exc_info=error)


def _error_response(status: int, name: str, extra_headers: bytes = b"") -> bytes:
    extra_headers += http_response.CLOSE
    return http_response.render(
        status, api_error_json(name), content_type=http_response.JSON, extra_headers=extra_headers
    )
