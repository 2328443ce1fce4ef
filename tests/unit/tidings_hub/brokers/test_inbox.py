from __future__ import annotations

import json
import threading

import pytest

from support.limits import broker_limits
from tidings.redis_client.keys import RedisKeys
from tidings_hub.brokers.inbox import CONTROL_MAX_BYTES, Inbox
from tidings_hub.metrics import Metrics

KEYS = RedisKeys("t")


class InboxFixture:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.inbox = Inbox(KEYS, "n1", broker_limits(message_max_bytes=500), self.metrics)


@pytest.fixture
def fixture() -> InboxFixture:
    return InboxFixture()


def test_only_pubsub_names_of_channels_map_to_a_channel(fixture: InboxFixture) -> None:
    assert fixture.inbox.channel(KEYS.pubsub("orders:1")) == "orders:1"
    assert fixture.inbox.channel(fixture.inbox.canary_name) is None
    assert fixture.inbox.channel(b"another:orders:1") is None


@pytest.mark.parametrize("message", [b"", b"\xff", b"not a publication", b"x" * 501])
def test_a_foreign_message_in_a_channel_is_counted(fixture: InboxFixture, message: bytes) -> None:
    item = [b"message", KEYS.pubsub("orders:1"), message]
    assert fixture.inbox.publication(item) is None
    assert fixture.metrics.broker_poisoned == 1
    assert fixture.inbox.publication(item, among=set()) is None
    assert fixture.metrics.broker_poisoned == 1


@pytest.mark.parametrize("item", [b"token", [b"pong", b"token"], [b"subscribe", b"c", 1], ValueError("error")])
def test_other_items_are_ignored_and_not_counted(fixture: InboxFixture, item: object) -> None:
    assert fixture.inbox.publication(item) is None
    assert fixture.metrics.broker_poisoned == 0


def test_a_command_is_decoded(fixture: InboxFixture) -> None:
    message = {"epoch": "e", "do": "disconnect", "user": "7"}
    assert fixture.inbox.command([b"message", KEYS.control, json.dumps(message).encode()]) == message


@pytest.mark.parametrize(
    "message",
    [b"{", b"[]", b'{"do":1}', b"{}", b"[" * 10_000, json.dumps({"do": "x" * CONTROL_MAX_BYTES}).encode()],
    ids=lambda message: ascii(message[:9]),
)
def test_an_invalid_command_is_counted(fixture: InboxFixture, message: bytes) -> None:
    assert fixture.inbox.command([b"message", KEYS.control, message]) is None
    assert fixture.metrics.broker_poisoned == 1


def test_a_canary_wakes_only_its_own_waiter(fixture: InboxFixture) -> None:
    events = {b"c1": threading.Event(), b"c2": threading.Event()}
    fixture.inbox.canaries.update(events)
    for token in (b"c2", b"unknown"):
        assert fixture.inbox.command([b"message", fixture.inbox.canary_name, token]) is None
    assert (events[b"c1"].is_set(), events[b"c2"].is_set()) == (False, True)
    assert fixture.metrics.broker_poisoned == 0
