"""Several changes of one row are combined into one."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from tidings.contrib.changes import Changes, RowChange, combine, explicit_channels, one_per_row
from tidings.errors import BadChannel, TooLarge
from tidings.models import Op
from tidings.models.rules import Rule


@pytest.mark.parametrize(
    ("first", "then", "total"),
    [
        ("created", "updated", "created"),
        ("created", "deleted", None),
        (None, "deleted", None),
        (None, "created", "created"),
        ("updated", "updated", "updated"),
        ("updated", "deleted", "deleted"),
        ("deleted", "created", "updated"),
        ("deleted", "deleted", "deleted"),
    ],
)
def test_two_changes_are_combined(first: Op | None, then: Op, total: Op | None) -> None:
    assert combine(first, then) == total


def test_row_that_is_deleted_last_is_never_reported_as_existing() -> None:
    for first, then in product(get_args(Op), repeat=2):
        assert combine(first, then) in ((None, "deleted") if then == "deleted" else ("created", "updated"))


def test_rows_have_the_order_of_their_first_change_and_the_newest_object() -> None:
    changes = Changes(10)
    changes.add(1, "one", "created")
    changes.add(2, "two", "updated")
    changes.add(1, "one again", "updated")
    inner = Changes(10)
    inner.add(2, "two", "deleted")
    inner.add(3, "three", "created")
    changes.absorb(inner)
    assert changes.rows() == [("one again", "created"), ("two", "deleted"), ("three", "created")]


def test_new_object_under_the_key_of_a_deleted_one_is_an_updated_row() -> None:
    """Whatever their order: SQLAlchemy names new objects first. Lists ignore a row after a deletion of its version."""
    rows: list[tuple[object, Op]] = [("new 1", "created"), ("old 1", "deleted"), ("old 2", "deleted")]
    rows += [("old 3", "deleted"), ("new 3", "updated"), ("new 4", "created")]
    assert one_per_row(rows, lambda obj: str(obj)[-1]) == [
        RowChange("new 1", "updated", replaced="old 1"),
        RowChange("old 2", "deleted"),
        RowChange("new 3", "updated", replaced="old 3"),
        RowChange("new 4", "created"),
    ]


def test_too_many_rows_are_refused_but_known_rows_are_accepted() -> None:
    changes = Changes(2)
    changes.add(1, "one", "created")
    changes.add(2, "two", "created")
    changes.add(1, "one", "updated")
    with pytest.raises(TooLarge, match="more than 2 rows"):
        changes.add(3, "three", "created")


def test_created_and_deleted_row_is_left_out() -> None:
    changes = Changes(2)
    changes.add(1, "one", "created")
    changes.add(1, "one", "deleted")
    changes.add(1, "one", "deleted")
    outer = Changes(2)
    outer.absorb(changes)
    assert changes.rows() == outer.rows() == []


@pytest.mark.parametrize(
    ("returned", "channels"),
    [
        *((None, []), ([], []), ((), []), (iter(()), []), ("a:1", ["a:1"]), (("a:1", "a:2"), ["a:1", "a:2"])),
        (iter(["a:1", "a:1"]), ["a:1"]),
    ],
)
def test_function_may_return_no_channel(returned: Any, channels: list[str]) -> None:
    assert explicit_channels(Rule(channels=lambda _: returned), object()) == channels


@pytest.mark.parametrize("returned", [5, True, b"a:1", "", "nonsense", [None], [5], {"a:1": 1}, ["a:1", ""]])
def test_function_that_returns_no_channels_is_an_error_with_a_code(returned: Any) -> None:
    with pytest.raises(BadChannel):
        explicit_channels(Rule(channels=lambda _: returned), object())
