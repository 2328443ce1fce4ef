from __future__ import annotations

import json
from typing import Any

from tidings_notifications.core.batch import CALLER_ID_MS, BatchPlan, Collapsible, collapse_key_of, keys_of
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.ids import IdSequence, group_key, idempotency_key
from tidings_notifications.core.notification import Category, NewNotification, Place, State, Stored

CATEGORIES = {"order": Category(), "comment": Category(digest_s=60), "alert": Category(required=True)}
NOW_MS = 10 * CALLER_ID_MS


def plan(**fields: Any) -> BatchPlan:
    values: dict[str, Any] = {
        "categories": CATEGORIES,
        "inboxes": {"7": InboxCounts("7")},
        "stored_keys": {},
        "collapsible": [],
        "switched_off": set(),
        "next_id": IdSequence(bytes).next,
        "now_ms": NOW_MS,
        "event_max_bytes": 10_000,
    }
    return BatchPlan(**values | fields)


def new(caller_id: str = "a", category: str = "order", **fields: Any) -> NewNotification:
    return NewNotification("7", category, caller_id, "title", **fields)


def test_new_notification_is_inserted_counted_and_published() -> None:
    batch = plan()
    assert batch.add(new(group="g", expires_ms=NOW_MS + 1)) == Stored("a")
    [row] = batch.inserted
    assert (row.place, row.idempotency_key, row.collapse_key) == (
        Place.INBOX,
        idempotency_key("7", "a"),
        group_key("7", "g"),
    )
    assert (row.sweep_ms, row.created_ms) == (NOW_MS + 1, NOW_MS)
    assert batch.inboxes["7"] == InboxCounts("7", 1, 1, 1)
    assert (len(batch.events), batch.changed_users) == (1, {"7"})


def test_stored_id_is_a_duplicate_until_its_time_is_over() -> None:
    key = idempotency_key("7", "a")
    batch = plan(stored_keys={key: ("old", NOW_MS - CALLER_ID_MS + 1)})
    assert batch.add(new()) == Stored("a", duplicate=True)
    assert (batch.inserted, batch.released) == ([], [])
    batch = plan(stored_keys={key: ("old", NOW_MS - CALLER_ID_MS)})
    assert batch.add(new()) == Stored("a")
    assert batch.released == ["old"]
    assert batch.add(new()) == Stored("a", duplicate=True)


def test_notification_replaces_stored_and_new_ones_of_its_group() -> None:
    stored = Collapsible("old", "7", group_key("7", "g"), Place.INBOX, 5, 1, None, None)
    batch = plan(collapsible=[stored], inboxes={"7": InboxCounts("7", unseen=0, unread=1)})
    batch.add(new("a", group="g"))
    batch.add(new("b", group="g"))
    assert batch.deleted == ["old"]
    assert [row.place for row in batch.inserted] == [Place.DELETED, Place.INBOX]
    erased = batch.inserted[0]
    assert (erased.title, erased.collapse_key, erased.sweep_ms) == ("", None, NOW_MS + CALLER_ID_MS)
    assert [json.loads(event.data)["replaces"] for event in batch.events] == [["old"], [erased.id]]
    assert batch.inboxes["7"] == InboxCounts("7", 1, 1, 2)


def test_digest_counts_and_keeps_the_time_of_its_first_one() -> None:
    key = collapse_key_of(new(category="comment"), CATEGORIES["comment"])
    assert key is not None
    stored = Collapsible("old", "7", key, Place.WAITING, None, 4, NOW_MS + 5, NOW_MS + 4)
    batch = plan(collapsible=[stored])
    batch.add(new("a", "comment", expires_ms=NOW_MS + 2))
    batch.add(new("b", "comment", expires_ms=NOW_MS + 3))
    batch.add(new("c", "comment", group="g"))
    assert [(row.place, row.count, row.due_ms, row.sweep_ms) for row in batch.inserted[1:]] == [
        (Place.WAITING, 6, NOW_MS + 5, NOW_MS + 4),
        (Place.WAITING, 1, NOW_MS + 60_000, NOW_MS + 60_000),
    ]
    assert (batch.deleted, batch.inserted[0].place, batch.events) == (["old"], Place.DELETED, [])
    assert batch.inboxes["7"] == InboxCounts("7")


def test_what_the_user_switched_off_and_what_has_expired_is_not_stored() -> None:
    batch = plan(switched_off={("7", "order"), ("7", "alert")})
    assert batch.add(new("a")) == Stored("a", State.SUPPRESSED)
    assert batch.add(new("b", "alert")) == Stored("b"), "it is required"
    assert batch.add(new("c", "alert", expires_ms=NOW_MS)) == Stored("c", State.EXPIRED)
    assert len(batch.inserted) == 1


def test_keys_of_a_batch() -> None:
    keys = keys_of([new("a"), new("b", group="g"), new("c", "comment")], CATEGORIES)
    assert keys.idempotency == [idempotency_key("7", id_) for id_ in "abc"]
    assert (len(keys.collapse), keys.collapse[0]) == (2, group_key("7", "g"))
