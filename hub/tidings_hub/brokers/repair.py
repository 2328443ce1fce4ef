"""Repairs gaps: reads missed publications from the broker and delivers them, or reports them as lost.

Everything here runs in the reader, on its own pool of command connections.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import BrokerLimits, ChannelSnapshot, HistorySnapshot, Sink
from tidings_hub.brokers.doubts.doubt_script import DoubtMessage
from tidings_hub.brokers.doubts.doubt_sync import DoubtSync
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.known_epochs import KnownEpochs
from tidings_hub.brokers.lookup_script import (
    ComparisonRequest,
    LookupRequest,
    compare_script,
    pack_comparison,
    pack_lookup,
    pack_rotate,
    read_comparison,
    read_lookup,
    read_position,
    rotate_script,
    since_script,
)
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.core.positions import Anomaly, Positions, Repair, Verdict
from tidings_hub.core.recovery import Gap, contiguous
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

# Channels whose streams are read in one call: about 5 ms of Redis' time with a publication in each.
LOOKUP_CHUNK = 500
# Channels whose pointers are compared in one call: less than 1 ms of Redis' time, about 2 ms of this node's.
COMPARE_CHUNK = 1_000
# Publications that are delivered before other greenlets run.
_DELIVER_CHUNK = 1_000
# Channels whose loss is reported before other greenlets run. A client gets one event per part, so parts are large.
_LOSS_CHUNK = 10_000


class Repairs:
    """Keeps positions, doubts and the sink consistent.

    `needs_resync`: a lookup showed that all channels must be looked up. `needs_check`: live messages were dropped, so a
    position check is due. `delivered`: the sink has everything up to here and nothing beyond. `positions` are ahead of
    it while publications wait to be delivered. `epochs`: those of the database, and foreign ones.
    """

    def __init__(
        self,
        keys: RedisKeys,
        commands: RedisCommands,
        interests: Interests,
        sink: Sink,
        limits: BrokerLimits,
        metrics: Metrics,
    ) -> None:
        self.positions = Positions()
        self.epochs = KnownEpochs()
        self.doubts = DoubtSync(keys, commands, sink, limits, metrics)
        self.needs_resync = False
        self.needs_check = False
        self.delivered: Cursor | None = None
        self._keys = keys
        self._commands = commands
        self._interests = interests
        self.sink = sink
        self._limits = limits
        self._metrics = metrics

    def lookup(self, channels: Sequence[str], bytes_max: int) -> HistorySnapshot:
        """Read these channels after their last processed seq: at most `bytes_max` bytes in all."""
        request = LookupRequest(channels, self._processed(channels), self._limits.repair_max + 1, max(0, bytes_max))
        reply = self._commands.run(pack_lookup(self._keys, request, self._limits), 1, (since_script(),))
        return read_lookup(request, reply[0], self._limits)

    def compare(self, channels: Sequence[str], *, is_new_epoch: bool = False) -> list[HistorySnapshot]:
        """Those of these channels that are not at their last processed seq; in a new epoch all of them."""
        request = ComparisonRequest(channels, {} if is_new_epoch else self._processed(channels))
        reply = self._commands.run(pack_comparison(self._keys, request, self._limits), 1, (compare_script(),))
        snapshot, undecided = read_comparison(request, reply[0])
        if not undecided:
            return [snapshot]
        parts = [undecided[start : start + LOOKUP_CHUNK] for start in range(0, len(undecided), LOOKUP_CHUNK)]
        return [snapshot, *(self.lookup(part, 0) for part in parts)]

    def _processed(self, channels: Sequence[str]) -> dict[str, int]:
        return {channel: last for channel in channels if (last := self.positions.last_seq(channel)) is not None}

    def read_epoch(self) -> str:
        """The epoch that the broker has now. Waits for it.

        Raises:
            Unavailable: the broker did not answer.
        """
        return self.lookup([], 0).position.epoch

    # While the link is live

    def inspect(self, publication: Publication) -> Repair | Anomaly:
        """Look up a live publication that is not simply the next one of its channel."""
        snapshot = self.lookup([publication.channel], self._limits.repair_max_bytes)
        stored = snapshot.channels[publication.channel]
        return self.positions.classify(publication, snapshot.position, stored, limit=self._limits.repair_max)

    def apply_repair(self, repair: Repair, publication: Publication, batch: list[Publication]) -> list[Publication]:
        """Accept the publication after its repair; returns the batch to continue with."""
        positions, channel = self.positions, publication.channel
        doubted_until = max(positions.seq, publication.seq - 1)
        last = positions.tracked_seq(channel)
        positions.accept(publication)
        if repair.is_lost:
            self.deliver(batch)
            self._metrics.gaps += 1
            self._metrics.gaps_lost += 1
            self.doubts.add(channel, last + 1, doubted_until, store=True)
            self.notify_lost([channel], Cursor(publication.epoch, publication.seq - 1))
            return [publication]
        if repair.missed:
            self._metrics.gaps += 1
            self._metrics.gaps_repaired += 1
            self.doubts.add(channel, repair.missed[0].seq, doubted_until, store=True)
        return sorted([*batch, *repair.missed, publication], key=seq_of)

    def receive_doubts(self, doubts: DoubtMessage, batch: list[Publication]) -> list[Publication]:
        """Deliver the batch that precedes new doubts, then process these. Returns the batch to continue with."""
        self.deliver(sorted(batch, key=seq_of))
        self.doubts.receive(doubts, self.positions)
        return []

    def apply_lookup(self, snapshot: HistorySnapshot, floor: Cursor | None, *, activates: bool) -> bool:
        """Apply a lookup that began at `floor`, once the link has received everything up to it.

        Activates pending channels if `activates`, and repairs channels with gaps. False: the result is unusable;
        repeat the lookup.
        """
        positions = self.positions
        if snapshot.position.epoch != positions.epoch:
            self.needs_resync = self.needs_resync or self.read_epoch() != positions.epoch
            return False
        if floor is not None and floor.epoch == positions.epoch and snapshot.position.seq < floor.seq:
            self.rotate_epoch()
            self.needs_resync = True
            return False
        positions.advance_to(snapshot.position.seq)
        behind, lost = self._compare_pointers(snapshot, activates=activates)
        self.doubts.store()
        self.report_lost(lost, Cursor(snapshot.position.epoch, positions.seq))
        if behind:
            self._catch_up(behind)
        if self.needs_resync:
            return False
        self.delivered = positions.cursor
        self.doubts.sync(snapshot.doubts, positions)
        return True

    def _compare_pointers(self, snapshot: HistorySnapshot, *, activates: bool) -> tuple[dict[str, int], list[str]]:
        """Activate pending channels, and find those that this node is behind in, and those that lost their pointer."""
        positions, seq = self.positions, snapshot.position.seq
        behind: dict[str, int] = {}
        lost: list[str] = []
        for channel, stored in snapshot.channels.items():
            if activates and self._interests.is_pending(channel):
                self._activate(channel, stored, seq)
                continue
            last = positions.last_seq(channel)
            if last is None or last > seq:
                # In the second case it has moved on since the lookup.
                continue
            if stored.last is None:
                positions.track_quiet(channel, seq)
                if not stored.is_quiet_after(last):
                    lost.append(channel)
                    self.doubts.add(channel, last + 1, positions.seq)
            elif last < stored.last:
                behind[channel] = stored.last
        return behind, lost

    def _activate(self, channel: str, stored: ChannelSnapshot, seq: int) -> None:
        last = self.positions.track_as_stored(channel, stored, seq)
        for publication in self._interests.activate(channel):
            if publication.epoch != self.positions.epoch or publication.seq <= last:
                continue
            verdict = self.positions.observe(publication)
            if verdict is Verdict.DELIVER:
                self.deliver([publication])
                continue
            ruling = self.inspect(publication)
            if isinstance(ruling, Repair):
                self.deliver(self.apply_repair(ruling, publication, []))
            elif ruling in (Anomaly.NEW_EPOCH, Anomaly.REGRESSION):
                self.needs_resync = True
                return

    def _catch_up(self, behind: Mapping[str, int]) -> None:
        """Repair channels whose publications never arrived, up to the given seqs.

        Each part is delivered before the next one is read, so `repair_max_bytes` bounds what is in memory.
        """
        channels = list(behind)
        for start in range(0, len(channels), LOOKUP_CHUNK):
            repaired: list[Publication] = []
            lost: list[str] = []
            snapshot = self.lookup(channels[start : start + LOOKUP_CHUNK], self._limits.repair_max_bytes)
            epoch = snapshot.position.epoch
            if epoch != self.positions.epoch:
                self.needs_resync = True
                return
            for channel, stored in snapshot.channels.items():
                last = self.positions.tracked_seq(channel)
                end = behind[channel]
                missed = contiguous(last, end, stored.publications, epoch=epoch, limit=self._limits.repair_max)
                if isinstance(missed, Gap):
                    lost.append(channel)
                    self.doubts.add(channel, last + 1, self.positions.seq)
                elif missed:
                    self._metrics.gaps += 1
                    self._metrics.gaps_repaired += 1
                    self.doubts.add(channel, missed[0].seq, self.positions.seq)
                    repaired.extend(missed)
                self.positions.track(channel, end)
            self.doubts.store()
            self.report_lost(lost, self.positions.cursor)
            self.deliver(sorted(repaired, key=seq_of))

    def rotate_epoch(self) -> None:
        """Begin a new epoch in the broker if its sequence is behind this node."""
        position = self.positions.cursor
        if position is not None:
            logger.warning("Redis' sequence went backwards; beginning a new epoch")
            reply = self._commands.run(pack_rotate(self._keys, position), 1, (rotate_script(),))
            read_position(reply[0])

    # To the sink

    def deliver(self, publications: list[Publication]) -> None:
        """Deliver publications to the sink. If the sink fails, report them to it as lost."""
        for start in range(0, len(publications), _DELIVER_CHUNK):
            part = publications[start : start + _DELIVER_CHUNK]
            try:
                self.sink.deliver(part)
            except Exception:
                logger.exception("unexpected error in a delivery; the clients of these channels receive a gap")
                self.notify_lost(sorted({entry.channel for entry in part}), Cursor(part[-1].epoch, part[-1].seq))
            self._advance(part[-1])
            if start + _DELIVER_CHUNK < len(publications):
                time.sleep(0)

    def _advance(self, last: Publication) -> None:
        before = self.delivered
        if before is None or before.epoch != last.epoch or before.seq < last.seq:
            self.delivered = Cursor(last.epoch, last.seq)

    def report_lost(self, lost: list[str], position: Cursor | None) -> None:
        """Count losses and report them to the sink."""
        if lost and position is not None:
            self._metrics.gaps += len(lost)
            self._metrics.gaps_lost += len(lost)
            self.notify_lost(lost, position)

    def notify_lost(self, channels: list[str], position: Cursor) -> None:
        """Report a gap in these channels to the sink. Other greenlets run between two parts of many channels."""
        for start in range(0, len(channels), _LOSS_CHUNK):
            try:
                self.sink.on_loss(channels[start : start + _LOSS_CHUNK], position)
            except Exception:
                logger.exception("unexpected error in the sink while reporting a gap")
            if start + _LOSS_CHUNK < len(channels):
                time.sleep(0)


def seq_of(publication: Publication) -> int:
    """The sort key of publications of one epoch."""
    return publication.seq
