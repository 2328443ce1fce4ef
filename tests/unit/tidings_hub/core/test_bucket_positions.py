"""Wherever a client with one cursor for several buckets is cut off, it is given exactly the rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.core.bucket_positions import BucketPositions, cursor_max, rebase_cursors, with_floor
from tidings_hub.core.recovery import ChannelSnapshot, Gap, missed_since

EPOCHS = ("ea", "eb", "ec")
CHANNELS = [f"c:{bucket}{name}" for bucket in range(3) for name in "xy"]


def publish(channels: list[int]) -> list[Publication]:
    """Publications in these channels (by index), numbered per bucket."""
    seqs, lasts, found = [0, 0, 0], dict.fromkeys(CHANNELS, 0), []
    for index in channels:
        channel, bucket = CHANNELS[index], index // 2
        seqs[bucket] += 1
        found.append(publication(channel, seqs[bucket], lasts[channel], EPOCHS[bucket]))
        lasts[channel] = seqs[bucket]
    return found


def publication(channel: str, seq: int, prev: int, epoch: str) -> Publication:
    return Publication(channel, seq, prev, epoch, f"{epoch}{seq}", 1, "-", 3, b'"x",1')


def after(published: list[Publication]) -> Cursor:
    """Where a node is that delivered these."""
    ends = [max([one.seq for one in published if one.epoch == epoch], default=0) for epoch in EPOCHS]
    cursor = BucketPositions([Cursor(epoch, seq) for epoch, seq in zip(EPOCHS, ends, strict=True)]).cursor
    assert cursor is not None
    return cursor


def recover(since: Cursor, published: list[Publication]) -> list[Publication]:
    """What a hub sends to who returns with `since` when all this was published."""
    position, found = after(published), []
    for index, channel in enumerate(CHANNELS):
        kept = [one for one in published if one.channel == channel]
        past = ChannelSnapshot(kept[-1].seq if kept else 0, kept, epoch=EPOCHS[index // 2])
        result = missed_since(since, position, past, limit=100)
        assert not isinstance(result, Gap)
        found += result
    return rebase_cursors(since, position, sorted(found, key=lambda one: one.seq))


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_a_recovery_that_is_cut_off_goes_on_where_it_was(channels: list[int], had: int, cut: int) -> None:
    published = publish(channels)
    since = after(published[:had])
    first = recover(since, published)
    assert {one.id for one in first} == {one.id for one in published[had:]}
    seen = first[:cut]
    again = recover(Cursor.parse(seen[-1].cursor) if seen else since, published)
    assert {one.id for one in again} == {one.id for one in first[cut:]}
    assert len(again) == len(first[cut:])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_a_live_publication_resumes_every_bucket(channels: list[int]) -> None:
    published = publish(channels)
    at: list[Cursor | None] = [Cursor(epoch, 0) for epoch in EPOCHS]
    for number, one in enumerate(published):
        bucket = EPOCHS.index(one.epoch)
        one.other_places = BucketPositions(at).others(bucket)
        at[bucket] = Cursor(one.epoch, one.seq)
        rest = recover(Cursor.parse(one.cursor), published)
        assert {each.id for each in rest} == {each.id for each in published[number + 1 :]}


def test_what_was_held_back_is_never_behind_what_was_recovered() -> None:
    position = Cursor("ea", 5, (Cursor("eb", 7), Cursor("ec", 2)))
    held = publication("c:0x", 6, 5, "ea")
    held.other_places = "~eb.9~ec.1"
    ahead = Cursor.parse(with_floor(position, held).cursor)
    assert [ahead.seq_in(epoch) for epoch in EPOCHS] == [6, 9, 2]


def test_one_bucket_is_left_as_it_is() -> None:
    one, position = publication("c:0x", 6, 5, "ea"), Cursor("ea", 9)
    assert with_floor(position, one) is one
    assert rebase_cursors(Cursor("ea", 3), position, [one]) == [one]
    assert one.cursor == "ea.6"


def test_an_unknown_bucket_is_left_out_of_cursors() -> None:
    places = BucketPositions([Cursor("ea", 5), None, Cursor("ec", 1)])
    assert places.cursor is None
    assert places.others(0) == "~ec.1"
    assert str(places.combine({1: Cursor("eb", 4)})) == "eb.4~ea.5~ec.1"
    position = Cursor("ea", 5, (Cursor("ec", 1),))
    assert missed_since(Cursor("ea", 5), position, ChannelSnapshot(1, [], epoch="ec"), limit=9) == Gap("epoch")
    assert missed_since(Cursor("ec", 2), position, ChannelSnapshot(1, [], epoch="ec"), limit=9) == Gap("ahead")


def test_a_cursor_raised_to_a_floor_keeps_its_own_places() -> None:
    own = Cursor.parse("ea.5~eb.7")
    assert cursor_max(own, Cursor.parse("eb.9~ea.3~ec.8")) == Cursor.parse("ea.5~eb.9")
    assert cursor_max(own, Cursor.parse("ec.8")) == own
    assert cursor_max(Cursor("ea", 5), Cursor("ea", 6)) == Cursor("ea", 6)
