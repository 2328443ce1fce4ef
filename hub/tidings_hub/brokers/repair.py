"""Finding out what was missed, and giving it to the sink, or telling it that it is lost.

Everything here runs in the reader, on command connections that nobody else uses.
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

LOOK_CHUNK = 500
_DELIVER_CHUNK = 1_000
_ROUNDS_MAX = 5


class Repairs:
    """Positions, doubts and the sink, kept in step.

    `stale`: a look showed that all channels must be looked at. `delivered`: up to where the sink has everything, and
    beyond which it has nothing; `positions` are ahead of it while something waits to be delivered.
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

    # A session's beginning, and every new epoch

    def lookup_all(self) -> list[HistorySnapshot]:
        """Looks at all tracked channels after their own lasts, all in one epoch that did not go backwards.

        Raises:
            Unavailable: there was no answer, or the epoch did not stand still.
        """
        for _ in range(_ROUNDS_MAX):
            pasts = self._looks()
            first = pasts[0].position
            if any(past.position.epoch != first.epoch for past in pasts):
                continue
            if first.epoch == self.positions.epoch and first.seq < self.positions.seq:
                self.rotate_epoch()
                continue
            return pasts
        raise Unavailable("the broker's epoch keeps changing")

    def _looks(self) -> list[HistorySnapshot]:
        channels = self.positions.channels()
        left_bytes = self._limits.repair_max_bytes
        pasts = []
        for start in range(0, max(1, len(channels)), LOOK_CHUNK):
            past = self._look(channels[start : start + LOOK_CHUNK], left_bytes)
            left_bytes -= sum(len(one.fragment) for seen in past.channels.values() for one in seen.publications)
            pasts.append(past)
        return pasts

    def _look(self, channels: Sequence[str], bytes_max: int) -> HistorySnapshot:
        after = {channel: last for channel in channels if (last := self.positions.last_seq(channel)) is not None}
        look = LookupRequest(channels, after, self._limits.repair_max + 1, max(0, bytes_max))
        reply = self._commands.run(pack_lookup(self._keys, look, self._limits), 1, (since_script(),))
        return read_lookup(look, reply[0], self._limits)

    def apply_resync(self, pasts: list[HistorySnapshot], held: list[Publication]) -> bool:
        """Bring all tracked channels to those looks. Returns whether a new epoch began.

        `held` is what the link brought up to now, at least up to the last look.
        """
        positions = self.positions
        first, end = pasts[0].position, pasts[-1].position
        positions.ignore_until(end.seq)
        if positions.epoch not in (None, end.epoch):
            self._begin(pasts)
            self._tell_lost(list(positions.channels()), first)
            self.delivered = positions.cursor
            return True
        if positions.epoch is None:
            positions.begin_epoch(end.epoch, end.seq)
            self.doubts.begin_epoch(end.epoch)
        before = Cursor(end.epoch, positions.seq)
        live: dict[str, list[Publication]] = {}
        for publication in held:
            live.setdefault(publication.channel, []).append(publication)
        found: list[Publication] = []
        lost: list[str] = []
        for past in pasts:
            for channel, seen in past.channels.items():
                last = positions.tracked_seq(channel)
                missed = self._missed(last, seen, live.get(channel, ()), end.epoch)
                if isinstance(missed, Gap):
                    lost.append(channel)
                    if seen.publications or (seen.last or 0) <= before.seq:
                        self.doubts.add(channel, last + 1, before.seq)
                elif missed:
                    found.extend(missed)
                    self._metrics.gaps_repaired += 1
                    self._metrics.gaps += 1
                    # What is older than the break was lost before it, in silence.
                    self.doubts.add(channel, missed[0].seq, before.seq)
                positions.track(channel, past.position.seq if seen.last is None else max(seen.last, last))
        positions.advance_to(end.seq)
        # First what is lost, and at the old position: whoever is cut off now returns with a cursor that shows the gap.
        self.doubts.store()
        self._lose(lost, before)
        self.deliver(sorted(found, key=lambda one: one.seq))
        self.delivered = positions.cursor
        return False

    def _begin(self, pasts: list[HistorySnapshot]) -> None:
        end = pasts[-1].position
        self.positions.begin_epoch(end.epoch, end.seq)
        self.doubts.begin_epoch(end.epoch)
        self._metrics.epochs += 1
        logger.warning("a new epoch began in Redis: it was restarted, emptied or replaced; clients are told")
        for past in pasts:
            for channel, seen in past.channels.items():
                self.positions.track(channel, past.position.seq if seen.last is None else seen.last)

    def _missed(
        self, last: int, seen: ChannelSnapshot, live: Sequence[Publication], epoch: str
    ) -> list[Publication] | Gap:
        if seen.last is None:
            return Gap("pointer")
        known = {one.seq: one for one in live if one.epoch == epoch and last < one.seq <= seen.last}
        known |= {one.seq: one for one in seen.publications}
        ordered = [known[seq] for seq in sorted(known)]
        return contiguous(last, seen.last, ordered, epoch=epoch, limit=self._limits.repair_max)

    # While live

    def inspect(self, publication: Publication) -> Repair | Anomaly:
        """What a publication is that is not simply the next one of its channel."""
        past = self._look([publication.channel], self._limits.repair_max_bytes)
        seen = past.channels[publication.channel]
        return self.positions.classify(publication, past.position, seen, limit=self._limits.repair_max)

    def apply_repair(self, repair: Repair, publication: Publication, batch: list[Publication]) -> list[Publication]:
        """Accept the publication after its repair; returns the batch to go on with."""
        positions, channel = self.positions, publication.channel
        until = max(positions.seq, publication.seq - 1)
        last = positions.tracked_seq(channel)
        positions.accept(publication)
        if repair.is_lost:
            self.deliver(batch)
            self._metrics.gaps += 1
            self._metrics.gaps_lost += 1
            self.doubts.add(channel, last + 1, until, store=True)
            self._tell_lost([channel], Cursor(publication.epoch, publication.seq - 1))
            return [publication]
        if repair.missed:
            self._metrics.gaps += 1
            self._metrics.gaps_repaired += 1
            self.doubts.add(channel, repair.missed[0].seq, until, store=True)
        return sorted([*batch, *repair.missed, publication], key=lambda one: one.seq)

    def apply_lookup(self, past: HistorySnapshot, floor: Cursor | None, *, joins: bool) -> bool:
        """The link has brought everything up to this look, which was taken when the node was at `floor`.

        Joins wanted channels, repairs those that lack something. False: the look is of no use, take another.
        """
        positions = self.positions
        if past.position.epoch != positions.epoch:
            self.needs_resync = self.needs_resync or self._look([], 0).position.epoch != positions.epoch
            return False
        if floor is not None and floor.epoch == positions.epoch and past.position.seq < floor.seq:
            self.rotate_epoch()
            self.needs_resync = True
            return False
        positions.advance_to(past.position.seq)
        behind: dict[str, int] = {}
        lost: list[str] = []
        for channel, seen in past.channels.items():
            if joins and self._interests.is_pending(channel):
                self._join(channel, past.position.seq if seen.last is None else seen.last)
                continue
            last = positions.last_seq(channel)
            if last is not None and seen.last is None:
                positions.track(channel, max(last, past.position.seq))
                lost.append(channel)
                self.doubts.add(channel, last + 1, positions.seq)
            elif last is not None and seen.last is not None and last < seen.last:
                behind[channel] = seen.last
        self.doubts.store()
        self._lose(lost, Cursor(past.position.epoch, positions.seq))
        if behind:
            self._catch_up(behind)
        if self.needs_resync:
            return False
        self.delivered = positions.cursor
        self.doubts.sync(past.doubts, positions)
        return True

    def _join(self, channel: str, last: int) -> None:
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
        """Repair channels whose publications never came, up to the seqs that must have come."""
        channels = list(behind)
        found: list[Publication] = []
        lost: list[str] = []
        for start in range(0, len(channels), LOOK_CHUNK):
            past = self._look(channels[start : start + LOOK_CHUNK], self._limits.repair_max_bytes)
            epoch = past.position.epoch
            if epoch != self.positions.epoch:
                self.needs_resync = True
                return
            for channel, seen in past.channels.items():
                last = self.positions.tracked_seq(channel)
                end = behind[channel]
                missed = contiguous(last, end, seen.publications, epoch=epoch, limit=self._limits.repair_max)
                if isinstance(missed, Gap):
                    lost.append(channel)
                    self.doubts.add(channel, last + 1, self.positions.seq)
                elif missed:
                    self._metrics.gaps += 1
                    self._metrics.gaps_repaired += 1
                    self.doubts.add(channel, missed[0].seq, self.positions.seq)
                    found.extend(missed)
                self.positions.track(channel, end)
        self.doubts.store()
        self._lose(lost, self.positions.cursor)
        self.deliver(sorted(found, key=lambda one: one.seq))

    def rotate_epoch(self) -> None:
        """Begin a new epoch, if the broker's sequence is behind this node."""
        seen = self.positions.cursor
        if seen is not None:
            logger.warning("Redis' sequence went backwards; a new epoch begins")
            reply = self._commands.run(pack_rotate(self._keys, seen), 1, (rotate_script(),))
            read_position(reply[0])

    # To the sink

    def deliver(self, publications: list[Publication]) -> None:
        """Give publications to the sink. A sink that fails has lost them, and is told so."""
        for start in range(0, len(publications), _DELIVER_CHUNK):
            part = publications[start : start + _DELIVER_CHUNK]
            try:
                self._sink.deliver(part)
            except Exception:
                logger.exception("a mistake in delivering; the channels' clients are told of a gap")
                self._tell_lost(sorted({one.channel for one in part}), Cursor(part[-1].epoch, part[-1].seq))
            self._passed(part[-1])
            if start + _DELIVER_CHUNK < len(publications):
                time.sleep(0)

    def _passed(self, last: Publication) -> None:
        before = self.delivered
        if before is None or before.epoch != last.epoch or before.seq < last.seq:
            self.delivered = Cursor(last.epoch, last.seq)

    def _lose(self, lost: list[str], position: Cursor | None) -> None:
        if lost and position is not None:
            self._metrics.gaps += len(lost)
            self._metrics.gaps_lost += len(lost)
            self._tell_lost(lost, position)

    def _tell_lost(self, channels: list[str], position: Cursor) -> None:
        if not channels:
            return
        try:
            self._sink.on_loss(channels, position)
        except Exception:
            logger.exception("a mistake in telling of a gap")
