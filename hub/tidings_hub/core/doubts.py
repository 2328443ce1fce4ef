"""Cursors that cannot be trusted, because this node missed a publication for a while (docs/architecture.md#why-doubt).

A cursor states "I have everything up to here" for all channels of a client at once. A node may lose a publication and
find that out only later. The cursors that it sent in between are too far ahead. A client that resumes with one of them
receives `recovered: false` for that channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidings_hub.core.seq_ranges import SeqRange, covers, with_range

# In place of a channel: all channels.
EVERYWHERE: Final = "*"
# Ranges of one channel. Clients rarely return with an old cursor, so beyond it the two oldest ranges become one.
RANGES_MAX: Final = 8


class Doubts:
    """Per channel, the ranges of seq in which a cursor is doubted.

    The store is bounded by widening, never by forgetting. A channel's two oldest ranges merge into one. Beyond
    `channels_max` channels, the ranges of the oldest channel count for every channel.
    """

    def __init__(self, *, channels_max: int = 10_000) -> None:
        self._channels_max = channels_max
        self._ranges: dict[str, list[SeqRange]] = {}
        self._everywhere: list[SeqRange] = []

    def __len__(self) -> int:
        return len(self._ranges)

    def add(self, channel: str, first: int, last: int) -> bool:
        """Doubt the cursors from `first` to `last`, both included.

        Returns whether doubt had to widen to all channels for it.
        """
        if last < first:
            return False
        self._ranges[channel] = _widened(self._ranges.pop(channel, []), first, last)
        if len(self._ranges) <= self._channels_max:
            return False
        oldest_channel = next(iter(self._ranges))
        for old in self._ranges.pop(oldest_channel):
            self._everywhere = _widened(self._everywhere, *old)
        return True

    def covers(self, channel: str, seq: int) -> bool:
        """Whether a cursor at `seq` is doubted for this channel."""
        return covers(self._everywhere, seq) or covers(self._ranges.get(channel, ()), seq)

    def clear(self) -> None:
        """Forget everything, at the start of a new epoch: cursors of an older epoch are never trusted."""
        self._ranges.clear()
        self._everywhere = []


def _widened(ranges: Sequence[SeqRange], first: int, last: int) -> list[SeqRange]:
    """The ranges and this one. The two oldest become one if there are too many."""
    widened = with_range(ranges, first, last)
    if len(widened) > RANGES_MAX:
        widened[:2] = [(widened[0][0], widened[1][1])]
    return widened
