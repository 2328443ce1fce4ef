"""`missed` never says complete when something is missing, whatever was dropped, trimmed or asked."""

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


def result(since: int, position: int, last: int | None, kept: list[Publication], limit: int = 100) -> list[int] | str:
    found = missed_since(Cursor(EPOCH, since), Cursor(EPOCH, position), ChannelSnapshot(last, kept), limit=limit)
    return found.reason if isinstance(found, Gap) else [one.seq for one in found]


@pytest.mark.parametrize(
    ("since", "position", "last", "kept", "expected"),
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
def test_the_rule(since: int, position: int, last: int | None, kept: list[Publication], expected: object) -> None:
    assert result(since, position, last, kept) == expected


def test_another_epoch_is_a_gap() -> None:
    assert missed_since(Cursor("old", 5), Cursor(EPOCH, 9), ChannelSnapshot(5, []), limit=9) == Gap("epoch")


def test_the_limit_is_how_many_are_still_recovered() -> None:
    kept = chain(*range(1, 6))
    assert result(0, 5, 5, kept, limit=5) == [1, 2, 3, 4, 5]
    assert result(0, 5, 5, kept, limit=4) == "limit"


def test_publications_past_the_pointer_are_ignored() -> None:
    found = contiguous(0, 2, chain(1, 2, 3), epoch=EPOCH, limit=9)
    assert not isinstance(found, Gap)
    assert [one.seq for one in found] == [1, 2]


@given(
    st.lists(st.sampled_from(["orders:1", "orders:2"]), max_size=40),
    st.data(),
)
def test_complete_or_a_gap_for_random_losses(channels: list[str], data: st.DataObject) -> None:
    """Publish at random, keep any part of the stream, return with any cursor."""
    made: list[Publication] = []
    pointer = 0
    for seq, channel in enumerate(channels, start=1):
        if channel == "orders:1":
            made.append(publication(seq, pointer))
            pointer = seq
    kept = [one for one in made if data.draw(st.booleans())] if data.draw(st.booleans()) else made
    trim = data.draw(st.integers(0, len(kept)))
    kept = kept[trim:]
    since = data.draw(st.integers(0, len(channels) + 2))
    limit = data.draw(st.integers(1, 50))
    position = Cursor(EPOCH, len(channels))
    last = data.draw(st.sampled_from([pointer, None]))
    # What the broker reads: those after the cursor, at most one more than the limit.
    read = [one for one in kept if one.seq > since][: limit + 1]
    found = missed_since(Cursor(EPOCH, since), position, ChannelSnapshot(last, read), limit=limit)
    truth = [one for one in made if one.seq > since]
    if isinstance(found, Gap):
        whole = read == truth and last is not None and since <= position.seq and len(truth) <= limit
        assert not whole, "a complete past was called a gap"
    else:
        assert found == truth


def test_from_a_later_place_than_ones_own() -> None:
    kept = chain(7, 9, first_prev=5)
    position, since, start = Cursor(EPOCH, 9), Cursor(EPOCH, 5), Cursor(EPOCH, 7)
    found = missed_from(start, since, position, ChannelSnapshot(9, kept), limit=100)
    assert not isinstance(found, Gap)
    assert [one.seq for one in found] == [9]
    # What is doubted was looked up for `since`: of later places nobody can say.
    doubted = ChannelSnapshot(9, kept, (1, 2))
    assert missed_from(start, since, position, doubted, limit=100) == Gap("doubted")
    assert not isinstance(missed_from(since, since, position, doubted, limit=100), Gap)
    # Read after `since`, with more than the limit: what comes after the place is cut off, and that shows.
    assert isinstance(missed_from(start, since, position, ChannelSnapshot(9, kept[:1]), limit=1), Gap)
