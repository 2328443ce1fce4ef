"""Deliveries on every database: what is due, for whom, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from support.inbox import START_MS, InboxBench, notification
from tidings_notifications.core.delivery import DueDelivery, Failed, Gone, Outcome, Retry, Sent
from tidings_notifications.core.notification import Category, PushRule
from tidings_notifications.core.push_subscription import NewSubscription
from tidings_notifications.inbox import Inbox
from tidings_notifications.inbox.deliveries import Deliveries
from tidings_notifications.inbox.subscriptions import Subscriptions
from tidings_notifications.store.tables import delivery_table

LEASE_S = 60
UNSEEN = Category(web_push=PushRule.UNSEEN, push_after_s=30)
CATEGORIES = {
    "order": UNSEEN,
    "chat": Category(web_push=PushRule.ALWAYS),
    "comment": Category(digest_s=60, web_push=PushRule.ALWAYS),
    "alert": Category(required=True, web_push=PushRule.ALWAYS),
    "quiet": Category(),
}


@dataclass
class DeliveryBench(InboxBench):
    """A bench with deliveries, whose user 7 has the subscription `a`."""

    deliveries: Deliveries = None  # type: ignore[assignment]
    subscriptions: Subscriptions = None  # type: ignore[assignment]

    def subscribe(self, user: str, name: str) -> str:
        """A subscription. Returns its id."""
        new = NewSubscription(f"https://push.example/{name}", "p" * 87, "a" * 22)
        return self.subscriptions.add(user, new, self.now_ms).id

    def claim(self, *, after_s: float = 0) -> list[DueDelivery]:
        """What is due after a time."""
        self.now_ms += int(after_s * 1000)
        return self.deliveries.claim(self.now_ms, 100)[0]

    def pushed(self, *, after_s: float = 0) -> list[tuple[str, str]]:
        """The titles and endpoints that are due after a time. They are sent."""
        claimed = self.claim(after_s=after_s)
        self.finish(claimed, Sent())
        return sorted((due.notification.title, due.subscription.endpoint[-1]) for due in claimed if due.subscription)

    def finish(self, claimed: list[DueDelivery], outcome: Outcome) -> Any:
        """All have this outcome."""
        return self.deliveries.finish([(due, outcome) for due in claimed], self.now_ms)

    def delivery_rows(self) -> list[Any]:
        """All rows."""
        with self.database.engine.connect() as connection:
            return list(connection.execute(sa.select(delivery_table)).all())


@pytest.fixture
def push_bench(filled: InboxBench) -> DeliveryBench:
    filled.clear()
    database = filled.database
    bench = DeliveryBench(database, Inbox(database, CATEGORIES))
    bench.deliveries = Deliveries(database, CATEGORIES, method="web_push", lease_s=LEASE_S)
    bench.subscriptions = Subscriptions(database)
    bench.subscribe("7", "a")
    return bench


def test_unseen_notification_is_due_after_its_time_for_each_subscription(push_bench: DeliveryBench) -> None:
    push_bench.subscribe("7", "b")
    push_bench.subscribe("8", "c")
    push_bench.store(notification("x"), notification("other", user="9"), notification("off", category="quiet"))
    assert push_bench.pushed(after_s=29.9) == []
    assert push_bench.pushed(after_s=0.1) == [("x", "a"), ("x", "b")]
    assert push_bench.pushed(after_s=3600) == []
    assert push_bench.delivery_rows() == []


def test_users_without_a_subscription_cost_no_row(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x", user="8"), notification("y", category="quiet"))
    assert push_bench.delivery_rows() == []


@pytest.mark.parametrize("action", ["seen", "read", "archive"])
def test_what_was_marked_meanwhile_is_withdrawn(push_bench: DeliveryBench, action: str) -> None:
    push_bench.store(notification("x"), notification("y"))
    push_bench.inbox.mark("7", action, push_bench.now_ms, ids=push_bench.ids("x"))
    assert push_bench.pushed(after_s=30) == [("y", "a")]
    assert push_bench.delivery_rows() == []


def test_deleted_and_expired_ones_are_withdrawn(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x", caller_id="x1"), notification("y", expires_ms=push_bench.now_ms + 30_000))
    push_bench.inbox.delete("7", push_bench.now_ms, ids=["x1"])
    push_bench.now_ms += 30_000
    assert push_bench.deliveries.claim(push_bench.now_ms, 100) == ([], 2)
    assert push_bench.delivery_rows() == []


def test_always_is_due_at_once_and_also_when_seen(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x", category="chat"), notification("y", category="chat"))
    push_bench.inbox.mark("7", "seen", push_bench.now_ms, ids=push_bench.ids("x"))
    push_bench.inbox.mark("7", "read", push_bench.now_ms, ids=push_bench.ids("y"))
    assert push_bench.pushed() == [("x", "a")]


def test_preferences_count_when_it_is_due(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x"), notification("y", category="chat"), notification("z", category="alert"))
    push_bench.inbox.set_preference("7", "order", "web_push", enabled=False)
    assert push_bench.pushed(after_s=30) == [("y", "a"), ("z", "a")]
    methods = {str(item["category"]): item["methods"] for item in push_bench.inbox.preferences("7")}
    assert methods["order"] == {"in_app": True, "web_push": False}
    assert methods["quiet"] == {"in_app": True}


def test_replacement_takes_over_the_time_of_what_it_replaces(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("1", group="g"))
    push_bench.now_ms += 20_000
    push_bench.store(notification("2", group="g"), notification("3", group="g"))
    assert push_bench.pushed(after_s=9.9) == []
    assert push_bench.pushed(after_s=0.1) == [("3", "a")]
    push_bench.store(notification("4", group="g"))
    assert push_bench.pushed(after_s=29) == []
    assert push_bench.pushed(after_s=1) == [("4", "a")]
    assert push_bench.delivery_rows() == []


def test_digest_is_pushed_once_with_its_count(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("1", category="comment"), notification("2", category="comment"))
    assert push_bench.claim(after_s=60) == []
    push_bench.inbox.sweep(push_bench.now_ms)
    (due,) = push_bench.claim()
    assert (due.notification.title, due.notification.count) == ("2", 2)
    assert due.counts.to_wire() == {"unseen": 1, "unread": 1}


def test_claimed_delivery_is_taken_over_after_its_lease(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x", category="chat"))
    (first,) = push_bench.claim()
    assert push_bench.claim(after_s=LEASE_S - 1) == []
    (second,) = push_bench.claim(after_s=1)
    assert (second.id, second.attempt) == (first.id, 2)
    push_bench.finish([first], Retry(None, "late"))
    assert push_bench.claim(after_s=1) == [], "the late result of the first claim moved the row"
    push_bench.finish([second], Sent())
    assert push_bench.delivery_rows() == []


def test_retry_waits_as_long_as_the_other_side_asks_for(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x", category="chat"))
    counts = push_bench.finish(push_bench.claim(), Retry(100_000, "429 slow down" + "." * 500))
    assert counts.postponed == 1
    assert push_bench.delivery_rows()[0].last_error.startswith("429 slow down")
    assert push_bench.claim(after_s=99.9) == []
    (again,) = push_bench.claim(after_s=10.2)
    assert again.attempt == 2
    push_bench.inbox.mark("7", "read", push_bench.now_ms, ids=push_bench.ids("x"))
    push_bench.finish([again], Retry(None, "500"))
    assert push_bench.pushed(after_s=3600) == []


def test_retry_ends_when_the_notification_expires(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x", category="chat", expires_ms=START_MS + 50_000))
    counts = push_bench.finish(push_bench.claim(), Retry(50_000, "503"))
    assert (counts.expired, push_bench.delivery_rows()) == (1, [])


def test_gone_removes_the_subscription_and_its_deliveries(push_bench: DeliveryBench) -> None:
    push_bench.subscribe("7", "b")
    push_bench.store(notification("x", category="chat"), notification("y"))
    claimed = push_bench.claim()
    gone = [due for due in claimed if due.subscription and due.subscription.endpoint.endswith("a")]
    push_bench.finish(gone, Gone())
    assert [row.endpoint[-1] for row in push_bench.subscriptions.of("7", START_MS)] == ["b"]
    assert push_bench.pushed(after_s=30) == [("y", "b")]


def test_gone_spares_a_subscription_that_was_renewed_meanwhile(push_bench: DeliveryBench) -> None:
    stored = push_bench.subscriptions.add("8", NewSubscription("https://push.example/o", "p", "a"), START_MS)
    push_bench.store(notification("x", user="8", category="chat"))
    claimed = push_bench.claim()
    renewed = NewSubscription("https://push.example/n", "p", "a")
    push_bench.subscriptions.renew(stored.id, stored.key, renewed, START_MS)
    push_bench.finish(claimed, Gone())
    assert [row.endpoint[-1] for row in push_bench.subscriptions.of("8", START_MS)] == ["n"]


def test_failed_delivery_is_not_tried_again(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x", category="chat"))
    assert push_bench.finish(push_bench.claim(), Failed("400")).failed == 1
    assert push_bench.delivery_rows() == []


def test_category_that_is_gone_withdraws_its_deliveries(push_bench: DeliveryBench) -> None:
    push_bench.store(notification("x"), notification("y", category="chat"))
    push_bench.deliveries.categories = {"order": Category()}
    push_bench.now_ms += 30_000
    assert push_bench.deliveries.claim(push_bench.now_ms, 100) == ([], 2)


def test_processes_share_what_is_due(push_bench: DeliveryBench) -> None:
    push_bench.subscribe("7", "b")
    push_bench.store(*[notification(f"n{number}", category="chat") for number in range(60)])
    others = [Deliveries(push_bench.database, CATEGORIES, method="web_push", lease_s=LEASE_S) for _ in range(4)]

    def claim_all(deliveries: Deliveries) -> list[DueDelivery]:
        claimed: list[DueDelivery] = []
        while deliveries.oldest_due_ms() in range(START_MS + 1):
            claimed += deliveries.claim(START_MS, 7)[0]
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [due for part in pool.map(claim_all, others) for due in part]
    pairs = sorted((due.notification.title, due.subscription.endpoint) for due in claimed if due.subscription)
    assert len(pairs) == len(set(pairs)) == 120


def test_notifications_and_claims_at_once(push_bench: DeliveryBench) -> None:
    delivered: list[str] = []

    def store(first: int) -> None:
        for number in range(10):
            push_bench.store(notification(f"{first}-{number}", category="chat", group=f"g{number % 3}"))

    def deliver(_: int) -> None:
        for _ in range(15):
            claimed, _withdrawn = push_bench.deliveries.claim(START_MS, 5)
            push_bench.finish(claimed, Sent())
            delivered.extend(due.notification.id for due in claimed)

    runs: list[tuple[Callable[[int], None], int]] = [(store, 1), (store, 2), (deliver, 3), (deliver, 4)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for work, number in runs]:
            done.result()
    while claimed := push_bench.claim():
        push_bench.finish(claimed, Sent())
        delivered.extend(due.notification.id for due in claimed)
    assert len(delivered) == len(set(delivered))
    listed = {str(item["id"]) for item in push_bench.all_items("7", archived=False)}
    assert listed <= set(delivered), "each one that remains was pushed"
    assert push_bench.delivery_rows() == []
    push_bench.check()
