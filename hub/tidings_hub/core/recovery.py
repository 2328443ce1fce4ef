"""What a reconnecting client missed, or a gap where it cannot be proven complete.

`recovered: true` is never partial (docs/architecture.md#connect).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication


@dataclass(slots=True, frozen=True)
class Gap:
    """Publications may be missing. `reason` is for logs and metrics."""

    reason: str


@dataclass(slots=True, frozen=True)
class ChannelSnapshot:
    """One channel as a broker stores it.

    `last`: the channel's pointer, the seq of its last publication. None: the pointer was missing; the broker then sets
    it to the position.
    `publications`: the stored publications after the requested seq, oldest first.
    `doubted`: the first and the last seq of cursors that may be too far ahead, because a node lost a publication.
    `epoch`: that of the channel's bucket, if there are several buckets; otherwise empty, and the position's applies.
    """

    last: int | None
    publications: list[Publication]
    doubted: tuple[int, int] | None = None
    epoch: str = ""


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
    if channel.last is None:
        return Gap("pointer")
    if channel.doubted is not None and channel.doubted[0] <= after <= channel.doubted[1]:
        return Gap("doubted")
    return contiguous(after, channel.last, channel.publications, epoch=epoch, limit=limit)


def missed_from(
    start: Cursor, since: Cursor, position: Cursor, channel: ChannelSnapshot, *, limit: int
) -> list[Publication] | Gap:
    """As `missed_since`, but from `start`, which is later than the client's cursor `since`.

    `channel` was read after `since` and states whether it is doubted. For `start` this is unknown, so any doubt
    is a gap.
    """
    if start != since and channel.doubted is not None:
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
