from __future__ import annotations

import pytest

from tidings.errors import BadRequest, TooLarge
from tidings_notifications.core.ids import first_id
from tidings_notifications.core.marks import (
    IDS_MAX,
    Action,
    ItemState,
    check_action,
    check_ids,
    marked,
    split_ids,
)
from tidings_notifications.core.notification import Place

NEW = ItemState("x", Place.INBOX, None, None, None)
READ = ItemState("x", Place.INBOX, 1, 2, None)
ARCHIVED = ItemState("x", Place.ARCHIVED, 1, 2, 3)


@pytest.mark.parametrize(
    ("state", "action", "after"),
    [
        (NEW, Action.SEEN, ItemState("x", Place.INBOX, 9, None, None)),
        (NEW, Action.READ, ItemState("x", Place.INBOX, 9, 9, None)),
        (ItemState("x", Place.INBOX, 1, None, None), Action.READ, ItemState("x", Place.INBOX, 1, 9, None)),
        (READ, Action.UNREAD, ItemState("x", Place.INBOX, 1, None, None)),
        (READ, Action.ARCHIVE, ItemState("x", Place.ARCHIVED, 1, 2, 9)),
        (ARCHIVED, Action.UNARCHIVE, READ),
        (NEW, Action.UNREAD, NEW),
        (NEW, Action.UNARCHIVE, NEW),
        (READ, Action.SEEN, READ),
        (READ, Action.READ, READ),
        (ARCHIVED, Action.ARCHIVE, ARCHIVED),
    ],
)
def test_mark(state: ItemState, action: Action, after: ItemState) -> None:
    assert marked(state, action, 9) == after
    assert marked(after, action, 10) == after, "the same mark again changes nothing"


@pytest.mark.parametrize("name", [None, 1, "", "SEEN", "delete", Action])
def test_unknown_action_is_refused(name: object) -> None:
    with pytest.raises(BadRequest, match="seen"):
        check_action(name, for_all=False)


def test_some_actions_are_not_for_all() -> None:
    assert check_action("unread", for_all=False) is Action.UNREAD
    assert check_action("read", for_all=True) is Action.READ
    with pytest.raises(BadRequest, match="all"):
        check_action("unread", for_all=True)


def test_ids_are_split_without_repetitions() -> None:
    known = first_id(1)
    assert split_ids([known, "b", known, "a", "b"]) == ([known], ["b", "a"])
    assert len(check_ids([str(number) for number in range(IDS_MAX)])) == IDS_MAX
    with pytest.raises(TooLarge):
        check_ids(["x"] * (IDS_MAX + 1))
    for wrong in ("x", [], ["x", 7]):
        with pytest.raises(BadRequest, match="each of them a text"):
            check_ids(wrong)
