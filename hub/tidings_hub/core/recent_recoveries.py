"""The recoveries that this node recently answered as complete, in case a cursor turns out to be doubtful later."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

RECOVERIES_MAX = 10_000
# Far longer than a node needs to find out that it lost something, unless the process was suspended.
KEEP_S = 600.0


class RecentRecoveries:
    """The last complete recoveries: when, from which seq, and in which channels.

    Bounded: while all entries are recent, older ones may have been dropped. Then every range may be affected.
    """

    def __init__(self, *, recoveries_max: int = RECOVERIES_MAX, keep_s: float = KEEP_S) -> None:
        self._keep_s = keep_s
        self._recoveries: deque[tuple[float, int, tuple[str, ...]]] = deque(maxlen=recoveries_max)

    def add(self, seq: int, channels: Collection[str], now_s: float) -> None:
        """Remember that a client recovered these channels completely with a cursor at `seq`."""
        self._recoveries.append((now_s, seq, tuple(channels)))

    def may_include(self, channels: Collection[str], first: int, last: int, now_s: float) -> bool:
        """Whether a client may have recovered one of the channels with a cursor from `first` to `last`."""
        while self._recoveries and self._recoveries[0][0] < now_s - self._keep_s:
            self._recoveries.popleft()
        if len(self._recoveries) == self._recoveries.maxlen:
            return True
        affected = set(channels)
        return any(first <= seq <= last and not affected.isdisjoint(names) for _, seq, names in self._recoveries)
