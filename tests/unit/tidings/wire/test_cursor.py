from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.vectors import examples
from tidings.errors import BadCursor
from tidings.wire.cursor import Cursor

VECTORS = examples("cursor")


@pytest.mark.parametrize("example", VECTORS["good"], ids=lambda example: example["text"])
def test_a_cursor_is_read_and_written_back(example: dict[str, str]) -> None:
    cursor = Cursor.parse(example["text"])
    assert (cursor.epoch, str(cursor.seq)) == (example["epoch"], example["seq"])
    assert str(cursor) == example["text"]


@pytest.mark.parametrize("text", VECTORS["bad"], ids=ascii)
def test_malformed_cursor_is_rejected(text: object) -> None:
    with pytest.raises(BadCursor):
        Cursor.parse(text)


@given(st.text(alphabet="abcXYZ019_-", min_size=1, max_size=32), st.integers(0, 2**63 - 1))
def test_written_cursor_parses_to_the_same_cursor(epoch: str, seq: int) -> None:
    assert Cursor.parse(str(Cursor(epoch, seq))) == Cursor(epoch, seq)


def test_cursor_has_a_place_in_every_sequence() -> None:
    cursor = Cursor.parse("b.3~a.1~c.0")
    assert [cursor.seq_in(epoch) for epoch in "abcd"] == [1, 3, 0, None]
    assert str(cursor.capped("a", 0)) == "b.3~a.0~c.0"
    assert str(cursor.capped("b", 1)) == "b.1~a.1~c.0"
    assert cursor.capped("b", 9) == cursor == cursor.capped("d", 0)


@given(st.text())
def test_any_text_is_a_cursor_or_an_error(text: str) -> None:
    try:
        assert str(Cursor.parse(text)) == text
    except BadCursor:
        return
