"""Shares the doubted cursors between all nodes (PROTOCOL.md section 1, docs/architecture.md#why-doubt).

A node may find that it lost a publication on an unbroken link. The cursors that it sent between the loss and the
discovery are too far ahead. It stores their range in the broker, and each `read_since` of each node reads that range
in the same atomic step.

Clients may have resumed with such a cursor before the discovery. So each node compares the serial number of the doubts
with every lookup, at least once a second, and sends `tidings:gap` to those clients.

One case remains open (see PROTOCOL.md): a node dies, or never reaches the broker again, between the loss and its next
position check.
"""

from __future__ import annotations

import logging
import time

from tidings.errors import Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import pack
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits, Sink
from tidings_hub.brokers.lookup_script import Range, doubt_script, pack_doubts, read_doubts
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.core.doubts import Doubts
from tidings_hub.core.positions import Positions
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

EVERYWHERE = "*"
_CHUNK = 500
# Reading the ranges of 10,000 channels takes 20 ms. While many are stored one after another, they are read this often.
_READ_EVERY_S = 0.25
# Channels whose doubt is passed on before other greenlets run.
_NOTIFY_CHUNK = 10_000


class DoubtSync:
    """This node's doubts and those of other nodes that it knows. Only the reader calls it, except for `covers`."""

    def __init__(
        self, keys: RedisKeys, commands: RedisCommands, sink: Sink, limits: BrokerLimits, metrics: Metrics
    ) -> None:
        self._keys = keys
        self._commands = commands
        self._sink = sink
        self._limits = limits
        self._metrics = metrics
        self._own = Doubts(channels_max=limits.doubts_max)
        # One range per channel, as in the broker, so it does not grow while the broker is unreachable.
        self._unstored: dict[str, tuple[int, int]] = {}
        self._epoch = ""
        self._serial: int | None = None
        self._read_at_s = -_READ_EVERY_S
        self._seen_ranges: dict[str, tuple[int, int]] = {}

    def begin_epoch(self, epoch: str) -> None:
        """Forget all doubts at the start of a new epoch: cursors of an older epoch are never trusted."""
        self._epoch = epoch
        self._own.clear()
        self._unstored.clear()
        self._seen_ranges.clear()
        self._serial = None

    def add(self, channel: str, first: int, last: int, *, store: bool = False) -> None:
        """Doubt the cursors from `first` to `last`, both included. `store`: send them to the broker now."""
        if first <= last:
            self._metrics.doubts_widened += self._own.add(channel, first, last)
            previous = self._unstored.get(channel, (first, last))
            self._unstored[channel] = (min(first, previous[0]), max(last, previous[1]))
        if store:
            self.store()

    def covers(self, channel: str, seq: int) -> bool:
        """Whether this node doubts a cursor at `seq` for this channel."""
        return self._own.covers(channel, seq)

    def store(self) -> None:
        """Send the doubts that the broker lacks. If that fails, this node keeps them and retries with the next ones."""
        if not self._unstored:
            return
        ranges = [(name, first, last) for name, (first, last) in self._unstored.items()]
        try:
            self._send(ranges, news=True)
        except Unavailable as error:
            logger.warning("doubted cursors could not be stored yet: %s", error)
            return
        self._metrics.doubts += len(ranges)
        self._unstored.clear()

    def sync(self, serial: int, positions: Positions) -> None:
        """Notify the sink of doubts that this node has not seen, if a lookup returned another serial number of them."""
        position = positions.cursor
        if position is None:
            return
        try:
            news = self._news(serial)
            affecting = [doubt for doubt in news if self._notify(doubt, positions, position)]
            self._widen(affecting, position.seq)
        except Unavailable as error:
            logger.warning("doubted cursors could not be read; retrying with the next lookup: %s", error)

    def _notify(self, news: Range, positions: Positions, position: Cursor) -> bool:
        """Notify the sink of a doubted range. Returns whether a client of this node had resumed with such a cursor."""
        name, first, last = news
        channels = positions.channels() if name == EVERYWHERE else [name]
        is_affected = False
        for start in range(0, len(channels), _NOTIFY_CHUNK):
            try:
                part = channels[start : start + _NOTIFY_CHUNK]
                is_affected = self._sink.on_doubt(part, first, last, position) or is_affected
            except Exception:
                logger.exception("unexpected error in the sink while handling doubted cursors")
                is_affected = True
            if start + _NOTIFY_CHUNK < len(channels):
                time.sleep(0)
        return is_affected

    def _news(self, serial: int) -> list[Range]:
        if serial == self._serial or (self._serial is None and serial == 0):
            return []
        now_s = time.monotonic()
        if now_s - self._read_at_s < _READ_EVERY_S:
            # The serial number stays unknown, so a later lookup reads them; there is one in every second.
            return []
        self._read_at_s = now_s
        reply = self._commands.run(pack(b"HGETALL", self._keys.doubts))[0]
        if isinstance(reply, Exception):
            raise Unavailable(f"Redis rejected reading doubted cursors: {str(reply)[:200]}")
        epoch, new_serial, ranges = read_doubts(reply)
        if epoch != self._epoch:
            return []
        fresh = [part for name, first, last in ranges for part in self._unseen(name, first, last)]
        self._seen_ranges = {name: (first, last) for name, first, last in ranges}
        self._serial = new_serial
        return fresh

    def _unseen(self, name: str, first: int, last: int) -> list[Range]:
        previous = self._seen_ranges.get(name)
        if previous is None:
            return [(name, first, last)]
        parts = [(name, first, previous[0] - 1), (name, previous[1] + 1, last)]
        return [part for part in parts if part[1] <= part[2]]

    def _widen(self, ranges: list[Range], seq: int) -> None:
        """Extend these doubts to `seq`: clients that resumed with such a cursor have received newer ones since.

        The extension is not announced as news. So a client that changes nodes twice within one second is missed.
        """
        wider = [
            (name, first, seq)
            for name, first, last in ranges
            if name != EVERYWHERE and last < seq and not self._own.covers(name, last)
        ]
        if wider:
            self._send(wider, news=False)
            self._seen_ranges |= {name: (first, last) for name, first, last in wider}

    def _send(self, ranges: list[Range], *, news: bool) -> None:
        for start in range(0, len(ranges), _CHUNK):
            packed = pack_doubts(self._keys, self._epoch, ranges[start : start + _CHUNK], self._limits, news=news)
            reply = self._commands.run(packed, 1, (doubt_script(),))[0]
            if isinstance(reply, Exception):
                raise Unavailable(f"Redis rejected storing doubted cursors: {str(reply)[:200]}")
