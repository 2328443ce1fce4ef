"""Room for clients: how many sessions and sockets a node holds, and which sockets it closes for new ones.

Sessions are limited by `max_connections`. Sockets may be `reserved_connections` more, so a node that is full of
sessions still answers probes, metrics, backends and the requests of its own sessions. If these sockets are used up, the
node closes those that have waited longest for their clients: closed connections that linger, connections without a
complete request, and idle keep-alive connections. So sockets that never send a request cannot use up the reserve.
Sockets that serve requests are not closed for others. So there are only so many of them that some room is left.

If the process may open no more descriptors, the sockets that it has are the limit, until some are free again. The
sessions may then have more polls than there is room for. So polls are closed as well, if there is nothing else to
close.
"""

from __future__ import annotations

import logging
from heapq import nsmallest
from typing import TYPE_CHECKING, Protocol, cast

from tidings_hub import runtime
from tidings_hub.engine.capacity.spare_descriptors import SPARES, SpareDescriptors
from tidings_hub.engine.capacity.waiting_tiers import LAST_TIER, POLL_TIER
from tidings_hub.log import log_rate_limited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tidings_hub.engine.limits import EngineLimits, EngineMetrics

# A search visits every socket, so it closes this share of the reserve at once.
_SHED_SHARE = 16
# Seconds between two attempts to open the spare descriptors again.
_RESTORE_S = 1.0


class ClientSockets(Protocol):
    """The pump, as far as its sockets count."""

    def __len__(self) -> int:
        """Number of open client sockets."""

    def endpoints(self) -> Iterable[tuple[int, object]]:
        """All descriptors with their owners."""

    def call_safely(self, function: Callable[..., object], *args: object) -> None:
        """Call `function`. An exception is reported and does not propagate."""


class RelaySockets(Protocol):
    """The relay, as far as its sockets count."""

    sockets: int

    def __len__(self) -> int:
        """Number of requests and WebSockets that are being forwarded."""


class WsgiRequests(Protocol):
    """The requests of the WSGI application."""

    @property
    def served(self) -> int:
        """Number of requests without a response, except probes."""


class WaitingSocket(Protocol):
    """The owner of a socket that may wait for its client."""

    def waiting_rank(self, now_s: float) -> tuple[int, float] | None:
        """The order in which waiting sockets are closed, smallest first. None: it does not wait for its client."""

    def abort(self) -> None:
        """Close the socket."""


class SocketRoom:
    """Counts the sessions and sockets of one node, and decides which have room."""

    def __init__(self, pump: ClientSockets, limits: EngineLimits, metrics: EngineMetrics, log: logging.Logger) -> None:
        self._pump = pump
        self._limits = limits
        self._metrics = metrics
        self._log = log
        # Open sessions and event streams of all mounts.
        self.sessions = 0
        # Its sockets lead to other nodes, and have their own limit.
        self.relay: RelaySockets | None = None
        self.wsgi: WsgiRequests | None = None
        self._sockets_max = limits.max_connections + limits.reserved_connections
        self._spares = SpareDescriptors()
        self._restore: runtime.Timer | None = None

    @property
    def sockets(self) -> int:
        """Number of open client sockets."""
        return len(self._pump) - (0 if self.relay is None else self.relay.sockets)

    @property
    def is_exhausted(self) -> bool:
        """Whether the process can open no more descriptors."""
        return self._restore is not None

    @property
    def _reserve(self) -> int:
        return SPARES // 2 if self.is_exhausted else self._limits.reserved_connections

    def _leaves_room(self, share: int) -> bool:
        """Whether one more socket that serves a request leaves the `share`-th part of the reserve.

        Such a socket is never closed for another. All others are, so they do not count here.
        """
        requests = self._requests
        # A session has at most one such socket. A polling session has none between two polls, so this may be too many.
        return requests < self._reserve // 4 or self.sessions + requests < self._sockets_max - self._reserve // share

    @property
    def _requests(self) -> int:
        """Number of relayed requests, and of requests that the WSGI application serves."""
        return (0 if self.relay is None else len(self.relay)) + (0 if self.wsgi is None else self.wsgi.served)

    def has_session_room(self) -> bool:
        """Whether the node may open another session."""
        return self.sessions < self._limits.max_connections and not self.is_exhausted and self._leaves_room(2)

    def has_relay_room(self) -> bool:
        """Whether a request may wait for another node. Half of the reserve is never used for such requests.

        Each opens a second descriptor. If there are none, few requests may take of what is left for the node's files.
        """
        return self._requests < self._reserve // 4 if self.is_exhausted else self._leaves_room(2)

    def has_page_room(self) -> bool:
        """Whether a page may be served. Half of the reserve is left for backends and probes."""
        return self._leaves_room(2)

    def has_backend_room(self) -> bool:
        """Whether a request of a backend may be served. A quarter of the reserve is left for probes."""
        return self._leaves_room(4)

    def has_room(self) -> bool:
        """Whether a new client socket has room."""
        return self.sockets < self._sockets_max

    def on_no_descriptors(self) -> bool:
        """Make room, because the process could not open a descriptor. Return whether it is worth another attempt."""
        log_rate_limited(
            self._log,
            logging.WARNING,
            "no descriptors",
            "no free file descriptor with %d client sockets: new sessions are refused; raise the limit of open files",
            self.sockets,
        )
        if not self._spares.release():
            return self.make_room()
        self._sockets_max = min(self._sockets_max, self.sockets + SPARES // 2)
        self._restore = runtime.call_later(_RESTORE_S, self._try_to_restore)
        return True

    def start(self) -> None:
        """Open the spare descriptors."""
        self._spares.restore()

    def close(self) -> None:
        """Close the spare descriptors."""
        if self._restore is not None:
            self._restore.cancel()
        self._spares.release()

    def _try_to_restore(self) -> None:
        if self._spares.restore():
            self._restore = None
            self._sockets_max = self._limits.max_connections + self._limits.reserved_connections
        else:
            self._restore = runtime.call_later(_RESTORE_S, self._try_to_restore)

    def make_room(self) -> bool:
        """Close the sockets that have waited longest for their clients. Return whether there were any."""
        # More sessions may have polls than the process has descriptors left. Those that are closed reconnect later.
        now_s, tier_max = runtime.now_s(), POLL_TIER if self.is_exhausted else LAST_TIER
        waiting: list[tuple[tuple[int, float], int, WaitingSocket]] = []
        for fd, endpoint in self._pump.endpoints():
            # Sessions have no such method. `isinstance` of a protocol would take ten times as long.
            rank_of = getattr(endpoint, "waiting_rank", None)
            rank = None if rank_of is None else rank_of(now_s)
            if rank is not None and rank[0] <= tier_max:
                waiting.append((rank, fd, cast("WaitingSocket", endpoint)))
        for _, _, shed in nsmallest(max(1, self._reserve // _SHED_SHARE), waiting):
            self._metrics.sockets_shed += 1
            self._pump.call_safely(shed.abort)
        return bool(waiting)
