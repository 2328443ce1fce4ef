from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tidings import AsyncEmitter, Emitter
from tidings.errors import BadChannel, BadData, BadEvent, TimedOut, TooLarge, Unavailable, UnknownNamespace
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
