"""Repairs gaps: reads missed publications from the broker and delivers them, or reports them as lost.

Everything here runs in the reader, on its own pool of command connections.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from tidings.errors import Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import BrokerLimits, ChannelSnapshot, HistorySnapshot, Sink
from tidings_hub.brokers.doubt_sync import DoubtSync
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.lookup_script import (
    LookupRequest,
    pack_lookup,
    pack_rotate,
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

LOOKUP_CHUNK = 500
_DELIVER_CHUNK = 1_000
_ROUNDS_MAX = 5


class Repairs:
    """Keeps positions, doubts and the sink consistent.

    `needs_resync`: a lookup showed that all channels must be looked up. `delivered`: the sink has everything up to here
    and nothing beyond. `positions` are ahead of it while publications wait to be delivered.
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
        self.doubts = DoubtSync(keys, commands, sink, limits, metrics)
        self.needs_resync = False
        self.delivered: Cursor | None = None
        self._keys = keys
        self._commands = commands
        self._interests = interests
        self._sink = sink
        self._limits = limits
        self._metrics = metrics

    # At the start of a session, and of every new epoch

    def lookup_all(self) -> list[HistorySnapshot]:
        """Look up all tracked channels, each after its last processed seq, all in one epoch.

        Raises:
            Unavailable: the broker did not answer, or its epoch kept changing.
        """
        for _ in range(_ROUNDS_MAX):
            snapshots = self._lookup_chunks()
            first = snapshots[0].position
            if any(snapshot.position.epoch != first.epoch for snapshot in snapshots):
                continue
            if first.epoch == self.positions.epoch and first.seq < self.positions.seq:
                self.rotate_epoch()
                continue
            return snapshots
        raise Unavailable("the broker's epoch keeps changing")

    def _lookup_chunks(self) -> list[HistorySnapshot]:
        channels = self.positions.channels()
        left_bytes = self._limits.repair_max_bytes
        snapshots = []
        for start in range(0, max(1, len(channels)), LOOKUP_CHUNK):
            snapshot = self._lookup(channels[start : start + LOOKUP_CHUNK], left_bytes)
            publications = [entry for channel in snapshot.channels.values() for entry in channel.publications]
            left_bytes -= sum(len(publication.fragment) for publication in publications)
            snapshots.append(snapshot)
        return snapshots

    def _lookup(self, channels: Sequence[str], bytes_max: int) -> HistorySnapshot:
        after = {channel: last for channel in channels if (last := self.positions.last_seq(channel)) is not None}
        request = LookupRequest(channels, after, self._limits.repair_max + 1, max(0, bytes_max))
        reply = self._commands.run(pack_lookup(self._keys, request, self._limits), 1, (since_script(),))
        return read_lookup(request, reply[0], self._limits)

    def apply_resync(self, snapshots: list[HistorySnapshot], received: list[Publication]) -> bool:
        """Repair all tracked channels with these lookups. Returns whether a new epoch began.

        `received`: what the link received so far, at least everything that was published before the last lookup.
        """
        positions = self.positions
        first, end = snapshots[0].position, snapshots[-1].position
        positions.ignore_until(end.seq)
        if positions.epoch not in (None, end.epoch):
            self._begin_epoch(snapshots)
            self._notify_lost(list(positions.channels()), first)
            self.delivered = positions.cursor
            return True
        if positions.epoch is None:
            positions.begin_epoch(end.epoch, end.seq)
            self.doubts.begin_epoch(end.epoch)
        before = Cursor(end.epoch, positions.seq)
        live: dict[str, list[Publication]] = {}
        for publication in received:
            live.setdefault(publication.channel, []).append(publication)
        repaired: list[Publication] = []
        lost: list[str] = []
        for snapshot in snapshots:
            for channel, stored in snapshot.channels.items():
                last = positions.tracked_seq(channel)
                missed = self._missed(last, stored, live.get(channel, ()), end.epoch)
                if isinstance(missed, Gap):
                    lost.append(channel)
                    if stored.publications or (stored.last or 0) <= before.seq:
                        self.doubts.add(channel, last + 1, before.seq)
                elif missed:
                    repaired.extend(missed)
                    self._metrics.gaps_repaired += 1
                    self._metrics.gaps += 1
                    # What is older than the break of the link was lost before it, unnoticed.
                    self.doubts.add(channel, missed[0].seq, before.seq)
                positions.track(channel, snapshot.position.seq if stored.last is None else max(stored.last, last))
        positions.advance_to(end.seq)
        # Losses first, at the old position: a client that is cut off now resumes with a cursor that shows the gap.
        self.doubts.store()
        self._report_lost(lost, before)
        self.deliver(sorted(repaired, key=_seq_of))
        self.delivered = positions.cursor
        return False

    def _begin_epoch(self, snapshots: list[HistorySnapshot]) -> None:
        end = snapshots[-1].position
        self.positions.begin_epoch(end.epoch, end.seq)
        self.doubts.begin_epoch(end.epoch)
        self._metrics.epochs += 1
        logger.warning("a new epoch began in Redis: it was restarted, emptied or replaced; clients receive a gap")
        for snapshot in snapshots:
            for channel, stored in snapshot.channels.items():
                self.positions.track(channel, snapshot.position.seq if stored.last is None else stored.last)

    def _missed(
        self, last: int, stored: ChannelSnapshot, live: Sequence[Publication], epoch: str
    ) -> list[Publication] | Gap:
        if stored.last is None:
            return Gap("pointer")
        by_seq = {entry.seq: entry for entry in live if entry.epoch == epoch and last < entry.seq <= stored.last}
        by_seq |= {entry.seq: entry for entry in stored.publications}
        ordered = [by_seq[seq] for seq in sorted(by_seq)]
        return contiguous(last, stored.last, ordered, epoch=epoch, limit=self._limits.repair_max)

    # While the link is live

    def inspect(self, publication: Publication) -> Repair | Anomaly:
        """Look up a live publication that is not simply the next one of its channel."""
        snapshot = self._lookup([publication.channel], self._limits.repair_max_bytes)
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
            self._notify_lost([channel], Cursor(publication.epoch, publication.seq - 1))
            return [publication]
        if repair.missed:
            self._metrics.gaps += 1
            self._metrics.gaps_repaired += 1
            self.doubts.add(channel, repair.missed[0].seq, doubted_until, store=True)
        return sorted([*batch, *repair.missed, publication], key=_seq_of)

    def apply_lookup(self, snapshot: HistorySnapshot, floor: Cursor | None, *, activates: bool) -> bool:
        """Apply a lookup that began at `floor`, once the link has received everything up to it.

        Activates pending channels if `activates`, and repairs channels with gaps. False: the result is unusable;
        repeat the lookup.
        """
        positions = self.positions
        if snapshot.position.epoch != positions.epoch:
            self.needs_resync = self.needs_resync or self._lookup([], 0).position.epoch != positions.epoch
            return False
        if floor is not None and floor.epoch == positions.epoch and snapshot.position.seq < floor.seq:
            self.rotate_epoch()
            self.needs_resync = True
            return False
        positions.advance_to(snapshot.position.seq)
        behind: dict[str, int] = {}
        lost: list[str] = []
        for channel, stored in snapshot.channels.items():
            if activates and self._interests.is_pending(channel):
                self._activate(channel, snapshot.position.seq if stored.last is None else stored.last)
                continue
            last = positions.last_seq(channel)
            if last is not None and stored.last is None:
                positions.track(channel, max(last, snapshot.position.seq))
                lost.append(channel)
                self.doubts.add(channel, last + 1, positions.seq)
            elif last is not None and stored.last is not None and last < stored.last:
                behind[channel] = stored.last
        self.doubts.store()
        self._report_lost(lost, Cursor(snapshot.position.epoch, positions.seq))
        if behind:
            self._catch_up(behind)
        if self.needs_resync:
            return False
        self.delivered = positions.cursor
        self.doubts.sync(snapshot.doubts, positions)
        return True

    def _activate(self, channel: str, last: int) -> None:
        self.positions.track(channel, last)
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
        """Repair channels whose publications never arrived, up to the given seqs."""
        channels = list(behind)
        repaired: list[Publication] = []
        lost: list[str] = []
        for start in range(0, len(channels), LOOKUP_CHUNK):
            snapshot = self._lookup(channels[start : start + LOOKUP_CHUNK], self._limits.repair_max_bytes)
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
        self._report_lost(lost, self.positions.cursor)
        self.deliver(sorted(repaired, key=_seq_of))

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
                self._sink.deliver(part)
            except Exception:
                logger.exception("unexpected error in a delivery; the clients of these channels receive a gap")
                self._notify_lost(sorted({entry.channel for entry in part}), Cursor(part[-1].epoch, part[-1].seq))
            self._advance(part[-1])
            if start + _DELIVER_CHUNK < len(publications):
                time.sleep(0)

    def _advance(self, last: Publication) -> None:
        before = self.delivered
        if before is None or before.epoch != last.epoch or before.seq < last.seq:
            self.delivered = Cursor(last.epoch, last.seq)

    def _report_lost(self, lost: list[str], position: Cursor | None) -> None:
        if lost and position is not None:
            self._metrics.gaps += len(lost)
            self._metrics.gaps_lost += len(lost)
            self._notify_lost(lost, position)

    def _notify_lost(self, channels: list[str], position: Cursor) -> None:
        if not channels:
            return
        try:
            self._sink.on_loss(channels, position)
        except Exception:
            logger.exception("unexpected error in the sink while reporting a gap")


def _seq_of(publication: Publication) -> int:
    return publication.seq
