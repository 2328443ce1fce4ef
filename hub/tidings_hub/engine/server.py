"""The front door: listens, routes each request to who answers it, drains and stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from tidings_hub import runtime
from tidings_hub.core.relay_stamp import STAMP_HEADER
from tidings_hub.engine import engineio as protocol
from tidings_hub.engine import http
from tidings_hub.engine.engineio import Kind
from tidings_hub.engine.engineio_handler import Front
from tidings_hub.engine.http_connection import Exchange, Link
from tidings_hub.engine.limits import EngineLimits, EngineMetrics, EngineOptions
from tidings_hub.engine.listener import Listener, bound, bound_unix
from tidings_hub.engine.mount import Mount, Shared
from tidings_hub.engine.pump import Pump
from tidings_hub.engine.relay.relay import Relay
from tidings_hub.engine.sse_handler import Streams, coded
from tidings_hub.engine.timing_wheel import Timed, Wheel
from tidings_hub.engine.wsgi_handler import Wsgi

if TYPE_CHECKING:
    import logging

    from tidings_hub.core.node_directory import NodeDirectory
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.interfaces import Application, SseApplication

_os = runtime.original("os")
# Links past max_connections that are accepted only to be told so; past these, the connection is cut.
_REFUSED_MAX = 256
_GRANULARITY_MAX_S = 1.0
_GRANULARITY_MIN_S = 0.005
_DRAIN_STEP_S = 0.05


class EngineServer:
    """A node's front door. Use: mount, listen, start; later stop_accepting, drain, stop.

    All calls are for greenlets of the hub's thread; `runtime.patch()` was called before.
    """

    def __init__(self, limits: EngineLimits, *, metrics: EngineMetrics, log: logging.Logger, node_id: str = "") -> None:
        self.limits = limits
        self.metrics = metrics
        self.log = log
        self.wheel = Wheel(_GRANULARITY_MAX_S, self._wheel_failed)
        self.pump = Pump(
            self.wheel,
            linger_s=limits.close_linger_s,
            failed=self._pump_failed,
            mended=self._mended,
            cut_off=self._cut_off,
        )
        self._shared = Shared(
            limits=limits, metrics=metrics, log=log, node_id=node_id, pump=self.pump, wheel=self.wheel
        )
        self._exchanges: dict[str, tuple[Exchange, EngineOptions]] = {}
        self._fronts: list[Front | Streams] = []
        self._wsgi: Wsgi | None = None
        self._listeners: list[Listener] = []
        self.local = ("127.0.0.1", 0)
        self.relay: Relay | None = None
        self.trusts = lru_cache(maxsize=4096)(self._is_trusted)

    # --- building ---

    def mount(self, path: str, application: Application, options: EngineOptions) -> None:
        """Serve Engine.IO at `path`, with or without its last slash. Before `start`."""
        self._mount(path, Front(Mount(self._shared, application, options), path), options)

    def mount_sse(self, path: str, application: SseApplication, options: EngineOptions) -> None:
        """Serve event streams at `path`. Before `start`."""
        self._mount(path, Streams(Mount(self._shared, application, options)), options)

    def _mount(self, path: str, front: Front | Streams, options: EngineOptions) -> None:
        self._fronts.append(front)
        bare = path.rstrip("/")
        self._exchanges[bare] = self._exchanges[bare + "/"] = (front, options)
        # Fine enough for the shortest deadline: an eighth of it.
        shortest_s = min(options.ping_interval_ms, options.ping_timeout_ms) / 8000
        granularity_s = max(min(self.wheel.granularity_s, shortest_s), _GRANULARITY_MIN_S)
        if granularity_s < self.wheel.granularity_s:
            self.wheel.refine(granularity_s)

    def mount_wsgi(self, app: runtime.WsgiApp) -> None:
        """Everything else goes to `app`."""
        self._wsgi = Wsgi(app, limits=self.limits, metrics=self.metrics, log=self.log)

    def relay_by(
        self, nodes: NodeDirectory, keys: Sequence[bytes], *, look: Callable[[], object], unix_s: Callable[[], float]
    ) -> Relay:
        """Relay requests to and from other nodes. Before `start`."""
        self.relay = self._shared.relay = Relay(self._shared, nodes, keys, look=look, unix_s=unix_s)
        return self.relay

    def listen(self, host: str, port: int, *, shares_port: bool = False) -> int:
        """Listen on `host` and `port` (0: any free one); the port. May be called several times.

        `shares_port`: other processes of this user may listen there as well, and the kernel spreads clients.

        Raises:
            OSError: the address is taken or not ours.
        """
        listener = Listener(self, bound(host, port, self.limits.backlog, shares_port=shares_port))
        self.local = listener.address
        self._add(listener)
        return listener.address[1]

    def listen_unix(self, path: str) -> None:
        """Listen on a unix socket, for this user's own processes."""
        self._add(Listener(self, bound_unix(path, self.limits.backlog)))

    def _add(self, listener: Listener) -> None:
        self._listeners.append(listener)
        self.pump.listen(listener.socket.fileno(), listener)

    def start(self) -> None:
        """Begin to serve; returns at once."""
        self.wheel.start()
        self.pump.start()

    # --- looking ---

    def counts(self) -> dict[Kind, int]:
        """Live connections by kind."""
        return dict(self._shared.kinds)

    def connections(self) -> Iterator[Connection]:
        """The live connections, as they are now."""
        for front in self._fronts:
            yield from list(front.mount.sessions.values())

    def connection(self, sid: str) -> Connection | None:
        """The live connection with this id."""
        for front in self._fronts:
            if (found := front.mount.sessions.get(sid)) is not None:
                return found
        return None

    def pump_alive(self) -> bool:
        """Whether the pump is called: for readiness."""
        return self.pump.alive()

    @property
    def open_sockets(self) -> int:
        """Client descriptors, of all connections and of HTTP."""
        return len(self.pump)

    # --- ending ---

    def stop_accepting(self) -> None:
        """No new socket, and no new session on those that are open. Idempotent.

        What the kernel has already accepted is taken first: closing would reset it.
        """
        for front in self._fronts:
            front.draining = True
        for listener in self._listeners:
            listener.accept()
            listener.close()
        self._listeners.clear()

    def drain(self, over_s: float, close: Callable[[Connection], object]) -> None:
        """Call `close` for every connection, in batches spread evenly over `over_s`; returns when that is done.

        For a greenlet: it sleeps between the batches. Waiting polls are answered.
        """
        leaving = list(self.connections())
        steps = max(1, int(over_s / _DRAIN_STEP_S))
        size = -(-len(leaving) // steps)
        for start in range(0, len(leaving), size or 1):
            for connection in leaving[start : start + size]:
                close(connection)
            runtime.sleep(min(_DRAIN_STEP_S, over_s))
        for connection in self.connections():
            close(connection)

    def settled(self) -> bool:
        """Whether all answers have gone out: nothing lingers, and no request is in the WSGI application."""
        return not self.pump.lingering() and (self._wsgi is None or not self._wsgi.running)

    def stop(self) -> None:
        """Close everything at once."""
        self.stop_accepting()
        for connection in self.connections():
            connection.close("draining")
        self.pump.stop()
        self.wheel.stop()

    # --- what the pump and the links call ---

    def accepted(self, fd: int, address: tuple[str, int]) -> None:
        """A new client socket."""
        self.metrics.accepted += 1
        over = len(self.pump) - self.limits.max_connections
        if self.relay is not None:
            over -= self.relay.sockets
        if over >= 0:
            self.metrics.refused_full += 1
            if over >= _REFUSED_MAX:
                _os.close(fd)
                return
        self.pump.add(fd, Link(self, fd, address, refused=over >= 0))

    def route(self, link: Link, head: http.Head) -> Exchange | None:
        """Who answers this request; None when it was answered here."""
        link.extra = b"" if head.keep_alive else http.CLOSE
        if not self._identify(link, head):
            link.refuse(protocol.UNKNOWN_SESSION.status, protocol.UNKNOWN_SESSION.body(), close=True)
            return None
        # A node that is full still answers the sessions that it has.
        if link.refused and not link.relayed:
            link.refuse(503, coded("full"), close=True)
            return None
        found = self._exchanges.get(head.path)
        if found is not None:
            return self._check_origin(link, head, *found)
        if self._wsgi is None:
            link.refuse(404, coded("not_found"))
        return self._wsgi

    def _check_origin(self, link: Link, head: http.Head, exchange: Exchange, options: EngineOptions) -> Exchange | None:
        origin = head.headers.get("origin")
        if not options.origins.allows(origin, link.host, link.secure):
            self.metrics.bad_origins += 1
            link.refuse(403, protocol.FORBIDDEN.body(), close=True)
            return None
        if origin is not None:
            link.extra += http.cors_lines(origin)
        if head.method != "OPTIONS":
            return exchange
        if head.has_body:
            link.refuse(400, protocol.BAD_REQUEST.body())
        else:
            lines = http.preflight_lines(head.headers.get("access-control-request-headers"))
            link.answer(http.response(204, b"", extra=link.extra + lines))
        return None

    def _identify(self, link: Link, head: http.Head) -> bool:
        """Set what the link knows of its client; False: it claims to be another node and is none."""
        link.relayed = False
        if self.relay is None or STAMP_HEADER not in head.headers:
            link.host = self._believe(link, head)
            return True
        stamp = self.relay.read(head)
        if stamp is None:
            return False
        link.relayed, link.remote, link.secure, link.host = True, stamp.remote, stamp.secure, stamp.host
        return True

    def _believe(self, link: Link, head: http.Head) -> str:
        """Set the link's remote address and scheme; the host that the request came to."""
        headers = head.headers
        host = headers.get("host", "")
        peer = link.address[0]
        link.remote, link.secure = peer, False
        if not self.limits.trusted_proxies or not self.trusts(peer):
            return host
        # From the right: each proxy appends whom it saw; the first that we do not trust is the client.
        for hop in reversed([part.strip() for part in headers.get("x-forwarded-for", "").split(",")]):
            if not hop:
                break
            link.remote = hop[:64]
            if not self.trusts(hop):
                break
        link.secure = headers.get("x-forwarded-proto", "").lower() == "https"
        return headers.get("x-forwarded-host", host)

    def _is_trusted(self, address: str) -> bool:
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self.limits.trusted_proxies)

    def _pump_failed(self, error: BaseException) -> None:
        self.metrics.pump_errors += 1
        self.log.error("the engine failed; the connection is closed", exc_info=error)

    def _wheel_failed(self, entry: Timed, error: BaseException) -> None:
        self._pump_failed(error)
        abort = getattr(entry, "abort", None)
        if abort is not None:
            abort()

    def _cut_off(self) -> None:
        self.metrics.closes_cut += 1

    def _mended(self) -> None:
        self.metrics.pump_mended += 1
        self.log.error("the pump was not called any more; it is registered again")
