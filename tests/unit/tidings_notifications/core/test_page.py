from __future__ import annotations

import pytest

from tidings.errors import BadRequest
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.ids import first_id
from tidings_notifications.core.notification import Place, StoredNotification
from tidings_notifications.core.page import LIMIT_MAX, PageQuery, check_before, page_of


@pytest.mark.parametrize("limit", [0, -1, LIMIT_MAX + 1, True, 1.0, "5"])
def test_limit_is_a_number_from_1_to_the_largest(limit: object) -> None:
    with pytest.raises(BadRequest, match="limit"):
        PageQuery(limit=limit)  # type: ignore[arg-type]


def test_before_is_an_id() -> None:
    assert check_before(None) is None
    assert check_before(first_id(5)) == first_id(5)
    with pytest.raises(BadRequest, match="before"):
        PageQuery(before="5")


def test_next_is_the_last_id_if_there_are_more() -> None:
    rows = [StoredNotification(str(number), "7", Place.INBOX, "order", "x", 5) for number in range(3)]
    counts = InboxCounts("7", 1, 2, 3)
    page = page_of(rows, counts, PageQuery(limit=2))
    assert ([item["id"] for item in page.items], page.next) == (["0", "1"], "1")
    assert page_of(rows, counts, PageQuery(limit=3)).next is None
    assert page.to_wire() == {
        "items": page.items,
        "counts": {"unseen": 1, "unread": 2},
        "version": 3,
        "next": "1",
    }
