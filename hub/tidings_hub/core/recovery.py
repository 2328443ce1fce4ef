"""What a returning client missed, or that nobody can prove it (DESIGN 3).

`recovered: true` is never partial: what cannot be proven complete is a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication


@dataclass(slots=True, frozen=True)
class Gap:
    """What was missed cannot be given back completely; `reason` is for logs and metrics."""

    reason: str


@dataclass(slots=True, frozen=True)
class ChannelSnapshot:
    """One channel as a broker remembers it.

    `last` is the channel's pointer, the seq of its last publication; None if it was missing (it
    is set to the position then). `publications` are the kept ones after the asked seq, oldest first.
    `doubted`: the first and the last seq of the cursors that may lack a publication which a node lost.
    `epoch` is that of the channel's bucket, where there are several; otherwise the position's.
    """

    last: int | None
    publications: list[Publication]
    doubted: tuple[int, int] | None = None
    epoch: str = ""


@dataclass(slots=True, frozen=True)
class HistorySnapshot:
    """Several channels in one atomic look (one per bucket); `position` is the sequence's end at that moment.

    `doubts` is the serial number of the doubts that the broker knew then: another one means news.
    """

    position: Cursor
    channels: dict[str, ChannelSnapshot]
    doubts: int = 0


def missed_since(since: Cursor, position: Cursor, past: ChannelSnapshot, *, limit: int) -> list[Publication] | Gap:
    """The publications after `since` in one channel, oldest first; Gap if one may be missing.

    `past` was read at `position`. More than `limit` publications are a gap, too: the client is
    better served by a reload.
    """
    epoch = past.epoch or position.epoch
    after, end = since.seq_in(epoch), position.seq_in(epoch)
    if after is None:
        return Gap("epoch")
    if end is None or after > end:
        return Gap("ahead")
    if past.last is None:
        return Gap("pointer")
    if past.doubted is not None and past.doubted[0] <= after <= past.doubted[1]:
        return Gap("doubted")
    return contiguous(after, past.last, past.publications, epoch=epoch, limit=limit)


def missed_from(
    start: Cursor, since: Cursor, position: Cursor, past: ChannelSnapshot, *, limit: int
) -> list[Publication] | Gap:
    """As `missed` after `start`, a later place than the client's own cursor `since`, which `past` was read after.

    What is doubted of the channel is known for `since` only, so any doubt is a gap.
    """
    if start != since and past.doubted is not None:
        return Gap("doubted")
    return missed_since(start, position, past, limit=limit)


def contiguous(
    after: int, last: int, publications: Sequence[Publication], *, epoch: str, limit: int
) -> list[Publication] | Gap:
    """The publications of a channel from `after` (not included) to its pointer `last` without a hole.

    `publications` are what is known of them, in order of seq; those up to `after` are passed over.
    """
    if last <= after:
        return []
    found = [one for one in publications if after < one.seq <= last]
    if len(found) > limit:
        return Gap("limit")
    if not found or found[0].prev > after:
        return Gap("trimmed")
    if any(one.epoch != epoch for one in found):
        return Gap("epoch")
    if any(one.prev != before.seq for before, one in pairwise(found)):
        return Gap("hole")
    if found[-1].seq != last:
        return Gap("end")
    return found
