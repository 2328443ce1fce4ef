"""What a reconnecting client missed, or a gap where it cannot be proven complete.

`recovered: true` is never partial (docs/architecture.md#connect).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.core.seq_ranges import SeqRange, covers


@dataclass(slots=True, frozen=True)
class Gap:
    """Publications may be missing. `reason` is for logs and metrics."""

    reason: str


@dataclass(slots=True)
class ChannelSnapshot:
    """One channel as a broker stores it. Clients that recover at the same time share it; none of them changes it.

    `last`: the channel's pointer, the seq of its last publication. None: it has none.
    `quiet_since`: without a pointer, a seq after which nothing was published in the channel, up to the position
    (docs/architecture.md#why-horizon). Of what was published before, nothing is known. None: nothing is proven.
    `publications`: the stored publications after the requested seq, oldest first.
    `doubted`: the ranges of cursors that may be too far ahead, because a node lost a publication. They may overlap.
    `epoch`: that of the channel's bucket, if there are several buckets; otherwise empty, and the position's applies.
    `is_unread`: there may be publications, but the bound of the read for all channels was reached before them.
    """

    last: int | None
    publications: list[Publication]
    doubted: tuple[SeqRange, ...] = ()
    epoch: str = ""
    quiet_since: int | None = None
    is_unread: bool = False
    # Whether `publications` have no hole and end at `last`, in the epoch for which this was checked; see `is_chain`.
    _checked_epoch: str | None = field(default=None, init=False, repr=False, compare=False)
    _is_chain: bool = field(default=False, init=False, repr=False, compare=False)

    def is_quiet_after(self, seq: int) -> bool:
        """Whether the channel has no pointer, and provably no publication after `seq`."""
        return self.last is None and self.quiet_since is not None and self.quiet_since <= seq

    def is_chain(self, epoch: str) -> bool:
        """Whether `publications` are the last ones of the channel in this epoch, without a hole. Checked once."""
        if self._checked_epoch != epoch:
            stored = self.publications
            self._checked_epoch = epoch
            self._is_chain = (
                bool(stored)
                and stored[-1].seq == self.last
                and all(publication.epoch == epoch for publication in stored)
                and all(
                    publication.prev == previous.seq < publication.seq for previous, publication in pairwise(stored)
                )
            )
        return self._is_chain


@dataclass(slots=True, frozen=True)
class HistorySnapshot:
    """Several channels, read atomically (per bucket). `position` is the end of the sequence at that moment.

    `doubts`: the serial number of the doubts that the broker knew. A different number means that there are new ones.
    """

    position: Cursor
    channels: dict[str, ChannelSnapshot]
    doubts: int = 0


def missed_since(since: Cursor, position: Cursor, channel: ChannelSnapshot, *, limit: int) -> list[Publication] | Gap:
    """The publications of one channel after `since`, oldest first, or a Gap if one may be missing.

    `channel` was read at `position`. More than `limit` publications are a gap, too: a reload is cheaper for the client.
    """
    epoch = channel.epoch or position.epoch
    after, end = since.seq_in(epoch), position.seq_in(epoch)
    if after is None:
        return Gap("epoch")
    if end is None or after > end:
        return Gap("ahead")
    if channel.doubted and covers(channel.doubted, after):
        # First: without a pointer, only what follows the cursor is proven, not that the client has what precedes it.
        return Gap("doubted")
    if channel.last is None:
        return [] if channel.is_quiet_after(after) else Gap("pointer")
    if after < channel.last and channel.is_chain(epoch):
        return _end_of_chain(after, channel.publications, limit=limit)
    return contiguous(after, channel.last, channel.publications, epoch=epoch, limit=limit)


def _end_of_chain(after: int, chain: Sequence[Publication], *, limit: int) -> list[Publication] | Gap:
    """As `contiguous`, for publications that have no hole. Thousands of clients may share them."""
    start = bisect_right(chain, after, key=_seq_of)
    if len(chain) - start > limit:
        return Gap("limit")
    if chain[start].prev > after:
        return Gap("trimmed")
    return list(chain[start:])


def missed_from(
    start: Cursor, since: Cursor, position: Cursor, channel: ChannelSnapshot, *, limit: int
) -> list[Publication] | Gap:
    """As `missed_since`, but from `start`, which is later than the client's cursor `since`.

    `channel` was read after `since`, so it has the doubts about both. If one of them is doubted, it is a gap.
    """
    if start != since and channel.doubted:
        after = since.seq_in(channel.epoch or position.epoch)
        if after is None or covers(channel.doubted, after):
            return Gap("doubted")
    return missed_since(start, position, channel, limit=limit)


def contiguous(
    after: int, last: int, publications: Sequence[Publication], *, epoch: str, limit: int
) -> list[Publication] | Gap:
    """The publications of a channel after `after` up to its pointer `last`, or a Gap if they have a hole.

    `publications` are the known ones in order of seq. Those up to `after` are ignored.
    """
    if last <= after:
        return []
    missed = [publication for publication in publications if after < publication.seq <= last]
    if len(missed) > limit:
        return Gap("limit")
    if not missed or missed[0].prev > after:
        return Gap("trimmed")
    if any(publication.epoch != epoch for publication in missed):
        return Gap("epoch")
    if any(publication.prev != previous.seq for previous, publication in pairwise(missed)):
        return Gap("hole")
    if missed[-1].seq != last:
        return Gap("end")
    return missed


def _seq_of(publication: Publication) -> int:
    return publication.seq
