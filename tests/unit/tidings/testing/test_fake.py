from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tidings import AsyncEmitter, Emitter
from tidings.errors import (
    BadChannel,
    BadConfig,
    BadData,
    BadEvent,
    BadRequest,
    TimedOut,
    TooLarge,
    Unavailable,
    UnknownCategory,
    UnknownNamespace,
)
from tidings.receipts import BatchFailed
from tidings.testing import FakeHub


@dataclass
class Order:
    __channels__ = ("orders:{id}",)
    id: int
    total: Decimal


def test_assert_pushed_returns_the_matching_publication() -> None:
    hub = FakeHub()
    receipt = hub.emit("shipped", {"order": 42, "at": datetime(2026, 1, 2, tzinfo=UTC)}, channel="orders:42")
    hub.push_model(Order(7, Decimal("9.90")))
    publication = hub.assert_pushed("orders:42", "shipped", {"order": 42, "at": datetime(2026, 1, 2, tzinfo=UTC)})
    assert (publication.id, publication.cursor, publication.data["at"]) == (
        receipt.id,
        receipt.cursor,
        "2026-01-02T00:00:00+00:00",
    )
    hub.assert_pushed("orders:42", "shipped", including={"order": 42}, times=1)
    hub.assert_pushed("orders:7", "updated_model", including={"class": "Order", "op": "updated"})
    assert [pushed.channel for pushed in hub.pushed()] == ["orders:42", "orders:7"]


@pytest.mark.parametrize(
    ("channel", "event", "assertion"),
    [
        ("orders:1", "shipped", {}),
        ("orders:42", "lost", {}),
        ("orders:42", "shipped", {"data": {"order": 42}}),
        ("orders:42", "shipped", {"including": {"order": 43}}),
        ("orders:42", "shipped", {"including": {"other": None}}),
        ("orders:42", "shipped", {"times": 2}),
    ],
)
def test_failed_assertion_lists_pushed_publications(channel: str, event: str, assertion: dict[str, object]) -> None:
    hub = FakeHub()
    hub.emit("shipped", {"order": 42, "more": 1}, channel="orders:42")
    with pytest.raises(AssertionError, match="'shipped' in orders:42") as raised:
        hub.assert_pushed(channel, event, **assertion)  # type: ignore[arg-type]
    assert '"more": 1' in str(raised.value)


def test_assert_nothing_pushed() -> None:
    hub = FakeHub()
    hub.assert_nothing_pushed()
    hub.emit("x", channel="orders:1")
    hub.assert_nothing_pushed("orders:2")
    with pytest.raises(AssertionError, match="'x' in orders:1"):
        hub.assert_nothing_pushed()
    hub.clear()
    hub.assert_nothing_pushed()


def test_fake_checks_arguments_like_an_emitter() -> None:
    hub = FakeHub(namespaces=["orders"], publication_max_bytes=100)
    with pytest.raises(BadChannel):
        hub.emit("x", channel="")
    with pytest.raises(BadEvent):
        hub.emit("connect", channel="orders:1")
    with pytest.raises(BadData):
        hub.emit("x", object(), channel="orders:1")
    with pytest.raises(TooLarge):
        hub.emit("x", "y" * 100, channel="orders:1")
    with pytest.raises(UnknownNamespace):
        hub.emit("x", channel="order:1")
    with pytest.raises(BadChannel):
        hub.assert_pushed("nonsense", "x")
    hub.assert_nothing_pushed()
    hub.emit("x", user="7")
    hub.assert_pushed("user:7", "x")


@pytest.mark.parametrize("option", ["namespaces", "categories"])
@pytest.mark.parametrize("names", ["orders", 7])
def test_names_of_a_fake_are_a_list(option: str, names: object) -> None:
    with pytest.raises(BadConfig, match=f"{option} is a list of names"):
        FakeHub(**{option: names})  # type: ignore[arg-type]


def test_repeated_id_is_published_once() -> None:
    hub = FakeHub()
    first, second = (hub.emit("x", channel="orders:1", id="pay-1") for _ in range(2))
    assert (first.duplicate, second.duplicate) == (False, True)
    hub.assert_pushed("orders:1", "x", times=1)


def test_fail_next_makes_calls_fail() -> None:
    hub = FakeHub()
    hub.fail_next(Unavailable("down"), times=2)
    for _ in range(2):
        with pytest.raises(Unavailable, match="down"):
            hub.emit("x", channel="orders:1")
    hub.assert_nothing_pushed()
    hub.fail_next(TimedOut(), published=True)
    with pytest.raises(TimedOut):
        hub.emit("x", channel="orders:1", id="pay-1")
    assert hub.emit("x", channel="orders:1", id="pay-1").duplicate
    hub.assert_pushed("orders:1", "x", times=1)
    hub.fail_next(Unavailable())
    with pytest.raises(Unavailable):
        hub.revoke(user="7", for_s=60)
    hub.fail_next(Unavailable())
    with pytest.raises(BatchFailed), hub.batch() as batch:
        batch.emit("x", channel="orders:1")
    hub.clear()
    hub.emit("y", channel="orders:1")


def test_commands_are_recorded_and_affect_no_connection() -> None:
    hub = FakeHub()
    assert hub.disconnect(user="7").connections == 0
    hub.subscribe(user="7", channel="orders:1")
    assert [order.name for order in hub.orders] == ["disconnect", "subscribe"]


def test_other_emitters_with_the_url_of_the_fake_are_recorded() -> None:
    hub = FakeHub()
    with Emitter(hub.url) as other:
        other.emit("x", 1, channel="orders:1")

    async def main() -> None:
        async with AsyncEmitter(hub.url) as emitter:
            await emitter.emit("x", 2, channel="orders:1")

    asyncio.run(main())
    assert [pushed.data for pushed in hub.pushed("orders:1", "x")] == [1, 2]
    assert FakeHub().pushed() == []


def test_assert_notified_returns_the_matching_notification() -> None:
    hub = FakeHub()
    at = datetime(2026, 1, 2, tzinfo=UTC)
    receipt = hub.notify("order_shipped", user="7", title="Shipped", url="/orders/42", data={"order": 42, "at": at})
    hub.notify("order_shipped", users=["7", "8"], title="Again", expires_in_s=60)
    notification = hub.assert_notified("7", "order_shipped", title="Shipped", including={"order": 42, "at": at})
    assert (notification.id, notification.url, notification.data["at"]) == (
        receipt.id,
        "/orders/42",
        "2026-01-02T00:00:00+00:00",
    )
    last = hub.assert_notified("7", "order_shipped", times=2)
    assert (last.title, last.data, last.expires_at_ms) == ("Again", None, last.at_ms + 60_000)
    assert [item.title for item in hub.notified("7")] == ["Shipped", "Again"]
    assert [item.user for item in hub.notified(category="order_shipped")] == ["7", "7", "8"]
    assert hub.notified("9") == hub.notified(category="order_lost") == []
    hub.assert_nothing_pushed()
    hub.assert_nothing_notified("9")


@pytest.mark.parametrize(
    ("user", "category", "assertion"),
    [
        ("8", "order_shipped", {}),
        ("7", "order_lost", {}),
        ("7", "order_shipped", {"title": "Shippe"}),
        ("7", "order_shipped", {"including": {"order": 43}}),
        ("7", "order_shipped", {"including": {"other": None}}),
        ("7", "order_shipped", {"times": 2}),
    ],
)
def test_failed_assertion_lists_notifications(user: str, category: str, assertion: dict[str, object]) -> None:
    hub = FakeHub()
    hub.notify("order_shipped", user="7", title="Shipped", data={"order": 42})
    with pytest.raises(AssertionError, match="'order_shipped' of user 7: 'Shipped'"):
        hub.assert_notified(user, category, **assertion)  # type: ignore[arg-type]


def test_assert_nothing_notified() -> None:
    hub = FakeHub()
    hub.assert_nothing_notified()
    hub.emit("x", user="7")
    hub.assert_nothing_notified()
    with pytest.raises(AssertionError, match="no notification at all"):
        hub.assert_notified("7", "order_shipped")
    hub.notify("order_shipped", user="7", title="Shipped")
    hub.assert_nothing_notified("8")
    with pytest.raises(AssertionError, match=r"expected no notification; there were .*\n.*'Shipped'"):
        hub.assert_nothing_notified()
    hub.clear()
    hub.assert_nothing_notified()


def test_fake_checks_notifications_like_an_emitter() -> None:
    hub = FakeHub(categories=["order_shipped"])
    with pytest.raises(UnknownCategory):
        hub.notify("order_lost", user="7", title="x")
    with pytest.raises(BadRequest):
        hub.notify("order_shipped", user="7", title="")
    with pytest.raises(BadChannel):
        hub.assert_notified("", "order_shipped")
    with pytest.raises(BadRequest):
        hub.assert_notified("7", "Order")
    with pytest.raises(BadRequest):
        FakeHub(categories=["Order"])
    hub.assert_nothing_notified()
    first = hub.notify("order_shipped", user="7", title="x", id="mine")
    assert hub.notify("order_shipped", user="7", title="x", id="mine").duplicate
    assert not first.duplicate
    hub.assert_notified("7", "order_shipped", times=1)


def test_notify_fails_on_request() -> None:
    hub = FakeHub()
    hub.fail_next(Unavailable("away"))
    with pytest.raises(Unavailable, match="away"):
        hub.notify("order_shipped", user="7", title="x")
    hub.assert_nothing_notified()
    hub.fail_next(TimedOut("lost"), published=True)
    with pytest.raises(TimedOut):
        hub.notify("order_shipped", user="7", title="x")
    hub.assert_notified("7", "order_shipped")


def test_notifications_of_other_emitters_are_recorded() -> None:
    hub = FakeHub()

    async def run() -> None:
        async with AsyncEmitter(hub.url) as emitter:
            await emitter.notify("order_shipped", user="7", title="x")

    asyncio.run(run())
    Emitter(hub.url).notify("order_shipped", user="8", title="y")
    assert [item.title for item in hub.notified()] == ["x", "y"]
