"""A client with one cursor for several buckets recovers exactly the missed publications."""

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
    seqs, lasts, publications = [0, 0, 0], dict.fromkeys(CHANNELS, 0), []
    for index in channels:
        channel, bucket = CHANNELS[index], index // 2
        seqs[bucket] += 1
        publications.append(publication(channel, seqs[bucket], lasts[channel], EPOCHS[bucket]))
        lasts[channel] = seqs[bucket]
    return publications


def publication(channel: str, seq: int, prev: int, epoch: str) -> Publication:
    return Publication(channel, seq, prev, epoch, f"{epoch}{seq}", 1, "-", 3, b'"x",1')


def after(published: list[Publication]) -> Cursor:
    """The position of a node that delivered these publications."""
    ends = [max([entry.seq for entry in published if entry.epoch == epoch], default=0) for epoch in EPOCHS]
    cursor = BucketPositions([Cursor(epoch, seq) for epoch, seq in zip(EPOCHS, ends, strict=True)]).cursor
    assert cursor is not None
    return cursor


def recover(since: Cursor, published: list[Publication]) -> list[Publication]:
    """The publications that a hub sends to a client that recovers with `since`."""
    position, publications = after(published), []
    for index, channel in enumerate(CHANNELS):
        stored = [entry for entry in published if entry.channel == channel]
        snapshot = ChannelSnapshot(stored[-1].seq if stored else 0, stored, epoch=EPOCHS[index // 2])
        result = missed_since(since, position, snapshot, limit=100)
        assert not isinstance(result, Gap)
        publications += result
    return rebase_cursors(since, position, sorted(publications, key=lambda entry: entry.seq))


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_interrupted_recovery_continues_at_its_position(channels: list[int], start: int, cut: int) -> None:
    published = publish(channels)
    since = after(published[:start])
    first = recover(since, published)
    assert {entry.id for entry in first} == {entry.id for entry in published[start:]}
    received = first[:cut]
    resumed = recover(Cursor.parse(received[-1].cursor) if received else since, published)
    assert {entry.id for entry in resumed} == {entry.id for entry in first[cut:]}
    assert len(resumed) == len(first[cut:])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_a_live_publication_resumes_every_bucket(channels: list[int]) -> None:
    published = publish(channels)
    positions: list[Cursor | None] = [Cursor(epoch, 0) for epoch in EPOCHS]
    for number, entry in enumerate(published):
        bucket = EPOCHS.index(entry.epoch)
        entry.other_places = BucketPositions(positions).others(bucket)
        positions[bucket] = Cursor(entry.epoch, entry.seq)
        remaining = recover(Cursor.parse(entry.cursor), published)
        assert {other.id for other in remaining} == {other.id for other in published[number + 1 :]}


def test_held_publication_is_never_behind_recovered_ones() -> None:
    position = Cursor("ea", 5, (Cursor("eb", 7), Cursor("ec", 2)))
    live = publication("c:0x", 6, 5, "ea")
    live.other_places = "~eb.9~ec.1"
    ahead = Cursor.parse(with_floor(position, live).cursor)
    assert [ahead.seq_in(epoch) for epoch in EPOCHS] == [6, 9, 2]


def test_cursor_of_one_bucket_is_unchanged() -> None:
    entry, position = publication("c:0x", 6, 5, "ea"), Cursor("ea", 9)
    assert with_floor(position, entry) is entry
    assert rebase_cursors(Cursor("ea", 3), position, [entry]) == [entry]
    assert entry.cursor == "ea.6"


def test_an_unknown_bucket_is_left_out_of_cursors() -> None:
    places = BucketPositions([Cursor("ea", 5), None, Cursor("ec", 1)])
    assert places.cursor is None
    assert places.others(0) == "~ec.1"
    assert str(places.combine({1: Cursor("eb", 4)})) == "eb.4~ea.5~ec.1"
    position = Cursor("ea", 5, (Cursor("ec", 1),))
    assert missed_since(Cursor("ea", 5), position, ChannelSnapshot(1, [], epoch="ec"), limit=9) == Gap("epoch")
    assert missed_since(Cursor("ec", 2), position, ChannelSnapshot(1, [], epoch="ec"), limit=9) == Gap("ahead")


def test_a_cursor_raised_to_a_floor_keeps_its_own_places() -> None:
    cursor = Cursor.parse("ea.5~eb.7")
    assert cursor_max(cursor, Cursor.parse("eb.9~ea.3~ec.8")) == Cursor.parse("ea.5~eb.9")
    assert cursor_max(cursor, Cursor.parse("ec.8")) == cursor
    assert cursor_max(Cursor("ea", 5), Cursor("ea", 6)) == Cursor("ea", 6)
