"""Which cursors this node believed lately, so that it knows whom a later doubt concerns."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

REMEMBERED_MAX = 10_000
# Far longer than a node takes to find out that it lost something, unless it stood still.
KEEP_S = 600.0


class RecentRecoveries:
    """The last recoveries that were told complete: when, with which seq, and the channels.

    Bounded: when it is full of recent ones, others may have been forgotten, and every doubt concerns somebody.
    """

    def __init__(self, *, remembered_max: int = REMEMBERED_MAX, keep_s: float = KEEP_S) -> None:
        self._keep_s = keep_s
        self._kept: deque[tuple[float, int, tuple[str, ...]]] = deque(maxlen=remembered_max)

    def add(self, seq: int, channels: Collection[str], now_s: float) -> None:
        """Somebody returned with a cursor at `seq`, and was told that nothing is missing in these channels."""
        self._kept.append((now_s, seq, tuple(channels)))

    def may_include(self, channels: Collection[str], first: int, until: int, now_s: float) -> bool:
        """Whether anybody may have returned to one of the channels with a cursor from `first` to `until`."""
        while self._kept and self._kept[0][0] < now_s - self._keep_s:
            self._kept.popleft()
        if len(self._kept) == self._kept.maxlen:
            return True
        wanted = set(channels)
        return any(first <= seq <= until and not wanted.isdisjoint(names) for _, seq, names in self._kept)
