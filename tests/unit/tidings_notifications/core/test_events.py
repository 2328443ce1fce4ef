from __future__ import annotations

import json

from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.events import (
    CHANGED_MAX,
    all_event,
    changed_events,
    deleted_state,
    full_item_of,
    notification_event,
)
from tidings_notifications.core.marks import Action
from tidings_notifications.core.notification import Place, StoredNotification


def row(**fields: object) -> StoredNotification:
    return StoredNotification("id", "7", Place.INBOX, "order", 'a "title" é', 5, **fields)  # type: ignore[arg-type]


def test_event_of_a_notification_has_item_counts_and_version() -> None:
    counts = InboxCounts("7", 1, 2, 8)
    event = notification_event(row(data='{"a":[1]}', url="/x"), counts, replaces=["old"], max_bytes=1000)
    assert (event.user_id, event.event) == ("7", "tidings:notification")
    assert json.loads(event.data) == {
        "item": full_item_of(row(data='{"a":[1]}', url="/x")),
        "counts": {"unseen": 1, "unread": 2},
        "version": 9,
        "replaces": ["old"],
    }
    assert json.loads(event.data)["item"]["data"] == {"a": [1]}


def test_data_is_omitted_only_if_the_event_would_be_too_large() -> None:
    counts = InboxCounts("7")
    whole = notification_event(row(data='"é"'), counts, max_bytes=10_000)
    size = len(whole.data.encode())
    assert "omitted" not in notification_event(row(data='"é"'), counts, max_bytes=size).data
    cut = json.loads(notification_event(row(data='"é"'), counts, max_bytes=size - 1).data)
    assert (cut["omitted"], "data" in cut["item"]) == (["data"], False)


def test_many_changes_are_several_events_with_a_version_each() -> None:
    counts = InboxCounts("7", version=1)
    states = [deleted_state(str(number)) for number in range(CHANGED_MAX + 1)]
    events = [json.loads(event.data) for event in changed_events(counts, states[:CHANGED_MAX], states[CHANGED_MAX:])]
    assert [(len(event["changed"]), event["version"]) for event in events] == [(CHANGED_MAX, 2), (1, 3)]
    assert ["deleted" in event["changed"][0] for event in events] == [False, True]
    assert changed_events(counts, []) == []


def test_event_of_all_names_action_time_and_last_one() -> None:
    counts = InboxCounts("7")
    assert json.loads(all_event(counts, Action.READ, None, 9).data) == {
        "changed": [],
        "all": {"state": "read", "at": 9},
        "counts": {"unseen": 0, "unread": 0},
        "version": 1,
    }
    assert json.loads(all_event(counts, Action.SEEN, "x", 9).data)["all"] == {"state": "seen", "at": 9, "before": "x"}
