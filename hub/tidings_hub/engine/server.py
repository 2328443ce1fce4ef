"""The engine of one node: listens, routes each request to its handler, drains and stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from tidings_hub import runtime
from tidings_hub.core.relay_stamp import STAMP_HEADER
from tidings_hub.engine.engineio_handler import EngineioHandler
from tidings_hub.engine.http_connection import HttpConnection, RequestHandler
from tidings_hub.engine.limits import EngineLimits, EngineMetrics, EngineOptions
from tidings_hub.engine.listener import Listener, listen_tcp, listen_unix
from tidings_hub.engine.mount import EngineContext, Mount
from tidings_hub.engine.protocols import engineio, http_response
from tidings_hub.engine.protocols.error_body import error_json
from tidings_hub.engine.pump import Pump
from tidings_hub.engine.relay.relay import Relay
from tidings_hub.engine.sse_handler import SseHandler
from tidings_hub.engine.timing_wheel import TimedEntry, TimingWheel
from tidings_hub.engine.wsgi_handler import WsgiHandler

if TYPE_CHECKING:
    import logging

    from tidings_hub.core.node_directory import NodeDirectory
    from tidings_hub.engine.application import Application, SseApplication
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.protocols.http_request import RequestHead

_os = runtime.original("os")
# Connections above max_connections that are accepted only to get status 503. Further ones are closed without response.
_REFUSED_MAX = 256
_GRANULARITY_MAX_S = 1.0
_GRANULARITY_MIN_S = 0.005
_DRAIN_STEP_S = 0.05


class EngineServer:
    """Serves the Engine.IO, event stream and WSGI requests of one node.

    Use: mount, listen, start; later stop_accepting, drain, stop. Call it from greenlets of the hub's thread, after
    `runtime.patch()`.
    """

    def __init__(self, limits: EngineLimits, *, metrics: EngineMetrics, log: logging.Logger, node_id: str = "") -> None:
        self.limits = limits
        self.metrics = metrics
        self.log = log
        self.wheel = TimingWheel(_GRANULARITY_MAX_S, self._on_wheel_error)
        self.pump = Pump(
            self.wheel,
            linger_s=limits.close_linger_s,
            on_error=self._on_engine_error,
            on_recovered=self._on_pump_recovered,
            on_cut_off=self._on_cut_off,
        )
        self._context = EngineContext(
            limits=limits, metrics=metrics, log=log, node_id=node_id, pump=self.pump, wheel=self.wheel
        )
        # Handlers by path, each with the options of its mount.
        self._routes: dict[str, tuple[RequestHandler, EngineOptions]] = {}
        self._handlers: list[EngineioHandler | SseHandler] = []
        self._wsgi: WsgiHandler | None = None
        self._listeners: list[Listener] = []
        self.local_address = ("127.0.0.1", 0)
        self.relay: Relay | None = None
        self.is_trusted_proxy = lru_cache(maxsize=4096)(self._is_in_trusted_network)

    # --- setup ---

    def mount(self, path: str, application: Application, options: EngineOptions) -> None:
        """Serve Engine.IO at `path`, with or without its final slash. Call it before `start`."""
        handler = EngineioHandler(Mount(self._context, application, options), path)
        handler.relay = self.relay
        self._mount(path, handler, options)

    def mount_sse(self, path: str, application: SseApplication, options: EngineOptions) -> None:
        """Serve event streams at `path`. Call it before `start`."""
        self._mount(path, SseHandler(Mount(self._context, application, options)), options)

    def _mount(self, path: str, handler: EngineioHandler | SseHandler, options: EngineOptions) -> None:
        self._handlers.append(handler)
        bare_path = path.rstrip("/")
        self._routes[bare_path] = self._routes[bare_path + "/"] = (handler, options)
        # The wheel's granularity is at most an eighth of the shortest deadline.
        shortest_s = min(options.ping_interval_ms, options.ping_timeout_ms) / 8000
        granularity_s = max(min(self.wheel.granularity_s, shortest_s), _GRANULARITY_MIN_S)
        if granularity_s < self.wheel.granularity_s:
            self.wheel.refine(granularity_s)

    def mount_wsgi(self, app: runtime.WsgiApp) -> None:
        """Pass all other requests to `app`. Call it before `start`."""
        self._wsgi = WsgiHandler(app, limits=self.limits, metrics=self.metrics, log=self.log)

    def enable_relay(
        self,
        nodes: NodeDirectory,
        keys: Sequence[bytes],
        *,
        request_refresh: Callable[[], object],
        cluster_time_s: Callable[[], float],
    ) -> Relay:
        """Relay requests to and from other nodes. Call it before `start`. The parameters are those of `Relay`."""
        self.relay = Relay(self._context, nodes, keys, request_refresh=request_refresh, cluster_time_s=cluster_time_s)
        for handler in self._handlers:
            if isinstance(handler, EngineioHandler):
                handler.relay = self.relay
        return self.relay

    def listen(self, host: str, port: int, *, shares_port: bool = False) -> int:
        """Listen on `host` and `port` (0: any free port) and return the port. May be called several times.

        `shares_port`: other processes of this user may listen on the port as well. The kernel distributes clients.

        Raises:
            OSError: the address is in use, or does not belong to this machine.
        """
        listener = Listener(self, listen_tcp(host, port, self.limits.backlog, shares_port=shares_port))
        self.local_address = listener.address
        self._add(listener)
        return listener.address[1]

    def listen_unix(self, path: str) -> None:
        """Listen on a Unix socket, for processes of this user."""
        self._add(Listener(self, listen_unix(path, self.limits.backlog)))

    def _add(self, listener: Listener) -> None:
        self._listeners.append(listener)
        self.pump.listen(listener.socket.fileno(), listener)

    def start(self) -> None:
        """Start to serve. Returns immediately."""
        self.wheel.start()
        self.pump.start()

    # --- state ---

    def connections(self) -> Iterator[Connection]:
        """Iterate over a snapshot of the open connections."""
        for handler in self._handlers:
            yield from list(handler.mount.sessions.values())

    # --- shutdown ---

    def stop_accepting(self) -> None:
        """Accept no new sockets, and no new sessions on the open ones. Idempotent.

        Connections that the kernel has already accepted are taken first: closing the listener would reset them.
        """
        for handler in self._handlers:
            handler.is_draining = True
        for listener in self._listeners:
            listener.accept()
            listener.close()
        self._listeners.clear()

    def drain(self, over_s: float, close: Callable[[Connection], object]) -> None:
        """Call `close` for every connection, in batches spread evenly over `over_s`. Returns when all are closed.

        Call it from a greenlet: it sleeps between batches. Waiting polls get a response.
        """
        remaining = list(self.connections())
        steps = max(1, int(over_s / _DRAIN_STEP_S))
        size = -(-len(remaining) // steps)
        for start in range(0, len(remaining), size or 1):
            for connection in remaining[start : start + size]:
                close(connection)
            runtime.sleep(min(_DRAIN_STEP_S, over_s))
        for connection in self.connections():
            close(connection)

    def is_flushed(self) -> bool:
        """Whether all responses are sent: no socket lingers, and the WSGI application has no request."""
        return not self.pump.lingering_count() and (self._wsgi is None or not self._wsgi.running)

    def stop(self) -> None:
        """Close everything immediately."""
        self.stop_accepting()
        for connection in self.connections():
            connection.close("draining")
        self.pump.stop()
        self.wheel.stop()

    # --- called by listeners and HTTP connections ---

    def on_accept(self, fd: int, address: tuple[str, int]) -> None:
        """Take ownership of a new client socket."""
        self.metrics.accepted += 1
        excess = len(self.pump) - self.limits.max_connections
        if self.relay is not None:
            excess -= self.relay.sockets
        if excess >= 0:
            self.metrics.refused_full += 1
            if excess >= _REFUSED_MAX:
                _os.close(fd)
                return
        self.pump.add(fd, HttpConnection(self, fd, address, over_limit=excess >= 0))

    def route(self, http_connection: HttpConnection, head: RequestHead) -> RequestHandler | None:
        """Return the handler of a request, or None if the request already has a response."""
        http_connection.extra_headers = b"" if head.keep_alive else http_response.CLOSE
        if not self._identify(http_connection, head):
            http_connection.refuse(engineio.UNKNOWN_SESSION.status, engineio.UNKNOWN_SESSION.body(), close=True)
            return None
        # A full node still serves its own sessions when another node relays their requests.
        if http_connection.over_limit and not http_connection.is_relayed:
            http_connection.refuse(503, error_json("full"), close=True)
            return None
        route = self._routes.get(head.path)
        if route is not None:
            return self._check_origin(http_connection, head, *route)
        if self._wsgi is None:
            http_connection.refuse(404, error_json("not_found"))
        return self._wsgi

    def _check_origin(
        self, http_connection: HttpConnection, head: RequestHead, handler: RequestHandler, options: EngineOptions
    ) -> RequestHandler | None:
        origin = head.headers.get("origin")
        if not options.origins.allows(origin, http_connection.host, http_connection.secure):
            self.metrics.bad_origins += 1
            http_connection.refuse(403, engineio.FORBIDDEN.body(), close=True)
            return None
        if origin is not None:
            http_connection.extra_headers += http_response.cors_lines(origin)
        if head.method != "OPTIONS":
            return handler
        if head.has_body:
            http_connection.refuse(400, engineio.BAD_REQUEST.body())
        else:
            lines = http_response.preflight_lines(head.headers.get("access-control-request-headers"))
            http_connection.respond(http_response.render(204, b"", extra_headers=http_connection.extra_headers + lines))
        return None

    def _identify(self, http_connection: HttpConnection, head: RequestHead) -> bool:
        """Set the client's address, scheme and host. False: the request has an invalid stamp of another node."""
        http_connection.is_relayed = False
        if self.relay is None or STAMP_HEADER not in head.headers:
            http_connection.host = self._read_client_address(http_connection, head)
            return True
        stamp = self.relay.verify_stamp(head)
        if stamp is None:
            return False
        http_connection.is_relayed = True
        http_connection.remote, http_connection.secure, http_connection.host = stamp.remote, stamp.secure, stamp.host
        return True

    def _read_client_address(self, http_connection: HttpConnection, head: RequestHead) -> str:
        """Set the client's address and scheme, and return the host that it requested."""
        headers = head.headers
        host = headers.get("host", "")
        peer = http_connection.address[0]
        http_connection.remote, http_connection.secure = peer, False
        if not self.limits.trusted_proxies or not self.is_trusted_proxy(peer):
            return host
        # Each proxy appends the address of its peer. So from the right, the first untrusted address is the client's.
        for hop in reversed([part.strip() for part in headers.get("x-forwarded-for", "").split(",")]):
            if not hop:
                break
            http_connection.remote = hop[:64]
            if not self.is_trusted_proxy(hop):
                break
        http_connection.secure = headers.get("x-forwarded-proto", "").lower() == "https"
        return headers.get("x-forwarded-host", host)

    def _is_in_trusted_network(self, address: str) -> bool:
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self.limits.trusted_proxies)

    # --- called by the pump and the wheel ---

    def _on_engine_error(self, error: BaseException) -> None:
        self.metrics.pump_errors += 1
        self.log.error("unexpected error in the engine; the connection is closed", exc_info=error)

    def _on_wheel_error(self, entry: TimedEntry, error: BaseException) -> None:
        self._on_engine_error(error)
        abort = getattr(entry, "abort", None)
        if abort is not None:
            abort()

    def _on_cut_off(self) -> None:
        self.metrics.closes_cut += 1

    def _on_pump_recovered(self) -> None:
        self.metrics.pump_mended += 1
        self.log.error("the pump was not called any more; it is registered again")
