"""Which deliveries a notification gets, and which are withdrawn. The contract suite has the same with databases."""

from __future__ import annotations

from typing import Any

import pytest

from tidings_notifications.core.delivery_plan import ClaimPlan, DeliveryRow, end_ms, is_withdrawn, new_rows
from tidings_notifications.core.notification import WEB_PUSH, Category, Place, PushRule, StoredNotification
from tidings_notifications.core.push_subscription import StoredSubscription

DAY_MS = 86_400_000
UNSEEN = Category(web_push=PushRule.UNSEEN, push_after_s=30)
ALWAYS = Category(web_push=PushRule.ALWAYS, push_after_s=30)


def row(**fields: Any) -> StoredNotification:
    return StoredNotification("n", "7", fields.pop("place", Place.INBOX), "order", "Title", 1_000, **fields)


def new(category: Category, *, inherited_ms: dict[str, int] | None = None) -> list[int]:
    rows = new_rows(
        [row()], {"order": category}, subscribed={"7"}, inherited_ms=inherited_ms or {}, ids=["d"], now_ms=1_000
    )
    return [delivery.due_ms for delivery in rows]


def test_rule_of_the_category_says_when() -> None:
    assert new(UNSEEN) == [31_000]
    assert new(ALWAYS) == [1_000]
    assert new(Category()) == []


def test_earlier_time_of_a_replaced_one_counts() -> None:
    assert new(UNSEEN, inherited_ms={"n": 5_000}) == [5_000]
    assert new(UNSEEN, inherited_ms={"n": 90_000}) == [31_000]


@pytest.mark.parametrize(
    ("fields", "unseen", "always"),
    [
        ({}, False, False),
        ({"seen_ms": 1}, True, False),
        ({"seen_ms": 1, "read_ms": 1}, True, True),
        ({"place": Place.ARCHIVED}, True, True),
        ({"place": Place.DELETED}, True, True),
        ({"expires_ms": 2_000}, True, True),
        ({"expires_ms": 2_001}, False, False),
    ],
)
def test_withdrawn(fields: dict[str, Any], unseen: bool, always: bool) -> None:
    assert is_withdrawn(row(**fields), WEB_PUSH, UNSEEN, 2_000) is unseen
    assert is_withdrawn(row(**fields), WEB_PUSH, ALWAYS, 2_000) is always
    assert is_withdrawn(row(**fields), WEB_PUSH, Category(), 2_000)


def test_deliveries_end_with_the_notification_or_after_four_weeks() -> None:
    assert end_ms(row(expires_ms=5_000)) == 5_000
    assert end_ms(row()) == end_ms(row(expires_ms=99 * DAY_MS)) == 1_000 + 28 * DAY_MS


def claim(deliveries: list[DeliveryRow], *, off: bool = False, category: Category = UNSEEN) -> ClaimPlan:
    subscriptions = [StoredSubscription(name, "7", f"https://{name}", "p", "a", "h") for name in ("s1", "s2")]
    off_choices = {("7", "order", WEB_PUSH)} if off else set()
    plan = ClaimPlan({"order": category}, {"n": row()}, {"7": subscriptions}, {}, off_choices, "claim", 2_000)
    for delivery in deliveries:
        plan.add(delivery, ["d1", "d2"])
    return plan


def test_one_row_becomes_one_for_each_subscription() -> None:
    plan = claim([DeliveryRow("d", "n", WEB_PUSH, None, 0)])
    assert [(due.id, due.subscription and due.subscription.id, due.attempt) for due in plan.expanded] == [
        ("d1", "s1", 1),
        ("d2", "s2", 1),
    ]
    assert (plan.deleted, plan.claimed, plan.withdrawn) == (["d"], [], 0)


def test_row_of_a_subscription_remains_while_the_subscription_does() -> None:
    plan = claim([DeliveryRow("a", "n", WEB_PUSH, "s2", 0, 3), DeliveryRow("b", "n", WEB_PUSH, "gone", 0)])
    assert [(due.id, due.attempt) for due in plan.claimed] == [("a", 4)]
    assert (plan.deleted, plan.withdrawn) == (["b"], 1)


def test_what_is_switched_off_is_withdrawn_unless_it_is_required() -> None:
    delivery = DeliveryRow("d", "n", WEB_PUSH, None, 0)
    assert claim([delivery], off=True).withdrawn == 1
    required = Category(required=True, web_push=PushRule.UNSEEN)
    assert claim([delivery], off=True, category=required).withdrawn == 0
    assert claim([DeliveryRow("d", "missing", WEB_PUSH, None, 0)]).withdrawn == 1
