"""How far this node has processed each channel, and what a live publication means for that.

Each publication names the seq of the one before it in its channel (`prev`, docs/architecture.md#why-prev). If that is
the last one that this node processed, nothing is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.core.recovery import ChannelSnapshot, Gap, contiguous

# A sequence seldom advances by more than this between two lookups at the broker. A publication beyond that is looked up
# before it is accepted, so that one forged number cannot move the node's position.
JUMP_MAX = 10_000


class Verdict(Enum):
    """What to do with a live publication, judged by its numbers alone."""

    DELIVER = auto()
    LOOK_UP = auto()
    """Look up the channel at the broker first, then call `classify`."""
    ALREADY_REPAIRED = auto()
    """A repair has already delivered it: drop it."""
    UNTRACKED = auto()
    """This node does not track its channel, or not yet."""


class Anomaly(Enum):
    """What a lookup at the broker showed about a publication that cannot be delivered after a repair."""

    NEW_EPOCH = auto()
    REGRESSION = auto()
    """The broker's sequence is behind this node, in the same epoch."""
    FORGED = auto()
    """The broker never made this publication."""
    REPLAYED = auto()
    """This node has already processed it."""


@dataclass(slots=True, frozen=True)
class Repair:
    """Deliver `missed`, then the publication. `is_lost`: report a gap in the channel first."""

    missed: list[Publication] = field(default_factory=list)
    is_lost: bool = False


class Positions:
    """The last seq of every tracked channel, and the seq up to which all of them were processed."""

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.seq = 0
        # Of a quiet channel the complement (`~`), which is negative: a second dict would cost every channel memory.
        self._last: dict[str, int] = {}
        self._repaired_until = 0

    def __len__(self) -> int:
        return len(self._last)

    @property
    def cursor(self) -> Cursor | None:
        """Up to where this node processed the sequence; None before it has reached the broker."""
        return None if self.epoch is None else Cursor(self.epoch, self.seq)

    def channels(self) -> list[str]:
        """The tracked channels."""
        return list(self._last)

    def by_traffic(self) -> list[str]:
        """The tracked channels, those with the newest publications first, those that never had one last."""
        return sorted(self._last, key=self._last.__getitem__, reverse=True)

    def last_seq(self, channel: str) -> int | None:
        """The channel's last processed seq; None if it is not tracked."""
        last = self._last.get(channel)
        return last if last is None or last >= 0 else ~last

    def tracked_seq(self, channel: str) -> int:
        """The last processed seq of a channel that is tracked."""
        last = self._last[channel]
        return last if last >= 0 else ~last

    def track(self, channel: str, last: int) -> None:
        """Track this channel from the publication after `last` on."""
        self._last[channel] = last

    def track_quiet(self, channel: str, seq: int) -> None:
        """Track a channel that had no pointer when the sequence was at `seq`.

        The `prev` of its first publication is a seq at or before `seq`, not that of another publication: the broker
        proves by it that nothing was published in between (`ChannelSnapshot.quiet_since`).
        """
        self._last[channel] = ~seq

    def track_as_stored(self, channel: str, stored: ChannelSnapshot, seq: int, *, floor: int = 0) -> int:
        """Track a channel as the broker had it at `seq`, or from `floor` on if that is later. Returns from where."""
        if stored.last is None:
            self.track_quiet(channel, seq)
            return seq
        last = max(stored.last, floor)
        self.track(channel, last)
        return last

    def forget(self, channel: str) -> None:
        """Stop tracking this channel. Idempotent."""
        self._last.pop(channel, None)

    def advance_to(self, seq: int) -> None:
        """Record that all tracked channels were processed up to `seq`."""
        self.seq = max(self.seq, seq)

    def begin_epoch(self, epoch: str, seq: int) -> None:
        """Switch to another sequence, in which the node is at `seq`. The caller tracks every channel again."""
        self.epoch = epoch
        self.seq = seq

    def ignore_until(self, seq: int) -> None:
        """After a repair: ignore publications up to `seq` that are already processed. 0 ends that."""
        self._repaired_until = seq

    def observe(self, publication: Publication) -> Verdict:
        """What to do with the next live publication. DELIVER means that the position has already moved past it."""
        last = self._last.get(publication.channel)
        if last is None:
            return Verdict.UNTRACKED
        seq, prev = publication.seq, publication.prev
        if last < 0:
            last = ~last
            prev = max(prev, last)
        if publication.epoch == self.epoch and prev == last and last < seq <= self.seq + JUMP_MAX:
            self.accept(publication)
            return Verdict.DELIVER
        if self._repaired_until and (publication.epoch != self.epoch or seq <= last):
            return Verdict.ALREADY_REPAIRED
        return Verdict.LOOK_UP

    def accept(self, publication: Publication) -> None:
        """Record this publication as the last one of its channel."""
        self._last[publication.channel] = publication.seq
        self.seq = max(self.seq, publication.seq)

    def classify(
        self, publication: Publication, position: Cursor, past: ChannelSnapshot, *, limit: int
    ) -> Repair | Anomaly:
        """Classify a publication by a lookup of its channel after the last processed seq.

        The lookup (`position`, `past`) must have been made after the publication arrived.
        """
        if position.epoch != self.epoch:
            return Anomaly.NEW_EPOCH
        if position.seq < self.seq:
            return Anomaly.REGRESSION
        last = self.tracked_seq(publication.channel)
        if publication.epoch != self.epoch or publication.seq > position.seq:
            return Anomaly.FORGED
        if publication.seq <= last:
            return Anomaly.REPLAYED
        if past.last is None:
            return Repair(is_lost=True)
        if publication.seq > past.last or _contradicts(publication, last, past.last, past.publications, limit=limit):
            return Anomaly.FORGED
        if publication.prev < last and self._last[publication.channel] < 0:
            return Repair()
        return _repair(publication, last, past.publications, limit=limit)


def _repair(publication: Publication, last: int, stored: Sequence[Publication], *, limit: int) -> Repair:
    if publication.prev == last:
        return Repair()
    if publication.prev < last:
        # Its `prev` skips publications that this node has processed: only the stream can confirm it.
        return Repair(is_lost=publication.seq not in [entry.seq for entry in stored])
    missed = contiguous(last, publication.prev, stored, epoch=publication.epoch, limit=limit)
    return Repair(is_lost=True) if isinstance(missed, Gap) else Repair(missed)


def _contradicts(
    publication: Publication, last: int, pointer: int, stored: Sequence[Publication], *, limit: int
) -> bool:
    """Whether the channel's stream shows that the broker never made this publication."""
    same = next((entry for entry in stored if entry.seq == publication.seq), None)
    if same is not None:
        return same.id != publication.id or same.prev != publication.prev
    return not isinstance(contiguous(last, pointer, stored, epoch=publication.epoch, limit=limit), Gap)
