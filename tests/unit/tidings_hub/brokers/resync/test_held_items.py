"""What is held while channels are repaired, and what is dropped."""

from __future__ import annotations

from collections import deque

from tidings_hub.brokers.resync.held_items import HeldItems


def message(data: bytes) -> list[object]:
    return [b"message", b"tidings:{0}:c:orders:1", data]


def test_items_are_held_in_order() -> None:
    held = HeldItems(100)
    items = [message(b"1"), [b"pong", b"b1"], message(b"2"), [b"unsubscribe", b"x", 1]]
    for item in items:
        held.add(item)
    assert list(held.items) == items
    assert held.dropped == 0


def test_confirmations_of_subscriptions_take_no_memory() -> None:
    held = HeldItems(100)
    for number in range(100_000):
        held.add([b"subscribe", b"x", number])
    assert len(held.items) == 0


def test_messages_beyond_the_limit_are_dropped_and_counted() -> None:
    held = HeldItems(10)
    for data in (b"x" * 6, b"y" * 5, b"z" * 4, b"w"):
        held.add(message(data))
    held.add([b"pong", b"b1"])
    assert [item[2] if len(item) == 3 else item for item in held.items] == [b"x" * 6, b"z" * 4, [b"pong", b"b1"]]
    assert held.dropped == 2


def test_items_that_were_received_before_count() -> None:
    held = HeldItems(10, deque([message(b"x" * 8)]))
    held.add(message(b"y" * 3))
    held.add(message(b"z" * 2))
    assert [item[2] for item in held.items] == [b"x" * 8, b"z" * 2]
    assert held.dropped == 1
