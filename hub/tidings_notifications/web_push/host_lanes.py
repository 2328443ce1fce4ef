"""Which pushes start now: each push service has its own queue and its own share of the connections."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# Lanes without pushes are remembered for their limit, up to so many.
_LANES_MAX: Final = 1_000
# A host whose share has fallen to this part does not respond. Three failures in turn are enough.
_AWAY_PART: Final = 8


@dataclass(slots=True)
class _Lane(Generic[T]):
    limit: int
    in_flight: int = 0
    # Each with the time at which it was added.
    waiting: deque[tuple[float, T]] = field(default_factory=deque)


class HostLanes(Generic[T]):
    """Queues of one thread. `total`: pushes at a time; `per_host`: of these, to one push service.

    A push starts only while its host has fewer in flight than there are free connections. So a host never gets the
    last ones, and a host that hangs cannot keep others from starting. A host that fails gets fewer, down to one.
    """

    def __init__(self, *, total: int, per_host: int) -> None:
        self._total = total
        self._per_host = per_host
        self._in_flight = 0
        self._lanes: OrderedDict[str, _Lane[T]] = OrderedDict()
        self._ready: deque[str] = deque()

    @property
    def in_flight(self) -> int:
        """Pushes in flight."""
        return self._in_flight

    def add(self, host: str, push: T, at_s: float) -> None:
        """Let a push wait for its turn."""
        lane = self._lanes.get(host)
        if lane is None:
            lane = self._lanes[host] = _Lane(self._per_host)
            self._forget_idle()
        if not lane.waiting:
            self._ready.append(host)
        lane.waiting.append((at_s, push))

    def start(self) -> list[tuple[str, T]]:
        """The pushes that start now, one of each host in turn."""
        started: list[tuple[str, T]] = []
        blocked = 0
        while blocked < len(self._ready):
            host = self._ready.popleft()
            lane = self._lanes[host]
            if lane.in_flight >= min(lane.limit, max(1, self._total - self._in_flight)) or self._is_full():
                self._ready.append(host)
                blocked += 1
                continue
            blocked = 0
            started.append((host, lane.waiting.popleft()[1]))
            lane.in_flight += 1
            self._in_flight += 1
            if lane.waiting:
                self._ready.append(host)
        return started

    def finish(self, host: str, *, is_healthy: bool) -> list[T]:
        """A push has ended. If its host did not respond, those that wait for it are returned, to be sent later."""
        lane = self._lanes[host]
        lane.in_flight -= 1
        self._in_flight -= 1
        if is_healthy:
            lane.limit = min(self._per_host, lane.limit + 1)
            return []
        lane.limit = max(1, lane.limit // 2)
        if lane.limit > max(1, self._per_host // _AWAY_PART):
            return []
        return self._take(host, len(lane.waiting))

    def overdue(self, before_s: float) -> list[T]:
        """Take those out that wait since a time before `before_s`."""
        taken: list[T] = []
        for host in list(self._ready):
            waiting = self._lanes[host].waiting
            taken += self._take(host, sum(at_s < before_s for at_s, _ in waiting))
        return taken

    def _take(self, host: str, count: int) -> list[T]:
        waiting = self._lanes[host].waiting
        if count and count == len(waiting):
            self._ready.remove(host)
        return [waiting.popleft()[1] for _ in range(count)]

    def _is_full(self) -> bool:
        return self._in_flight >= self._total

    def _forget_idle(self) -> None:
        if len(self._lanes) > _LANES_MAX:
            for host, lane in list(self._lanes.items())[:-1]:
                if not lane.in_flight and not lane.waiting:
                    del self._lanes[host]
