"""Cursors that cannot be trusted, because this node lost a publication for a while.

A cursor says "I have everything up to here" of all channels of a client at once. Between the moment when
a publication was lost and the moment when that was found and repaired, this node gave out cursors that
say too much. Whoever returns with one of them must be told `recovered: false` for that channel.
"""

from __future__ import annotations

_RANGES_MAX = 8


class Doubts:
    """Per channel, ranges of seq in which a cursor is doubted.

    Bounded by widening, never by forgetting: a channel's oldest ranges merge into one, and beyond
    `channels_max` channels the oldest channel's range counts for every channel.
    """

    def __init__(self, *, channels_max: int = 10_000) -> None:
        self._channels_max = channels_max
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        self._everywhere: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._ranges)

    def add(self, channel: str, first: int, last: int) -> bool:
        """Doubt the cursors from `first` to `until`, both included: they may lack what was lost.

        Returns whether doubt had to widen to all channels for it.
        """
        if last < first:
            return False
        ranges = self._ranges.pop(channel, [])
        ranges.append((first, last))
        if len(ranges) > _RANGES_MAX:
            ranges[:2] = [_spanning(ranges[0], ranges[1])]
        self._ranges[channel] = ranges
        if len(self._ranges) <= self._channels_max:
            return False
        for old in self._ranges.pop(next(iter(self._ranges))):
            self._everywhere = old if self._everywhere is None else _spanning(self._everywhere, old)
        return True

    def covers(self, channel: str, seq: int) -> bool:
        """Whether a cursor at `seq` is doubted for this channel."""
        if self._everywhere is not None and self._everywhere[0] <= seq <= self._everywhere[1]:
            return True
        return any(first <= seq <= until for first, until in self._ranges.get(channel, ()))

    def clear(self) -> None:
        """A new epoch: no older cursor is trusted anyway."""
        self._ranges.clear()
        self._everywhere = None


def _spanning(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return min(one[0], other[0]), max(one[1], other[1])
