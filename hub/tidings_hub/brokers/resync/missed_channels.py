"""Resynchronisation: finds what a node missed while its link was down, before live publications are delivered again.

Only the channels with the newest publications are repaired here, at most `repair_first`. They are compared with the
broker in steps, and only the streams of channels that moved are read. `channel_checks.py` verifies the remaining
channels while the node is live.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tidings.errors import Unavailable
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import BrokerLimits, ChannelSnapshot, HistorySnapshot
from tidings_hub.brokers.doubts.doubt_script import StoredDoubts
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.repair import COMPARE_CHUNK, LOOKUP_CHUNK, Repairs, seq_of
from tidings_hub.core.recovery import Gap, contiguous
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

# A broker whose epoch changes more often than this during one comparison is not usable.
_ROUNDS_MAX = 5


@dataclass(slots=True, frozen=True)
class MissedChannels:
    """What a comparison showed: the position before it, the position after the last read, and the channels that moved.

    `channels`: with the position at which each was read. In a new epoch it has all channels, without publications.
    `doubts`: those that this node does not know, read after the channels.
    """

    first: Cursor
    end: Cursor
    channels: dict[str, tuple[Cursor, ChannelSnapshot]] = field(default_factory=dict)
    doubts: StoredDoubts | None = None


class Resync:
    """Compares and repairs the channels of a new link, and all channels at the start of an epoch."""

    def __init__(self, repairs: Repairs, interests: Interests, limits: BrokerLimits, metrics: Metrics) -> None:
        self._repairs = repairs
        self._interests = interests
        self._limits = limits
        self._metrics = metrics

    def begin_link(self) -> list[str]:
        """Count all channels as unverified. Returns the first ones to subscribe and repair.

        Channels that were never active have nothing to repair. They are activated with the unverified ones.
        """
        positions = self._repairs.positions
        for channel in self._interests.begin_link(positions.by_traffic()):
            positions.forget(channel)
        first = self._interests.next_unverified(self._limits.repair_first)
        return [channel for channel in first if positions.last_seq(channel) is not None]

    def find_missed(self, channels: Sequence[str]) -> MissedChannels:
        """Compare these channels with the broker, and read those that moved. All in one epoch.

        Raises:
            Unavailable: the broker did not answer, or its epoch kept changing.
        """
        positions = self._repairs.positions
        for _ in range(_ROUNDS_MAX):
            start = self._repairs.lookup([], 0)
            position = start.position
            if positions.epoch in (None, position.epoch):
                if position.seq < positions.seq and positions.epoch is not None:
                    self._repairs.rotate_epoch()
                    continue
                tracked = [channel for channel in channels if positions.last_seq(channel) is not None]
                snapshots = self._read_moved(self._compare(tracked))
            else:
                snapshots = self._compare(positions.channels(), is_new_epoch=True)
            if all(snapshot.position.epoch == position.epoch for snapshot in snapshots):
                last = snapshots[-1] if snapshots else start
                moved = {
                    name: (snapshot.position, stored)
                    for snapshot in snapshots
                    for name, stored in snapshot.channels.items()
                }
                is_same = positions.epoch == position.epoch
                return MissedChannels(
                    position, last.position, moved, self._repairs.doubts.read(last.doubts) if is_same else None
                )
        raise Unavailable("the broker's epoch keeps changing")

    def _compare(self, channels: Sequence[str], *, is_new_epoch: bool = False) -> list[HistorySnapshot]:
        snapshots = []
        for start in range(0, len(channels), COMPARE_CHUNK):
            part = channels[start : start + COMPARE_CHUNK]
            snapshots.extend(self._repairs.compare(part, is_new_epoch=is_new_epoch))
            time.sleep(0)
        return snapshots

    def _read_moved(self, comparisons: list[HistorySnapshot]) -> list[HistorySnapshot]:
        """Read the streams of the channels that moved, at most `repair_max_bytes` in all."""
        positions = self._repairs.positions
        moved = [
            name
            for comparison in comparisons
            for name, stored in comparison.channels.items()
            if stored.last is not None and stored.last > positions.tracked_seq(name)
        ]
        left_bytes = self._limits.repair_max_bytes
        # The later read replaces what the comparison returned.
        snapshots = list(comparisons)
        for start in range(0, len(moved), LOOKUP_CHUNK):
            snapshot = self._repairs.lookup(moved[start : start + LOOKUP_CHUNK], left_bytes)
            entries = [entry for stored in snapshot.channels.values() for entry in stored.publications]
            left_bytes -= sum(len(entry.fragment) for entry in entries)
            snapshots.append(snapshot)
            time.sleep(0)
        return snapshots

    def apply(self, missed: MissedChannels, received: Sequence[Publication]) -> list[Publication]:
        """Track these channels up to the broker's pointers, and report what is lost. Returns what is to be delivered.

        `received`: what the link received so far of the channels in `missed`, at least everything that was published
        before the last read.
        """
        positions, end = self._repairs.positions, missed.end
        positions.ignore_until(end.seq)
        self._repairs.epochs.learn(end.epoch, now_s=time.monotonic())
        if positions.epoch not in (None, end.epoch):
            self._begin_epoch(missed)
            return []
        if positions.epoch is None:
            positions.begin_epoch(end.epoch, end.seq)
            self._repairs.doubts.begin_epoch(end.epoch)
        before = Cursor(end.epoch, positions.seq)
        # At the old position, and before anything later is delivered: clients may have brought such cursors here.
        self._repairs.doubts.apply(missed.doubts, positions)
        repaired, lost = self._repair(missed, received, before)
        positions.advance_to(end.seq)
        # Losses first, at the old position: a client that is cut off now resumes with a cursor that shows the gap.
        self._repairs.doubts.store()
        self._repairs.report_lost(lost, before)
        return sorted(repaired, key=seq_of)

    def _repair(
        self, missed: MissedChannels, received: Sequence[Publication], before: Cursor
    ) -> tuple[list[Publication], list[str]]:
        """The missed publications of all channels, and the channels of which some are lost."""
        positions, doubts = self._repairs.positions, self._repairs.doubts
        live: dict[str, list[Publication]] = {}
        for publication in received:
            live.setdefault(publication.channel, []).append(publication)
        repaired: list[Publication] = []
        lost: list[str] = []
        for channel, (position, stored) in missed.channels.items():
            last = positions.tracked_seq(channel)
            publications = self._missed(last, stored, live.get(channel, ()), missed.end.epoch)
            if isinstance(publications, Gap):
                lost.append(channel)
                # Otherwise every entry is gone, so the pointer shows the gap to each cursor of this node.
                if stored.publications or stored.is_unread or (stored.last or 0) <= before.seq:
                    doubts.add(channel, last + 1, before.seq)
            elif publications:
                repaired.extend(publications)
                self._metrics.gaps_repaired += 1
                self._metrics.gaps += 1
                # What is older than the break of the link was lost before it, unnoticed.
                doubts.add(channel, publications[0].seq, before.seq)
            positions.track_as_stored(channel, stored, position.seq, floor=last)
        return repaired, lost

    def _missed(
        self, last: int, stored: ChannelSnapshot, live: Sequence[Publication], epoch: str
    ) -> list[Publication] | Gap:
        if stored.last is None:
            return [] if stored.is_quiet_after(last) else Gap("pointer")
        by_seq = {entry.seq: entry for entry in live if entry.epoch == epoch and last < entry.seq <= stored.last}
        by_seq |= {entry.seq: entry for entry in stored.publications}
        ordered = [by_seq[seq] for seq in sorted(by_seq)]
        return contiguous(last, stored.last, ordered, epoch=epoch, limit=self._limits.repair_max)

    def _begin_epoch(self, missed: MissedChannels) -> None:
        """Track every channel in the new epoch, and report a gap in all of them."""
        positions, end = self._repairs.positions, missed.end
        positions.begin_epoch(end.epoch, end.seq)
        self._repairs.doubts.begin_epoch(end.epoch)
        self._metrics.epochs += 1
        logger.warning("a new epoch began in Redis: it was restarted, emptied or replaced; clients receive a gap")
        for channel, (position, stored) in missed.channels.items():
            positions.track_as_stored(channel, stored, position.seq)
        self._repairs.notify_lost(list(positions.channels()), missed.first)
        self._repairs.delivered = positions.cursor
