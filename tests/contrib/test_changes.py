"""Several changes of one row are combined into one."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from tidings.contrib.changes import Changes, combine
from tidings.errors import TooLarge
from tidings.models import Op


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
