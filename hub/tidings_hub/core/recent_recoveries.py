"""The recoveries that this node recently answered as complete, in case a cursor turns out to be doubtful later."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection

RECOVERIES_MAX = 10_000
# A client may name many channels in each recovery. So many take 8 MB.
CHANNELS_MAX = 1_000_000
# Far longer than a node needs to find out that it lost something, unless the process was suspended.
KEEP_S = 600.0


class RecentRecoveries:
    """The last complete recoveries: when, from which seq, and in which channels.

    Sorted by seq: after a broken link there are many thousands of ranges, and few recoveries had a cursor in them.

    Bounded by the recoveries and by the channels in all of them. Until the last one that was dropped for that would be
    old, every range may be affected. A hash stands for a channel: names that clients chose would take 30 times as much.
    Two channels with one hash cost an unnecessary gap.
    """

    def __init__(
        self, *, recoveries_max: int = RECOVERIES_MAX, channels_max: int = CHANNELS_MAX, keep_s: float = KEEP_S
    ) -> None:
        self._recoveries_max = recoveries_max
        self._channels_max = channels_max
        self._keep_s = keep_s
        # When, and the entry of `_by_seq`.
        self._recoveries: deque[tuple[float, tuple[int, int, array[int]]]] = deque()
        # A number of its own makes each entry unique, so that hashes are never compared.
        self._by_seq: list[tuple[int, int, array[int]]] = []
        self._number = 0
        self._channels = 0
        self._dropped_s = float("-inf")

    def add(self, seq: int, channels: Collection[str], now_s: float) -> None:
        """Remember that a client recovered these channels completely with a cursor at `seq`."""
        self._number += 1
        entry = seq, self._number, array("q", map(hash, channels))
        self._recoveries.append((now_s, entry))
        insort(self._by_seq, entry)
        self._channels += len(channels)
        while len(self._recoveries) > self._recoveries_max or self._channels > self._channels_max:
            self._dropped_s = self._recoveries[0][0]
            self._remove_first()

    def may_include(self, channels: Collection[str], first: int, last: int, now_s: float) -> bool:
        """Whether a client may have recovered one of the channels with a cursor from `first` to `last`."""
        old_s = now_s - self._keep_s
        while self._recoveries and self._recoveries[0][0] < old_s:
            self._remove_first()
        if self._dropped_s >= old_s:
            return True
        start, end = bisect_left(self._by_seq, (first,)), bisect_left(self._by_seq, (last + 1,))
        affected = set(map(hash, channels if start < end else ()))
        return any(not affected.isdisjoint(hashes) for _, _, hashes in self._by_seq[start:end])

    def _remove_first(self) -> None:
        _, entry = self._recoveries.popleft()
        del self._by_seq[bisect_left(self._by_seq, entry)]
        self._channels -= len(entry[2])
