"""The engine of one node: listens, routes each request to its handler, drains and stops."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tidings_hub import runtime
from tidings_hub.core.relay_stamp import STAMP_HEADER
from tidings_hub.engine.capacity.socket_room import SocketRoom
from tidings_hub.engine.engineio_handler import EngineioHandler
from tidings_hub.engine.http_connection import HttpConnection, RequestHandler
from tidings_hub.engine.limits import EngineLimits, EngineMetrics, EngineOptions, Hosts
from tidings_hub.engine.listener import Listener, listen_tcp, listen_unix
from tidings_hub.engine.mount import EngineContext, Mount
from tidings_hub.engine.protocols import engineio, http_response
from tidings_hub.engine.protocols.error_body import error_json
from tidings_hub.engine.pump import Pump
from tidings_hub.engine.refused_origin import log_refused_host, log_refused_origin, refuse_origin
from tidings_hub.engine.relay.relay import Relay
from tidings_hub.engine.requests.wsgi_handler import Workload, WsgiHandler, only_pages
from tidings_hub.engine.sse_handler import SseHandler
from tidings_hub.engine.timing_wheel import TimedEntry, TimingWheel
from tidings_hub.engine.trusted_proxies import TrustedProxies

if TYPE_CHECKING:
    from tidings_hub.core.node_directory import NodeDirectory
    from tidings_hub.engine.application import Application, SseApplication
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.protocols.http_request import RequestHead
    from tidings_hub.engine.requests.direct_requests import DirectApplication

_GRANULARITY_MAX_S = 1.0
_GRANULARITY_MIN_S = 0.005
_DRAIN_STEP_S = 0.05


class EngineServer:
    """Serves the Engine.IO, event stream and WSGI requests of one node.

    Use: mount, listen, start; later stop_accepting, drain, stop. Call it from greenlets of the hub's thread, after
    `runtime.patch()`.
    """

    def __init__(
        self,
        limits: EngineLimits,
        *,
        metrics: EngineMetrics,
        log: logging.Logger,
        node_id: str = "",
        hosts: Hosts | None = None,
    ) -> None:
        self.limits = limits
        # None: a request may name any host.
        self._hosts = hosts
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
        self.room = SocketRoom(self.pump, limits, metrics, log)
        self._context = EngineContext(
            limits=limits,
            metrics=metrics,
            log=log,
            node_id=node_id,
            pump=self.pump,
            wheel=self.wheel,
            room=self.room,
        )
        self.budget = self._context.budget
        # Handlers by path, each with the options of its mount.
        self._routes: dict[str, tuple[RequestHandler, EngineOptions]] = {}
        self._handlers: list[EngineioHandler | SseHandler] = []
        self._wsgi: WsgiHandler | None = None
        self._listeners: list[Listener] = []
        self.local_address = ("127.0.0.1", 0)
        self.relay: Relay | None = None
        self._proxies = TrustedProxies(limits.trusted_proxies)
        self.is_trusted_proxy = self._proxies.contains

    # --- setup ---

    def mount(self, path: str, application: Application, options: EngineOptions) -> None:
        """Serve Engine.IO at `path`, with or without its final slash. Call it before `start`."""
        self._mount(path, EngineioHandler(Mount(self._context, application, options), path, self.relay), options)

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

    def mount_wsgi(
        self,
        app: runtime.WsgiApp,
        *,
        workload_of: Callable[[str], Workload] = only_pages,
        shared: Mapping[str, EngineOptions] | None = None,
        direct: DirectApplication | None = None,
    ) -> None:
        """Pass all other requests to `app`, except those that `direct` answers. Call it before `start`.

        `workload_of`: the workload of a path. `shared`: paths that pages of other origins may request, by the origins
        of these options.
        """
        self._wsgi = WsgiHandler(app, self._context, workload_of=workload_of, direct=direct)
        self._routes |= {path: (self._wsgi, options) for path, options in (shared or {}).items()}

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
        self.room.relay = self.relay
        for handler in (handler for handler in self._handlers if isinstance(handler, EngineioHandler)):
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
        self.room.start()
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
        self.room.close()

    # --- called by listeners and HTTP connections ---

    def on_accept(self, fd: int, address: tuple[str, int]) -> None:
        """Take ownership of a new client socket."""
        self.metrics.accepted += 1
        self.pump.add_accepted(fd, HttpConnection(self, fd, address))

    def route(self, http_connection: HttpConnection, head: RequestHead) -> RequestHandler | None:
        """Return the handler of a request, or None if the request already has a response."""
        http_connection.extra_headers = b"" if head.keep_alive else http_response.CLOSE
        if not self._identify(http_connection, head):
            http_connection.refuse(engineio.UNKNOWN_SESSION.status, engineio.UNKNOWN_SESSION.body(), close=True)
            return None
        if self._hosts is not None and not self._check_host(http_connection, head, self._hosts):
            return None
        route = self._routes.get(head.path)
        if route is not None:
            http_connection.end_priority()
            return self._check_origin(http_connection, head, *route)
        if self._wsgi is None:
            http_connection.refuse(404, error_json("not_found"))
        return self._wsgi

    def _check_host(self, http_connection: HttpConnection, head: RequestHead, hosts: Hosts) -> bool:
        """Refuse a request to a foreign host. A page can forge forwarded headers, so the Host header counts as well."""
        host = head.headers.get("host", "")
        if hosts.allows(host) and hosts.allows(http_connection.host):
            return True
        self.metrics.bad_hosts += 1
        log_refused_host(self.log, host)
        http_connection.refuse(403, error_json("forbidden"), close=True)
        return False

    def _check_origin(
        self, http_connection: HttpConnection, head: RequestHead, handler: RequestHandler, options: EngineOptions
    ) -> RequestHandler | None:
        origin = head.headers.get("origin")
        if not options.origins.allows(origin, http_connection.host, http_connection.secure):
            self.metrics.bad_origins += 1
            log_refused_origin(self.log, str(origin), http_connection.host)
            is_engineio = isinstance(handler, EngineioHandler)
            refuse_origin(http_connection, head, options, self.pump, is_engineio=is_engineio)
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
            self._proxies.read_client(http_connection, head.headers)
            return True
        stamp = self.relay.verify_stamp(head)
        if stamp is None:
            return False
        http_connection.is_relayed = True
        http_connection.remote, http_connection.secure, http_connection.host = stamp.remote, stamp.secure, stamp.host
        return True

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
