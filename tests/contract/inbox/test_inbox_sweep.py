"""Digests, expiry and retention on every database."""

from __future__ import annotations

from support.inbox import CATEGORIES, DAY_MS, InboxBench, notification
from tidings_notifications.core.notification import Category, State, Stored
from tidings_notifications.inbox import Inbox
from tidings_notifications.inbox.sweeping import BATCH, SweepCounts


def test_digest_is_delivered_as_one_with_a_count(bench: InboxBench) -> None:
    assert bench.store(notification("first", category="comment", caller_id="a")) == [Stored("a")]
    bench.now_ms += 30_000
    bench.store(notification("second", category="comment"), notification("third", category="comment"))
    assert bench.store(notification("first", category="comment", caller_id="a")) == [Stored("a", duplicate=True)]
    assert (bench.titles(), bench.page().version, bench.events()) == ([], 0, [])
    bench.now_ms += 29_999
    assert bench.inbox.sweep(bench.now_ms) == SweepCounts()
    bench.now_ms += 1
    bench.store(notification("meanwhile"))
    assert bench.inbox.sweep(bench.now_ms) == SweepCounts(delivered=1)
    [digest, _] = bench.page().items
    assert (digest["title"], digest["count"], digest["created_at"]) == ("third", 3, bench.now_ms)
    assert bench.events()[-1] == (
        "tidings:notification",
        {"item": digest, "counts": {"unseen": 2, "unread": 2}, "version": 2},
    )
    bench.store(notification("next window", category="comment"))
    bench.now_ms += 60_000
    bench.inbox.sweep(bench.now_ms)
    assert bench.titles() == ["next window", "third", "meanwhile"]
    assert [item["count"] for item in bench.page(category="comment").items] == [1, 3]
    bench.check()


def test_each_group_and_user_has_a_digest_of_its_own(bench: InboxBench) -> None:
    for group, user in (("a", "7"), ("b", "7"), (None, "7"), ("a", "7"), ("a", "8")):
        bench.store(notification(str(group), category="comment", group=group, user=user))
    bench.now_ms += 60_000
    assert bench.inbox.sweep(bench.now_ms).delivered == 4
    assert sorted((item["title"], item["count"]) for item in bench.page().items) == [("None", 1), ("a", 2), ("b", 1)]
    assert [item["count"] for item in bench.page("8").items] == [1]
    bench.check()


def test_digest_that_collects_can_be_deleted_but_not_marked(bench: InboxBench) -> None:
    bench.store(notification(category="comment", caller_id="mine"))
    [row] = bench.rows()
    assert bench.inbox.mark("7", "read", bench.now_ms, ids=[row["id"]]).unknown == [row["id"]]
    assert bench.inbox.delete("7", bench.now_ms, ids=["mine"]).count == 1
    assert bench.inbox.sweep(bench.now_ms + 60_000).delivered == 0
    assert bench.events() == []
    bench.check()


def test_digest_of_a_category_that_was_switched_off_is_not_delivered(bench: InboxBench) -> None:
    bench.store(notification(category="comment"), notification(category="comment", user="8"))
    bench.inbox.set_preference("7", "comment", "in_app", enabled=False)
    assert bench.inbox.sweep(bench.now_ms + 60_000) == SweepCounts(delivered=1, deleted=1)
    assert (bench.titles(), len(bench.titles("8"))) == ([], 1)
    bench.check()


def test_digest_of_a_category_that_no_longer_exists_is_delivered(bench: InboxBench) -> None:
    bench.store(notification(category="comment"))
    inbox = Inbox(bench.database, {"order": Category()})
    assert inbox.sweep(bench.now_ms + 60_000).delivered == 1


def test_expired_notifications_leave_the_inbox(bench: InboxBench) -> None:
    end_ms = bench.now_ms + 1000
    bench.store(notification("short", expires_ms=end_ms, caller_id="a"), notification("long"))
    [short] = bench.ids("short")
    assert bench.inbox.sweep(end_ms - 1) == SweepCounts()
    bench.now_ms = end_ms
    assert bench.titles() == ["long"], "it is not listed, also before the sweep"
    assert bench.inbox.sweep(end_ms) == SweepCounts(deleted=1)
    event, data = bench.events()[-1]
    assert (event, data["changed"][0]["id"], data["changed"][0]["deleted"]) == ("tidings:inbox", short, True)
    assert data["counts"] == {"unseen": 1, "unread": 1}
    assert bench.store(notification("short", caller_id="a")) == [Stored("a", duplicate=True)]
    bench.check()


def test_notification_that_arrives_too_late_is_not_stored(bench: InboxBench) -> None:
    assert bench.store(notification(caller_id="a", expires_ms=bench.now_ms)) == [Stored("a", State.EXPIRED)]
    assert (bench.rows(), bench.events()) == ([], [])


def test_digest_expires_with_the_last_of_its_notifications(bench: InboxBench) -> None:
    end_ms = bench.now_ms + 1000
    bench.store(notification("stays", category="comment"))
    bench.store(notification("short", category="comment", expires_ms=end_ms), notification("a", category="comment"))
    # Also within one batch, and in the other order.
    bench.store(
        notification("b", category="comment", group="g", expires_ms=end_ms + 90_000),
        notification("c", category="comment", group="g", expires_ms=end_ms),
    )
    bench.now_ms = end_ms
    assert bench.inbox.sweep(bench.now_ms).deleted == 0
    bench.now_ms += 60_000
    assert bench.inbox.sweep(bench.now_ms).delivered == 2
    items = sorted((item["title"], item["count"], item.get("expires_at")) for item in bench.page().items)
    assert items == [("a", 3, None), ("c", 2, end_ms + 90_000)]
    bench.check()


def test_digest_that_expires_before_it_is_due_is_dropped(bench: InboxBench) -> None:
    bench.store(notification(category="comment", expires_ms=bench.now_ms + 1000))
    assert bench.inbox.sweep(bench.now_ms + 60_000) == SweepCounts(deleted=1)
    assert bench.events() == []
    bench.check()


def test_old_notifications_are_removed_in_batches(bench: InboxBench) -> None:
    bench.store(*(notification(str(number), user=str(number % 3)) for number in range(BATCH + 10)))
    bench.store(notification("deleted", caller_id="gone"))
    bench.inbox.delete("7", bench.now_ms, ids=["gone"])
    bench.now_ms += 90 * DAY_MS - 1
    bench.store(notification("young"))
    assert bench.inbox.sweep(bench.now_ms).purged == 1, "only the row of the deleted one"
    bench.now_ms += 1
    assert bench.inbox.sweep(bench.now_ms, batches=1).purged == BATCH
    assert bench.inbox.sweep(bench.now_ms).purged == 10
    assert bench.inbox.sweep(bench.now_ms).total == 0
    assert [bench.page(user).counts["unread"] for user in ("0", "1", "2", "7")] == [0, 0, 0, 1]
    assert bench.titles() == ["young"]
    bench.check()


def test_ids_count_for_seven_days_even_if_notifications_are_kept_for_one(bench: InboxBench) -> None:
    inbox = Inbox(bench.database, CATEGORIES, keep_days=1)
    inbox.store([notification(caller_id="a")], bench.now_ms)
    assert inbox.sweep(bench.now_ms + DAY_MS) == SweepCounts(deleted=1)
    assert inbox.sweep(bench.now_ms + DAY_MS) == SweepCounts()
    assert inbox.store([notification(caller_id="a")], bench.now_ms + DAY_MS) == [Stored("a", duplicate=True)]
    assert inbox.sweep(bench.now_ms + 7 * DAY_MS) == SweepCounts(purged=1)
    assert bench.rows() == []
    bench.check()
