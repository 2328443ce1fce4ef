"""Inboxes on every database: what is stored, listed, marked and deleted, with its counts and events."""

from __future__ import annotations

import pytest

from support.inbox import CATEGORIES, DAY_MS, InboxBench, notification
from tidings.errors import BadRequest, Forbidden, TooLarge, UnknownCategory
from tidings_notifications.core.ids import first_id
from tidings_notifications.core.marks import IDS_MAX
from tidings_notifications.core.notification import State, Stored
from tidings_notifications.inbox import Inbox


def test_notification_is_listed_with_all_its_fields(bench: InboxBench) -> None:
    new = notification(
        "Ihr Paket 📦",
        body="line\nline",
        url="/orders/42",
        icon="https://shop.example/box.png",
        data='{"n":[1,null,"é \\u0000"]}',
        group="order:42",
        expires_ms=bench.now_ms + 1000,
        caller_id="order-42",
    )
    assert bench.store(new) == [Stored("order-42")]
    [item] = bench.page().items
    assert item == {
        "id": item["id"],
        "category": "order",
        "title": "Ihr Paket 📦",
        "body": "line\nline",
        "url": "/orders/42",
        "icon": "https://shop.example/box.png",
        "data": {"n": [1, None, "é \0"]},
        "group": "order:42",
        "count": 1,
        "created_at": bench.now_ms,
        "expires_at": bench.now_ms + 1000,
        "seen_at": None,
        "read_at": None,
        "archived_at": None,
    }
    counts = {"unseen": 1, "unread": 1}
    assert bench.events() == [("tidings:notification", {"item": item, "counts": counts, "version": 1})]
    assert bench.page("8").to_wire() == {"items": [], "counts": {"unseen": 0, "unread": 0}, "version": 0, "next": None}


def test_id_counts_once_for_each_user_and_seven_days(bench: InboxBench) -> None:
    twice = [notification("first", caller_id="a"), notification("again", caller_id="a")]
    assert bench.store(*twice, notification("other", user="8", caller_id="a")) == [
        Stored("a"),
        Stored("a", duplicate=True),
        Stored("a"),
    ]
    assert bench.store(twice[1]) == [Stored("a", duplicate=True)]
    bench.now_ms += 7 * DAY_MS - 1
    assert bench.store(twice[1]) == [Stored("a", duplicate=True)]
    bench.now_ms += 1
    assert bench.store(twice[1]) == [Stored("a")]
    assert bench.store(twice[1]) == [Stored("a", duplicate=True)]
    assert bench.titles() == ["again", "first"]
    bench.check()


def test_id_of_a_deleted_notification_still_counts(bench: InboxBench) -> None:
    bench.store(notification(caller_id="a"))
    bench.inbox.delete("7", bench.now_ms, ids=["a"])
    assert bench.store(notification(caller_id="a")) == [Stored("a", duplicate=True)]
    assert bench.titles() == []


def test_unknown_category_is_an_error_in_its_place(bench: InboxBench) -> None:
    results = bench.store(notification("a"), notification("b", category="nothing"), notification("c"))
    assert isinstance(results[1], UnknownCategory)
    assert "'nothing'" in str(results[1])
    assert bench.titles() == ["c", "a"]


def test_names_of_users_groups_and_ids_are_case_sensitive(bench: InboxBench) -> None:
    users = ["ann", "Ann", "ANN", "a-nn"]
    results = bench.store(*(notification(user, user=user, group="G", caller_id="x") for user in users))
    assert not any(isinstance(result, Stored) and result.duplicate for result in results)
    bench.store(notification("small", user="ann", group="g", caller_id="X"))
    assert [bench.titles(user) for user in users] == [["small", "ann"], ["Ann"], ["ANN"], ["a-nn"]]
    bench.check()


def test_pages_are_in_order_and_without_gaps_while_new_ones_arrive(bench: InboxBench) -> None:
    bench.store(*(notification(str(number)) for number in range(7)))
    first = bench.page(limit=3)
    bench.store(notification("new"))
    second = bench.page(limit=3, before=first.next)
    last = bench.page(limit=3, before=second.next)
    titles = [item["title"] for page in (first, second, last) for item in page.items]
    assert titles == ["6", "5", "4", "3", "2", "1", "0"]
    assert (last.next, bench.titles(limit=1)) == (None, ["new"])


def test_page_by_category_and_by_state(bench: InboxBench) -> None:
    bench.store(notification("order"), notification("alert", category="alert"), notification("put away"))
    bench.inbox.mark("7", "read", bench.now_ms, ids=bench.ids("order"))
    bench.inbox.mark("7", "archive", bench.now_ms, ids=bench.ids("put away"))
    assert bench.titles(category="order") == ["order"]
    assert bench.titles(unread=True) == ["alert"]
    assert bench.titles(archived=True) == ["put away"]
    assert bench.titles(archived=True, category="alert") == []


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": True}, {"before": "x"}, {"before": 3}])
def test_malformed_page_is_refused(bench: InboxBench, query: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        bench.page(**query)


def test_group_replaces_the_unread_one(bench: InboxBench) -> None:
    bench.store(notification("packed", group="order:42"), notification("other", group="order:4"))
    [packed] = bench.ids("packed")
    bench.store(notification("shipped", group="order:42"))
    assert bench.titles() == ["shipped", "other"]
    _, event = bench.events()[-1]
    assert (event["replaces"], event["counts"]) == ([packed], {"unseen": 2, "unread": 2})
    bench.inbox.mark("7", "read", bench.now_ms, ids=bench.ids("shipped"))
    bench.store(notification("arrived", group="order:42"))
    assert bench.titles() == ["arrived", "shipped", "other"]
    bench.store(notification("elsewhere", user="8", group="order:42"))
    bench.check()


def test_marks_change_state_counts_and_other_devices(bench: InboxBench) -> None:
    bench.store(notification("a"), notification("b"), notification("c"))
    [a, b] = bench.ids("a", "b")
    seen = bench.inbox.mark("7", "seen", bench.now_ms + 1, ids=[a])
    assert (seen.count, seen.counts, seen.version) == (1, {"unseen": 2, "unread": 3}, 4)
    read = bench.inbox.mark("7", "read", bench.now_ms + 2, ids=[a, b, a])
    assert [(state.id, state.seen_ms, state.read_ms) for state in read.changed] == [
        (a, bench.now_ms + 1, bench.now_ms + 2),
        (b, bench.now_ms + 2, bench.now_ms + 2),
    ]
    assert bench.events()[-1] == (
        "tidings:inbox",
        {
            "changed": [
                {"id": a, "seen_at": bench.now_ms + 1, "read_at": bench.now_ms + 2, "archived_at": None},
                {"id": b, "seen_at": bench.now_ms + 2, "read_at": bench.now_ms + 2, "archived_at": None},
            ],
            "counts": {"unseen": 1, "unread": 1},
            "version": 5,
        },
    )
    assert bench.inbox.mark("7", "unread", bench.now_ms, ids=[b]).counts == {"unseen": 1, "unread": 2}
    assert bench.inbox.mark("7", "archive", bench.now_ms, ids=[b]).counts == {"unseen": 1, "unread": 1}
    assert bench.inbox.mark("7", "unarchive", bench.now_ms, ids=[b]).counts == {"unseen": 1, "unread": 2}
    assert bench.titles() == ["c", "b", "a"]
    bench.check()


def test_mark_that_changes_nothing_has_no_event(bench: InboxBench) -> None:
    bench.store(notification("a"))
    ids = bench.ids("a")
    for action in ("unread", "unarchive"):
        assert bench.inbox.mark("7", action, bench.now_ms, ids=ids).count == 0
    bench.inbox.mark("7", "read", bench.now_ms, ids=ids)
    assert bench.inbox.mark("7", "read", bench.now_ms + 5, ids=ids).count == 0
    assert bench.inbox.mark_all("7", "read", bench.now_ms).count == 0
    assert len(bench.events()) == 2


def test_foreign_and_unknown_ids_change_nothing(bench: InboxBench) -> None:
    bench.store(notification("mine"), notification("foreign", user="8"))
    [foreign] = bench.ids("foreign", user="8")
    unknown = first_id(1)
    result = bench.inbox.mark("7", "read", bench.now_ms, ids=[foreign, unknown, "no uuid", *bench.ids("mine")])
    assert (result.count, set(result.unknown)) == (1, {foreign, unknown, "no uuid"})
    assert bench.inbox.delete("7", bench.now_ms, ids=[foreign]).unknown == [foreign]
    assert bench.page("8").counts == {"unseen": 1, "unread": 1}
    nobody = bench.inbox.mark("9", "read", bench.now_ms, ids=[foreign])
    assert (nobody.count, nobody.version, sorted(bench.users())) == (0, 0, ["7", "8"])
    bench.check()


def test_many_ids_are_several_events_and_too_many_are_refused(bench: InboxBench) -> None:
    bench.store(*(notification(str(number)) for number in range(IDS_MAX)))
    ids = [str(item["id"]) for item in bench.all_items("7", archived=False)]
    assert bench.inbox.mark("7", "read", bench.now_ms, ids=ids).counts == {"unseen": 0, "unread": 0}
    assert [len(data["changed"]) for _, data in bench.events()[IDS_MAX:]] == [250] * 4
    with pytest.raises(TooLarge, match="1,001"):
        bench.inbox.mark("7", "read", bench.now_ms, ids=[*ids, "one more"])
    bench.check()


@pytest.mark.parametrize("ids", [None, "x", [], [1], {"x": 1}])
def test_malformed_marks_are_refused(bench: InboxBench, ids: object) -> None:
    with pytest.raises(BadRequest):
        bench.inbox.mark("7", "read", bench.now_ms, ids=ids)
    with pytest.raises(BadRequest, match="read"):
        bench.inbox.mark("7", "open", bench.now_ms, ids=[first_id(1)])
    with pytest.raises(BadRequest, match="all notifications"):
        bench.inbox.mark_all("7", "unread", bench.now_ms)


@pytest.mark.parametrize("action", ["seen", "read", "archive"])
def test_mark_of_all_is_one_event(bench: InboxBench, action: str) -> None:
    bench.store(notification("a"), notification("b"), notification("c"), notification("d"))
    bench.inbox.mark("7", "read", bench.now_ms, ids=bench.ids("a"))
    bench.inbox.mark("7", "archive", bench.now_ms, ids=bench.ids("b"))
    [last] = bench.ids("c")
    result = bench.inbox.mark_all("7", action, bench.now_ms, before=last)
    assert result.count == {"seen": 1, "read": 1, "archive": 2}[action]
    event, data = bench.events()[-1]
    assert (event, data["all"]) == ("tidings:inbox", {"state": action, "at": bench.now_ms, "before": last})
    bench.check()
    bench.inbox.mark_all("7", action, bench.now_ms + 1)
    assert bench.page().counts["unseen"] == 0
    assert bench.page().counts["unread"] == (2 if action == "seen" else 0)
    bench.check()


def test_backend_deletes_by_its_own_id_by_id_and_by_group(bench: InboxBench) -> None:
    bench.store(notification("a", caller_id="mine"), notification("b"), notification("c", group="g"))
    bench.inbox.mark("7", "archive", bench.now_ms, ids=bench.ids("b"))
    result = bench.inbox.delete("7", bench.now_ms, ids=["mine", *bench.ids("b"), "unknown"])
    assert (result.count, result.unknown, result.counts) == (2, ["unknown"], {"unseen": 1, "unread": 1})
    assert bench.inbox.delete("7", bench.now_ms, group="g").count == 1
    assert bench.inbox.delete("7", bench.now_ms, group="g").count == 0
    assert bench.page().counts == {"unseen": 0, "unread": 0}
    assert [row["title"] for row in bench.rows()] == ["", "", ""], "the content is erased"
    for wrong in ({}, {"ids": ["x"], "group": "g"}, {"group": 3}):
        with pytest.raises(BadRequest):
            bench.inbox.delete("7", bench.now_ms, **wrong)
    bench.check()


def test_user_switches_a_category_off_and_on(bench: InboxBench) -> None:
    assert bench.inbox.preferences("7")[2] == {
        "category": "order",
        "label": "Orders",
        "required": False,
        "methods": {"in_app": True},
    }
    for _ in range(2):
        preferences = bench.inbox.set_preference("7", "order", "in_app", enabled=False)
        assert preferences[2]["methods"] == {"in_app": False}
    assert bench.store(notification(caller_id="a"), notification(user="8", caller_id="a")) == [
        Stored("a", State.SUPPRESSED),
        Stored("a"),
    ]
    bench.inbox.set_preference("7", "order", "in_app", enabled=True)
    assert bench.store(notification(caller_id="a")) == [Stored("a")]
    bench.check()


def test_required_category_cannot_be_switched_off(bench: InboxBench) -> None:
    with pytest.raises(Forbidden):
        bench.inbox.set_preference("7", "alert", "in_app", enabled=False)
    for arguments in (("nothing", "in_app", False), ("order", "smoke", False), ("order", "in_app", "no")):
        with pytest.raises((BadRequest, UnknownCategory)):
            bench.inbox.set_preference("7", *arguments)
    assert bench.users() == []


def test_category_that_becomes_required_is_stored_again(bench: InboxBench) -> None:
    bench.inbox.set_preference("7", "order", "in_app", enabled=False)
    inbox = Inbox(bench.database, {"order": CATEGORIES["alert"]})
    assert inbox.store([notification(caller_id="a")], bench.now_ms) == [Stored("a")]


def test_data_that_does_not_fit_an_event_is_in_the_page_only(bench: InboxBench) -> None:
    inbox = Inbox(bench.database, CATEGORIES, event_max_bytes=600)
    inbox.store([notification(data='"' + "é" * 300 + '"')], bench.now_ms)
    [(_, data)] = bench.events()
    assert data["omitted"] == ["data"]
    [item] = bench.page().items
    assert (item["data"], "data" in data["item"]) == ("é" * 300, False)
