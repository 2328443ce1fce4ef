"""Shares the doubted cursors between all nodes (PROTOCOL.md section 1, docs/architecture.md#why-doubt).

A node may find that it lost a publication on an unbroken link. The cursors that it sent between the loss and the
discovery are too far ahead. It stores their range in the broker, and each `read_since` of each node reads that range
in the same atomic step.

Clients may have resumed with such a cursor before the discovery. The step that stores the range also sends it to every
node, as a message in the sequence. A node processes the message before it delivers anything later, and sends
`tidings:gap` to those clients. So every such cursor is in the range, or belongs to a client that has the gap.

A node whose link was broken reads the doubts before it delivers anything later. A node may lose the message on an
unbroken link. The serial number in each lookup, at least once a second, reveals that. Then this node has sent cursors
that are too far ahead as well, and stores their range like the first node.

One case remains open (see PROTOCOL.md): a node dies, or never reaches the broker again, between a loss and its next
check.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import islice

from tidings.errors import Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import pack
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits, Sink
from tidings_hub.brokers.doubts.doubt_script import (
    DoubtMessage,
    StoredDoubts,
    channels_max,
    doubt_script,
    pack_doubts,
    read_doubts,
)
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.core.doubts import EVERYWHERE, Doubts
from tidings_hub.core.positions import Positions
from tidings_hub.core.processed_doubts import ProcessedDoubts, Range
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

_CHUNK = 500
# Reading the ranges of 10,000 channels takes 20 ms. While many messages are lost, they are read this often.
_READ_EVERY_S = 0.25
# Channels whose doubt is passed on before other greenlets run.
_NOTIFY_CHUNK = 10_000
# Ranges that are passed on before other greenlets run. Each is compared with the recent recoveries of this node.
_NOTIFY_RANGES = 50


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
        # One seq per channel, because each range ends when it is stored. It does not grow without the broker.
        self._unstored: dict[str, int] = {}
        self._epoch = ""
        self._read_at_s = -_READ_EVERY_S
        self._processed = ProcessedDoubts(channels_max=channels_max(limits))

    def begin_epoch(self, epoch: str) -> None:
        """Forget all doubts at the start of a new epoch: cursors of an older epoch are never trusted."""
        self._epoch = epoch
        self._own.clear()
        self._unstored.clear()
        self._processed.clear()

    def add(self, channel: str, first: int, last: int, *, store: bool = False) -> None:
        """Doubt the cursors from `first` to `last`, both included. `store`: send them to the broker now."""
        if first <= last:
            self._metrics.doubts_widened += self._own.add(channel, first, last)
            self._unstored[channel] = min(first, self._unstored.get(channel, first))
        if store:
            self.store()

    def covers(self, channel: str, seq: int) -> bool:
        """Whether this node doubts a cursor at `seq` for this channel."""
        return self._own.covers(channel, seq)

    def store(self) -> None:
        """Send the doubts that the broker lacks. If that fails, this node keeps them and retries with the next ones.

        The broker extends them to its present position.
        """
        try:
            while part := dict(islice(self._unstored.items(), _CHUNK)):
                packed = pack_doubts(self._keys, self._epoch, part, self._limits)
                self._commands.run_checked(packed, 1, (doubt_script(),))
                self._metrics.doubts += len(part)
                for name in part:
                    del self._unstored[name]
        except Unavailable as error:
            logger.warning("doubted cursors could not be stored yet: %s", error)

    def receive(self, message: DoubtMessage, positions: Positions) -> None:
        """Process new doubts. This node has delivered everything that was published before them, and nothing later."""
        if message.epoch != self._epoch:
            # Of another database of this Redis, or of an epoch that this node has yet to begin.
            return
        reached_seq = positions.seq
        # The doubts took this seq, so the cursor of a gap event is not doubted itself.
        positions.advance_to(message.seq)
        self._process(self._processed.receive(message.serial, message.ranges), positions, reached_seq)

    def sync(self, serial: int, positions: Positions) -> None:
        """Process the doubts whose message this node lost, if a lookup returned another serial number of them."""
        if serial == self._processed.serial or time.monotonic() - self._read_at_s < _READ_EVERY_S:
            # In the second case a later lookup reads them; there is one in every second.
            return
        try:
            self.apply(self.read(serial), positions)
        except Unavailable as error:
            logger.warning("doubted cursors could not be read; retrying with the next lookup: %s", error)

    def read(self, serial: int) -> StoredDoubts | None:
        """The stored doubts, if a lookup returned another serial number of them. `apply` processes them.

        Raises:
            Unavailable: the broker did not answer.
        """
        if serial == self._processed.serial:
            return None
        self._read_at_s = time.monotonic()
        reply = self._commands.run(pack(b"HGETALL", self._keys.doubts))[0]
        if isinstance(reply, Exception):
            raise Unavailable(f"Redis rejected reading doubted cursors: {str(reply)[:200]}")
        return read_doubts(reply)

    def apply(self, doubts: StoredDoubts | None, positions: Positions) -> None:
        """Process doubts that were read."""
        if doubts is None or doubts.epoch != self._epoch:
            return
        self._process(self._processed.read(doubts.serial, doubts.ranges), positions, positions.seq)

    def _process(self, ranges: Sequence[Range], positions: Positions, reached_seq: int) -> None:
        """Notify the sink of these ranges. This node has delivered up to `reached_seq`."""
        position = positions.cursor
        if position is None:
            return
        for index, (name, first, last) in enumerate(ranges, start=1):
            if self._notify(name, first, last, positions, position) and last < reached_seq:
                # This node learned of it late. The clients may have received newer cursors here, and moved on.
                self._doubt_until_now(name, first, reached_seq)
            if index % _NOTIFY_RANGES == 0:
                time.sleep(0)
        self.store()

    def _doubt_until_now(self, name: str, first: int, seq: int) -> None:
        if name == EVERYWHERE:
            self._unstored[EVERYWHERE] = min(first, self._unstored.get(EVERYWHERE, first))
        else:
            self.add(name, first, seq)

    def _notify(self, name: str, first: int, last: int, positions: Positions, position: Cursor) -> bool:
        """Notify the sink of a doubted range. Returns whether a client of this node had resumed with such a cursor."""
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
