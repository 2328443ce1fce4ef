from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.errors import (
    BadChannel,
    Draining,
    Forbidden,
    Internal,
    TidingsError,
    TimedOut,
    TooLarge,
    Unavailable,
    UnknownNamespace,
)
from tidings.receipts import NotificationReceipt, Receipt
from tidings.wire.publication import encode_body
from tidings.wire.queue_message import QueuedPublication, decode_queue_message, encode_queue_message
from tidings_hub.core.queues.queue_intake import (
    Backlog,
    Disposition,
    QueuedNotification,
    dead_letter_headers,
    disposition,
    read_queued,
)

RECEIPT = Receipt("1", "e.1")
AWAY = Unavailable("away")


def message(data: str, *, channel: str = "orders:1") -> bytes:
    return encode_queue_message(channel, encode_body("updated", data.encode(), id="1", at_ms=0))


def queued(channel: str = "orders:1") -> QueuedPublication:
    return decode_queue_message(message("1", channel=channel), data_max_bytes=100)


def backlog(*messages: str) -> Backlog[str, QueuedPublication]:
    pending: Backlog[str, QueuedPublication] = Backlog(lambda attempt: 2.0**attempt, step_max=10, step_max_bytes=10_000)
    for text in messages:
        pending.add(text, queued())
    return pending


def waiting(pending: Backlog[str, QueuedPublication], now_s: float) -> list[str]:
    return [queued_message.message for queued_message in pending.due(now_s)]


@pytest.mark.parametrize("data", ["null", "1", '"x"', '{"a":[1,2.5,{"b":null}]}', "[" * 64 + "]" * 64])
def test_json_is_read_unchanged(data: str) -> None:
    result = read_queued(message(data), data_max_bytes=1000)
    assert isinstance(result, QueuedPublication)
    assert result.data_json == data.encode()


@pytest.mark.parametrize(
    "data",
    [
        *("nope", "{", '{"a":1', "{'a':1}", "[1,]", "NaN", "-Infinity", "1e999", '{"a":1,"a":2}', '"\\ud800"', "1 2"),
        *("[" * 66 + "]" * 66, "[" * 5000 + "]" * 5000),
    ],
)
def test_data_that_is_not_json_is_rejected(data: str) -> None:
    result = read_queued(message(data), data_max_bytes=20_000)
    assert isinstance(result, TidingsError)
    assert result.code.name == "bad_data"
    assert "body" not in str(result)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda noise: message("1")[:-1] + noise))
def test_any_bytes_are_read_or_rejected(noise: bytes) -> None:
    result = read_queued(noise, data_max_bytes=100)
    assert isinstance(result, QueuedPublication | TidingsError)
    if isinstance(result, QueuedPublication):
        json.loads(result.data_json)


def test_foreign_message_is_returned_as_an_error() -> None:
    assert isinstance(read_queued(b"hello", data_max_bytes=10), TidingsError)
    assert isinstance(read_queued(message('"xxxxxxxxxxxx"'), data_max_bytes=10), TooLarge)
    assert isinstance(read_queued(message("1").replace(b"orders:1", b"orders"), data_max_bytes=10), BadChannel)


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        (RECEIPT, Disposition.ACK),
        (Receipt("1", "e.1", duplicate=True), Disposition.ACK),
        *((error, Disposition.DEAD_LETTER) for error in (UnknownNamespace(), TooLarge(), Forbidden(), BadChannel())),
        *((error, Disposition.RETRY) for error in (AWAY, TimedOut(), Draining(), Internal())),
    ],
)
def test_broker_answer_decides_the_disposition(answer: Receipt | TidingsError, decision: Disposition) -> None:
    assert disposition(answer) is decision


def test_notification_is_read_or_rejected() -> None:
    body = b'{"category":"a","user":"7","title":"T","id":"x","at_ms":1,"data":{"n":1}}'
    result = read_queued(b"n1 " + body, data_max_bytes=65_536)
    assert isinstance(result, QueuedNotification)
    assert (result.notification.user, result.notification.data_json, result.body) == ("7", b'{"n":1}', b"n1 " + body)
    for wrong in (b"n1 ", b"n1 {", b"n1 []", b"n1 " + body.replace(b"{", b'{"x":1,', 1), b'n1 {"data":NaN}', b"n2 {}"):
        assert isinstance(read_queued(wrong, data_max_bytes=65_536), TidingsError)
    assert isinstance(read_queued(b"n1 " + body, data_max_bytes=60), TooLarge)
    assert disposition(NotificationReceipt("x", "suppressed")) is Disposition.ACK


def test_dead_letter_headers_contain_the_reason() -> None:
    headers = dead_letter_headers(UnknownNamespace("no rule for 'x'" + "." * 1000), queue="tidings", node="n1")
    assert headers["tidings-code"] == "unknown_namespace"
    assert headers["tidings-reason"].startswith("no rule for 'x'")
    assert len(headers["tidings-reason"]) == 500
    assert (headers["tidings-queue"], headers["tidings-node"]) == ("tidings", "n1")


def test_accepted_messages_leave_in_order_and_the_next_are_due_immediately() -> None:
    pending = backlog("a", "b", "c")
    assert waiting(pending, 0.0) == ["a", "b", "c"]
    decisions = pending.apply_answers([RECEIPT, UnknownNamespace(), RECEIPT], 0.0)
    assert [(queued_message.message, decision) for queued_message, decision, _ in decisions] == [
        ("a", Disposition.ACK),
        ("b", Disposition.DEAD_LETTER),
        ("c", Disposition.ACK),
    ]
    assert len(pending) == pending.held_count == 0
    assert pending.wait_s(0.0, most_s=7.0) == 7.0
    pending.add("d", queued())
    assert pending.wait_s(0.0, most_s=7.0) == 0.0
    assert waiting(pending, 0.0) == ["d"]


def test_back_off_grows_while_the_broker_accepts_nothing() -> None:
    pending = backlog("a", "b")
    pending.apply_answers([AWAY, AWAY], 10.0)
    pending.add("c", queued())
    assert (pending.held_count, waiting(pending, 10.9), waiting(pending, 11.0)) == (3, [], ["a", "b", "c"])
    assert pending.wait_s(10.25, most_s=7.0) == 0.75
    pending.apply_answers([AWAY, AWAY, TimedOut()], 11.0)
    assert (waiting(pending, 12.9), waiting(pending, 13.0)) == ([], ["a", "b", "c"])
    pending.apply_answers([RECEIPT, RECEIPT, RECEIPT], 13.0)
    assert (len(pending), pending.held_count) == (0, 0)
    pending.add("d", queued())
    assert waiting(pending, 13.0) == ["d"]


def test_message_rejected_alone_stays_in_front_without_back_off() -> None:
    pending = backlog("a", "b", "c")
    for now_s in (10.0, 20.0, 30.0):
        pending.apply_answers([AWAY, RECEIPT, RECEIPT], now_s)
        pending.add("b", queued())
        pending.add("c", queued())
        assert pending.wait_s(now_s, most_s=7.0) == 1.0
        assert waiting(pending, now_s + 1.0) == ["a", "b", "c"]


def test_messages_after_the_attempt_are_not_decided_by_it() -> None:
    pending = backlog("a")
    due = pending.due(0.0)
    pending.add("b", queued())
    assert [queued_message.message for queued_message, _, _ in pending.apply_answers([RECEIPT] * len(due), 0.0)] == [
        "a"
    ]
    assert waiting(pending, 0.0) == ["b"]


@pytest.mark.parametrize(("body_bytes", "step"), [(10, 10), (1_500, 6), (9_000, 1), (11_000, 1)])
def test_no_more_is_due_than_the_broker_stores_in_one_step(body_bytes: int, step: int) -> None:
    """It could refuse a first step and accept a second one. A later message would then come before an earlier one."""
    pending: Backlog[str, QueuedPublication] = Backlog(lambda _: 1.0, step_max=10, step_max_bytes=10_000)
    texts = [f"m{number}" for number in range(25)]
    for text in texts:
        pending.add(text, replace(queued(), body=b"x" * body_bytes))
    assert waiting(pending, 0.0) == texts[:step]
    pending.apply_answers([AWAY] * step, 0.0)
    assert (waiting(pending, 0.5), waiting(pending, 1.0)) == ([], texts[:step])
    pending.apply_answers([RECEIPT] * step, 1.0)
    assert waiting(pending, 1.0) == texts[step : 2 * step]
