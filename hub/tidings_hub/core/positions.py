"""How far this node is in each channel, and what a live publication means for that (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.core.recovery import ChannelSnapshot, Gap, contiguous

# Between two looks at the broker a sequence seldom goes further than this; what claims to be beyond
# it is looked up before it is believed, so that one forged number cannot spoil the node's position.
JUMP_MAX = 10_000


class Verdict(Enum):
    """What to do with a live publication."""

    DELIVER = auto()
    LOOK_UP = auto()
    """Look at the broker first, then `judge`."""
    ALREADY_REPAIRED = auto()
    """Already part of what was repaired: drop it."""
    UNTRACKED = auto()
    """This node is not (yet) responsible for its channel."""


class Anomaly(Enum):
    """What a look at the broker said of a publication that is not simply the next one."""

    NEW_EPOCH = auto()
    REGRESSION = auto()
    """The broker's sequence is behind this node, in the same epoch."""
    FORGED = auto()
    REPLAYED = auto()


@dataclass(slots=True, frozen=True)
class Repair:
    """Deliver `missed`, then the publication. `lost`: first tell that the channel has a gap."""

    missed: list[Publication] = field(default_factory=list)
    is_lost: bool = False


class Positions:
    """The last seq of every tracked channel, and the seq up to which all of them were processed."""

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.seq = 0
        self._last: dict[str, int] = {}
        self._settled = 0

    def __len__(self) -> int:
        return len(self._last)

    @property
    def cursor(self) -> Cursor | None:
        """Up to where the sequence was processed; None before the first contact."""
        return None if self.epoch is None else Cursor(self.epoch, self.seq)

    def channels(self) -> list[str]:
        """The tracked channels."""
        return list(self._last)

    def last_seq(self, channel: str) -> int | None:
        """The channel's last processed seq; None if it is not tracked."""
        return self._last.get(channel)

    def tracked_seq(self, channel: str) -> int:
        """As `last`, for a channel that is tracked."""
        return self._last[channel]

    def track(self, channel: str, last: int) -> None:
        """Be responsible for what comes after `last` in this channel."""
        self._last[channel] = last

    def forget(self, channel: str) -> None:
        """Be responsible for this channel no longer. Idempotent."""
        self._last.pop(channel, None)

    def advance_to(self, seq: int) -> None:
        """All tracked channels were processed up to `seq`."""
        self.seq = max(self.seq, seq)

    def begin_epoch(self, epoch: str, seq: int) -> None:
        """Another sequence: the node is at `seq` in it; the channels' lasts must be tracked anew."""
        self.epoch = epoch
        self.seq = seq

    def ignore_until(self, seq: int) -> None:
        """Until the next call, what is not beyond `seq` was already dealt with; 0 ends that."""
        self._settled = seq

    def observe(self, publication: Publication) -> Verdict:
        """What to do with the next publication that the link brought; DELIVER has moved the position."""
        last = self._last.get(publication.channel)
        if last is None:
            return Verdict.UNTRACKED
        seq = publication.seq
        if publication.epoch == self.epoch and publication.prev == last and last < seq <= self.seq + JUMP_MAX:
            self.accept(publication)
            return Verdict.DELIVER
        if self._settled and (publication.epoch != self.epoch or seq <= last):
            return Verdict.ALREADY_REPAIRED
        return Verdict.LOOK_UP

    def accept(self, publication: Publication) -> None:
        """This publication is the channel's last one now."""
        self._last[publication.channel] = publication.seq
        self.seq = max(self.seq, publication.seq)

    def classify(
        self, publication: Publication, position: Cursor, past: ChannelSnapshot, *, limit: int
    ) -> Repair | Anomaly:
        """What a publication is, given a look at its channel after `last` that was taken after it came."""
        if position.epoch != self.epoch:
            return Anomaly.NEW_EPOCH
        if position.seq < self.seq:
            return Anomaly.REGRESSION
        last = self._last[publication.channel]
        if publication.epoch != self.epoch or publication.seq > position.seq:
            return Anomaly.FORGED
        if publication.seq <= last:
            return Anomaly.REPLAYED
        if past.last is None:
            return Repair(is_lost=True)
        if publication.seq > past.last or _contradicts(publication, last, past.last, past.publications, limit=limit):
            return Anomaly.FORGED
        return _repair(publication, last, past.publications, limit=limit)


def _repair(publication: Publication, last: int, kept: Sequence[Publication], *, limit: int) -> Repair:
    if publication.prev == last:
        return Repair()
    if publication.prev < last:
        # Its chain leaves out what this node has seen: only its stream can vouch for it.
        return Repair(is_lost=publication.seq not in [one.seq for one in kept])
    missed = contiguous(last, publication.prev, kept, epoch=publication.epoch, limit=limit)
    return Repair(is_lost=True) if isinstance(missed, Gap) else Repair(missed)


def _contradicts(publication: Publication, last: int, pointer: int, kept: Sequence[Publication], *, limit: int) -> bool:
    """Whether the channel's stream shows that this publication was never made."""
    same = [one for one in kept if one.seq == publication.seq]
    if same:
        return same[0].id != publication.id or same[0].prev != publication.prev
    return not isinstance(contiguous(last, pointer, kept, epoch=publication.epoch, limit=limit), Gap)
