"""Which cursors may be believed, agreed over all nodes (PROTOCOL.md section 1).

A node that finds that it lost a publication on an unbroken link knows which cursors say too much: those that it
gave out between the loss and the discovery. It stores that range in the broker, and every `since` of every
node reads it in the same atomic step. What was answered before the discovery is put right by news: each
node looks at the serial number of the doubts with every look, at least once a second, and tells a gap to
those of its clients that had returned with such a cursor.

What is left open, and is said in PROTOCOL.md: a node that dies, or never reaches the broker again, between the
loss and its next position check takes the knowledge with it.
"""

from __future__ import annotations

import logging

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


class DoubtSync:
    """This node's doubts, and what it has heard of the others'. Only the reader calls it, but for `holds`."""

    def __init__(
        self, keys: RedisKeys, commands: RedisCommands, sink: Sink, limits: BrokerLimits, metrics: Metrics
    ) -> None:
        self._keys = keys
        self._commands = commands
        self._sink = sink
        self._limits = limits
        self._metrics = metrics
        self._own = Doubts(channels_max=limits.doubts_max)
        # One range per channel, as in the broker: it does not grow while the broker is away.
        self._unstored: dict[str, tuple[int, int]] = {}
        self._epoch = ""
        self._serial: int | None = None
        self._heard: dict[str, tuple[int, int]] = {}

    def begin_epoch(self, epoch: str) -> None:
        """Another sequence: no older cursor is trusted anyway."""
        self._epoch = epoch
        self._own.clear()
        self._unstored.clear()
        self._heard.clear()
        self._serial = None

    def add(self, channel: str, first: int, last: int, *, store: bool = False) -> None:
        """Doubt the cursors from `first` to `until`, both included; `store` tells the broker, now or later."""
        if first <= last:
            self._metrics.doubts_widened += self._own.add(channel, first, last)
            known = self._unstored.get(channel, (first, last))
            self._unstored[channel] = (min(first, known[0]), max(last, known[1]))
        if store:
            self.store()

    def covers(self, channel: str, seq: int) -> bool:
        """Whether this node doubts a cursor at `seq` for this channel."""
        return self._own.covers(channel, seq)

    def store(self) -> None:
        """Give the broker what it does not know yet. If that fails, this node remembers it and tries again."""
        if not self._unstored:
            return
        ranges = [(name, first, until) for name, (first, until) in self._unstored.items()]
        try:
            self._send(ranges, news=True)
        except Unavailable as error:
            logger.warning("doubted cursors could not be stored yet: %s", error)
            return
        self._metrics.doubts += len(ranges)
        self._unstored.clear()

    def sync(self, serial: int, positions: Positions) -> None:
        """A look has seen this serial number of the doubts: tell the sink of those that this node has not heard of."""
        position = positions.cursor
        if position is None:
            return
        try:
            news = self._news(serial)
            wrong = [one for one in news if self._tell(one, positions, position)]
            self._widen(wrong, position.seq)
        except Unavailable as error:
            logger.warning("the doubts were not heard, the next look asks again: %s", error)

    def _tell(self, news: Range, positions: Positions, position: Cursor) -> bool:
        """Whether this node has told somebody that nothing is missing who has such a cursor."""
        name, first, until = news
        channels = positions.channels() if name == EVERYWHERE else [name]
        try:
            return self._sink.on_doubt(channels, first, until, position)
        except Exception:
            logger.exception("a mistake in telling of doubts")
            return True

    def _news(self, serial: int) -> list[Range]:
        if serial == self._serial or (self._serial is None and serial == 0):
            return []
        reply = self._commands.run(pack(b"HGETALL", self._keys.doubts))[0]
        if isinstance(reply, Exception):
            raise Unavailable(f"Redis refused to tell the doubts: {str(reply)[:200]}")
        epoch, found_serial, ranges = read_doubts(reply)
        if epoch != self._epoch:
            return []
        fresh = [one for name, first, until in ranges for one in self._beyond(name, first, until)]
        self._heard = {name: (first, until) for name, first, until in ranges}
        self._serial = found_serial
        return fresh

    def _beyond(self, name: str, first: int, until: int) -> list[Range]:
        known = self._heard.get(name)
        if known is None:
            return [(name, first, until)]
        parts = [(name, first, known[0] - 1), (name, known[1] + 1, until)]
        return [part for part in parts if part[1] <= part[2]]

    def _widen(self, ranges: list[Range], seq: int) -> None:
        """Doubt these up to `seq` as well: who returned here with such a cursor was given newer ones since.

        It is no news again: a client that moves twice within the second that news takes is not followed.
        """
        wider = [
            (name, first, seq)
            for name, first, until in ranges
            if name != EVERYWHERE and until < seq and not self._own.covers(name, until)
        ]
        if wider:
            self._send(wider, news=False)
            self._heard |= {name: (first, until) for name, first, until in wider}

    def _send(self, ranges: list[Range], *, news: bool) -> None:
        for start in range(0, len(ranges), _CHUNK):
            packed = pack_doubts(self._keys, self._epoch, ranges[start : start + _CHUNK], self._limits, news=news)
            reply = self._commands.run(packed, 1, (doubt_script(),))[0]
            if isinstance(reply, Exception):
                raise Unavailable(f"Redis refused to store doubts: {str(reply)[:200]}")
