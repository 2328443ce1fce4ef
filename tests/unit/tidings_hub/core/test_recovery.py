"""A recovery is complete or a gap, whatever was dropped, trimmed or requested."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.core.recovery import ChannelSnapshot, Gap, contiguous, missed_from, missed_since

EPOCH = "e"


def publication(seq: int, prev: int, *, channel: str = "orders:1", epoch: str = EPOCH) -> Publication:
    return Publication(channel, seq, prev, epoch, f"id{seq}", 1, "-", 3, b'"x",1')


def chain(*seqs: int, first_prev: int = 0) -> list[Publication]:
    return [publication(seq, prev) for prev, seq in zip([first_prev, *seqs], seqs, strict=False)]


def result(since: int, position: int, last: int | None, stored: list[Publication], limit: int = 100) -> list[int] | str:
    missed = missed_since(Cursor(EPOCH, since), Cursor(EPOCH, position), ChannelSnapshot(last, stored), limit=limit)
    return missed.reason if isinstance(missed, Gap) else [entry.seq for entry in missed]


@pytest.mark.parametrize(
    ("since", "position", "last", "stored", "expected"),
    [
        (5, 9, 5, [], []),
        (7, 9, 5, [], []),
        (5, 9, 9, chain(7, 9, first_prev=5), [7, 9]),
        (6, 9, 9, chain(7, 9, first_prev=5), [7, 9]),
        (8, 9, 9, chain(7, 9, first_prev=5), [9]),
        (4, 9, 9, chain(7, 9, first_prev=5), "trimmed"),
        (5, 9, 9, [], "trimmed"),
        (5, 9, 9, chain(7, first_prev=5), "end"),
        (5, 9, 9, [publication(7, 5), publication(9, 8)], "hole"),
        (10, 9, 9, [], "ahead"),
        (5, 9, None, [], "pointer"),
        (0, 9, 9, [publication(9, 0, epoch="old")], "epoch"),
    ],
)
def test_missed_publications_or_the_reason_of_a_gap(
    since: int, position: int, last: int | None, stored: list[Publication], expected: object
) -> None:
    assert result(since, position, last, stored) == expected


@pytest.mark.parametrize(("quiet_since", "expected"), [(4, []), (5, []), (6, "pointer"), (None, "pointer")])
def test_channel_without_a_pointer_is_complete_if_nothing_came_after_the_cursor(
    quiet_since: int | None, expected: object
) -> None:
    snapshot = ChannelSnapshot(None, [], quiet_since=quiet_since)
    missed = missed_since(Cursor(EPOCH, 5), Cursor(EPOCH, 9), snapshot, limit=9)
    assert (missed.reason if isinstance(missed, Gap) else missed) == expected


def test_another_epoch_is_a_gap() -> None:
    assert missed_since(Cursor("old", 5), Cursor(EPOCH, 9), ChannelSnapshot(5, []), limit=9) == Gap("epoch")


def test_recovery_up_to_the_limit() -> None:
    stored = chain(*range(1, 6))
    assert result(0, 5, 5, stored, limit=5) == [1, 2, 3, 4, 5]
    assert result(0, 5, 5, stored, limit=4) == "limit"


def test_publications_past_the_pointer_are_ignored() -> None:
    missed = contiguous(0, 2, chain(1, 2, 3), epoch=EPOCH, limit=9)
    assert not isinstance(missed, Gap)
    assert [entry.seq for entry in missed] == [1, 2]


@given(
    st.lists(st.sampled_from(["orders:1", "orders:2"]), max_size=40),
    st.data(),
)
def test_complete_or_a_gap_for_random_losses(channels: list[str], data: st.DataObject) -> None:
    """Publish at random, store any part of the stream, recover from any cursor."""
    published: list[Publication] = []
    pointer = 0
    for seq, channel in enumerate(channels, start=1):
        if channel == "orders:1":
            published.append(publication(seq, pointer))
            pointer = seq
    stored = [entry for entry in published if data.draw(st.booleans())] if data.draw(st.booleans()) else published
    trim = data.draw(st.integers(0, len(stored)))
    stored = stored[trim:]
    since = data.draw(st.integers(0, len(channels) + 2))
    limit = data.draw(st.integers(1, 50))
    position = Cursor(EPOCH, len(channels))
    last = data.draw(st.sampled_from([pointer, None]))
    # The broker reads the publications after the cursor, at most one more than the limit.
    snapshot = [entry for entry in stored if entry.seq > since][: limit + 1]
    missed = missed_since(Cursor(EPOCH, since), position, ChannelSnapshot(last, snapshot), limit=limit)
    expected = [entry for entry in published if entry.seq > since]
    if isinstance(missed, Gap):
        is_complete = snapshot == expected and last is not None and since <= position.seq and len(expected) <= limit
        assert not is_complete, "a complete history was reported as a gap"
    else:
        assert missed == expected


def test_recovery_from_a_later_position_than_since() -> None:
    stored = chain(7, 9, first_prev=5)
    position, since, start = Cursor(EPOCH, 9), Cursor(EPOCH, 5), Cursor(EPOCH, 7)
    missed = missed_from(start, since, position, ChannelSnapshot(9, stored), limit=100)
    assert not isinstance(missed, Gap)
    assert [entry.seq for entry in missed] == [9]
    # Neither of them may be doubted.
    for doubted, is_gap in (((1, 4), False), ((1, 5), True), ((6, 6), False), ((7, 8), True), ((8, 9), False)):
        channel = ChannelSnapshot(9, stored, (doubted,))
        assert isinstance(missed_from(start, since, position, channel, limit=100), Gap) is is_gap, doubted
    doubted_start = ChannelSnapshot(9, stored, ((7, 8),))
    assert not isinstance(missed_from(since, since, position, doubted_start, limit=100), Gap)
    # The read after `since` exceeds the limit: publications after the start are cut off, so it is a gap.
    assert isinstance(missed_from(start, since, position, ChannelSnapshot(9, stored[:1]), limit=1), Gap)


def test_doubted_cursor_is_a_gap_also_if_the_pointer_has_expired() -> None:
    """The pointer of the lost publication is gone, and nothing was published after the cursor."""
    channel = ChannelSnapshot(None, [], ((2, 4),), quiet_since=3)
    assert missed_since(Cursor(EPOCH, 4), Cursor(EPOCH, 9), channel, limit=100) == Gap("doubted")
    assert missed_since(Cursor(EPOCH, 5), Cursor(EPOCH, 9), channel, limit=100) == []


@pytest.mark.parametrize(("seq", "is_doubted"), [(2, False), (3, True), (4, True), (5, False), (7, True), (8, False)])
def test_cursor_between_two_doubted_ranges_is_trusted(seq: int, is_doubted: bool) -> None:
    channel = ChannelSnapshot(9, chain(*range(1, 10)), ((3, 4), (7, 7)))
    missed = missed_since(Cursor(EPOCH, seq), Cursor(EPOCH, 9), channel, limit=100)
    assert (missed == Gap("doubted")) is is_doubted
    assert isinstance(missed, Gap) is is_doubted


@given(st.lists(st.integers(1, 30), unique=True, max_size=12), st.data())
def test_shared_snapshot_gives_each_client_what_a_snapshot_of_its_own_gives(
    seqs: list[int], data: st.DataObject
) -> None:
    """Many clients read one snapshot, with any cursors. Some snapshots have a hole or another epoch."""
    stored = chain(*sorted(seqs))
    for index, entry in enumerate(stored):
        change = data.draw(st.sampled_from(["", "", "", "hole", "epoch"]))
        if change:
            prev, epoch = (entry.prev - 1, EPOCH) if change == "hole" else (entry.prev, "old")
            stored[index] = publication(entry.seq, prev, epoch=epoch)
    last = data.draw(st.sampled_from([stored[-1].seq if stored else 0, 31]))
    shared = ChannelSnapshot(last, stored)
    limit = data.draw(st.integers(1, 12))
    for after in data.draw(st.lists(st.integers(0, 31), min_size=1, max_size=8)):
        missed = missed_since(Cursor(EPOCH, after), Cursor(EPOCH, 31), shared, limit=limit)
        alone = contiguous(after, last, stored, epoch=EPOCH, limit=limit)
        assert isinstance(missed, Gap) == isinstance(alone, Gap)
        assert isinstance(missed, Gap) or missed == alone


def test_clients_cannot_change_what_they_share() -> None:
    shared = ChannelSnapshot(3, chain(1, 2, 3))
    missed = missed_since(Cursor(EPOCH, 0), Cursor(EPOCH, 3), shared, limit=9)
    assert isinstance(missed, list)
    missed.clear()
    assert len(shared.publications) == 3
