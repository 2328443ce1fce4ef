"""Which of the doubts in the broker a node has processed: it has notified the clients that had resumed with them."""

from __future__ import annotations

from collections.abc import Sequence

from tidings_hub.core.doubts import EVERYWHERE, RANGES_MAX
from tidings_hub.core.seq_ranges import SeqRange, covers, with_range, without_ranges

# A channel (`*`: all channels), and the first and the last seq of doubted cursors. A channel may have several.
Range = tuple[str, int, int]


class ProcessedDoubts:
    """The ranges that this node has processed, and the serial number up to which it has processed all doubts.

    The store is bounded by forgetting: a range that is not known here is processed again, so a client may receive a
    second gap. No doubt is ever taken for processed without being so.
    """

    def __init__(self, *, channels_max: int) -> None:
        self.serial = 0
        self._channels_max = channels_max
        self._ranges: dict[str, list[SeqRange]] = {}

    def clear(self) -> None:
        """Forget everything, at the start of a new epoch."""
        self.serial = 0
        self._ranges.clear()

    def receive(self, serial: int, ranges: Sequence[Range]) -> list[Range]:
        """Process the doubts of a message. Returns what of them this node has not processed before."""
        is_complete = serial <= self.serial + 1
        if is_complete:
            self.serial = max(serial, self.serial)
        else:
            # A message before it is missing. The range for all channels may contain what that one doubted.
            self._ranges.pop(EVERYWHERE, None)
        unprocessed = [part for name, first, last in ranges for part in self._unprocessed(name, first, last)]
        for name, first, last in ranges:
            if is_complete or name != EVERYWHERE:
                self._ranges[name] = with_range(self._ranges.get(name, ()), first, last)[-RANGES_MAX:]
        if len(self._ranges) > self._channels_max:
            newest = max(known[-1][1] for known in self._ranges.values())
            # The broker has as many channels, and may have merged them into one range for all.
            self._ranges = {EVERYWHERE: [(0, newest)]} if is_complete else {}
        return unprocessed

    def read(self, serial: int, ranges: Sequence[Range]) -> list[Range]:
        """Process all doubts of the broker, after a message was lost. Returns as `receive`."""
        unprocessed: list[Range] = []
        for name, first, last in ranges:
            parts = self._unprocessed(name, first, last)
            # What a range for all channels has absorbed is unknown, so it is processed as a whole if it has grown.
            unprocessed += [(name, first, last)] if parts and name == EVERYWHERE else parts
        self.serial = serial
        # Channels that the broker merged into one range are not listed any more.
        self._ranges = {}
        for name, first, last in ranges:
            self._ranges[name] = with_range(self._ranges.get(name, ()), first, last)
        return unprocessed

    def covers(self, name: str, seq: int) -> bool:
        """Whether a cursor at `seq` is known to be processed for this channel."""
        return covers(self._ranges.get(name, ()), seq)

    def _unprocessed(self, name: str, first: int, last: int) -> list[Range]:
        return [(name, *part) for part in without_ranges(first, last, self._ranges.get(name, ()))]
