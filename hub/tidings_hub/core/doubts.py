"""Cursors that cannot be trusted, because this node missed a publication for a while (docs/architecture.md#why-doubt).

A cursor states "I have everything up to here" for all channels of a client at once. A node may lose a publication and
find that out only later. The cursors that it sent in between are too far ahead. A client that resumes with one of them
receives `recovered: false` for that channel.
"""

from __future__ import annotations

_RANGES_MAX = 8


class Doubts:
    """Per channel, the ranges of seq in which a cursor is doubted.

    The store is bounded by widening, never by forgetting. A channel's two oldest ranges merge into one. Beyond
    `channels_max` channels, the range of the oldest channel counts for every channel.
    """

    def __init__(self, *, channels_max: int = 10_000) -> None:
        self._channels_max = channels_max
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        self._everywhere: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._ranges)

    def add(self, channel: str, first: int, last: int) -> bool:
        """Doubt the cursors from `first` to `last`, both included.

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
        oldest_channel = next(iter(self._ranges))
        for old in self._ranges.pop(oldest_channel):
            self._everywhere = old if self._everywhere is None else _spanning(self._everywhere, old)
        return True

    def covers(self, channel: str, seq: int) -> bool:
        """Whether a cursor at `seq` is doubted for this channel."""
        if self._everywhere is not None and self._everywhere[0] <= seq <= self._everywhere[1]:
            return True
        return any(first <= seq <= last for first, last in self._ranges.get(channel, ()))

    def clear(self) -> None:
        """Forget everything, at the start of a new epoch: cursors of an older epoch are never trusted."""
        self._ranges.clear()
        self._everywhere = None


def _spanning(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    return min(left[0], right[0]), max(left[1], right[1])
