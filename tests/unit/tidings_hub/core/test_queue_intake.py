from __future__ import annotations

import json

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
from tidings.receipts import Receipt
from tidings.wire.publication import encode_body
from tidings.wire.queue_message import QueuedPublication, decode_queue_message, encode_queue_message
from tidings_hub.core.queue_intake import Backlog, Disposition, dead_letter_headers, disposition, read_queued

TAKEN = Receipt("1", "e.1")
AWAY = Unavailable("away")


def message(data: str, *, channel: str = "orders:1") -> bytes:
    return encode_queue_message(channel, encode_body("updated", data.encode(), id="1", at_ms=0))


def queued(channel: str = "orders:1") -> QueuedPublication:
    return decode_queue_message(message("1", channel=channel), data_max_bytes=100)


def backlog(*messages: str) -> Backlog[str]:
    made: Backlog[str] = Backlog(lambda attempt: 2.0**attempt)
    for one in messages:
        made.add(one, queued())
    return made


def waiting(made: Backlog[str], now_s: float) -> list[str]:
    return [taken.message for taken in made.due(now_s)]


@pytest.mark.parametrize("data", ["null", "1", '"x"', '{"a":[1,2.5,{"b":null}]}', "[" * 64 + "]" * 64])
def test_json_is_read_and_not_touched(data: str) -> None:
    found = read_queued(message(data), data_max_bytes=1000)
    assert isinstance(found, QueuedPublication)
    assert found.data_json == data.encode()


@pytest.mark.parametrize(
    "data",
    [
        *("nope", "{", '{"a":1', "{'a':1}", "[1,]", "NaN", "-Infinity", "1e999", '{"a":1,"a":2}', '"\\ud800"', "1 2"),
        *("[" * 66 + "]" * 66, "[" * 5000 + "]" * 5000),
    ],
)
def test_what_is_no_json_would_break_every_client_and_is_refused(data: str) -> None:
    found = read_queued(message(data), data_max_bytes=20_000)
    assert isinstance(found, TidingsError)
    assert found.code.name == "bad_data"
    assert "body" not in str(found)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda noise: message("1")[:-1] + noise))
def test_no_bytes_raise(noise: bytes) -> None:
    found = read_queued(noise, data_max_bytes=100)
    assert isinstance(found, QueuedPublication | TidingsError)
    if isinstance(found, QueuedPublication):
        json.loads(found.data_json)


def test_a_message_of_somebody_else_is_an_error_and_no_exception() -> None:
    assert isinstance(read_queued(b"hello", data_max_bytes=10), TidingsError)
    assert isinstance(read_queued(message('"xxxxxxxxxxxx"'), data_max_bytes=10), TooLarge)
    assert isinstance(read_queued(message("1").replace(b"orders:1", b"orders"), data_max_bytes=10), BadChannel)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (TAKEN, Disposition.ACK),
        (Receipt("1", "e.1", duplicate=True), Disposition.ACK),
        *((error, Disposition.DEAD_LETTER) for error in (UnknownNamespace(), TooLarge(), Forbidden(), BadChannel())),
        *((error, Disposition.RETRY) for error in (AWAY, TimedOut(), Draining(), Internal())),
    ],
)
def test_what_the_broker_says_decides(answer: Receipt | TidingsError, what: Disposition) -> None:
    assert disposition(answer) is what


def test_the_reason_goes_along() -> None:
    headers = dead_letter_headers(UnknownNamespace("no rule for 'x'" + "." * 1000), queue="tidings", node="n1")
    assert headers["tidings-code"] == "unknown_namespace"
    assert headers["tidings-reason"].startswith("no rule for 'x'")
    assert len(headers["tidings-reason"]) == 500
    assert (headers["tidings-queue"], headers["tidings-node"]) == ("tidings", "n1")


def test_what_is_taken_leaves_in_order_and_what_comes_next_goes_at_once() -> None:
    made = backlog("a", "b", "c")
    assert waiting(made, 0.0) == ["a", "b", "c"]
    settled = made.apply_answers([TAKEN, UnknownNamespace(), TAKEN], 0.0)
    assert [(taken.message, what) for taken, what, _ in settled] == [
        ("a", Disposition.ACK),
        ("b", Disposition.DEAD_LETTER),
        ("c", Disposition.ACK),
    ]
    assert len(made) == made.held_count == 0
    assert made.wait_s(0.0, most_s=7.0) == 7.0
    made.add("d", queued())
    assert made.wait_s(0.0, most_s=7.0) == 0.0
    assert waiting(made, 0.0) == ["d"]


def test_while_the_broker_takes_nothing_all_wait_in_order_and_attempts_get_rarer() -> None:
    made = backlog("a", "b")
    made.apply_answers([AWAY, AWAY], 10.0)
    made.add("c", queued())
    assert (made.held_count, waiting(made, 10.9), waiting(made, 11.0)) == (3, [], ["a", "b", "c"])
    assert made.wait_s(10.25, most_s=7.0) == 0.75
    made.apply_answers([AWAY, AWAY, TimedOut()], 11.0)
    assert (waiting(made, 12.9), waiting(made, 13.0)) == ([], ["a", "b", "c"])
    made.apply_answers([TAKEN, TAKEN, TAKEN], 13.0)
    assert (len(made), made.held_count) == (0, 0)
    made.add("d", queued())
    assert waiting(made, 13.0) == ["d"]


def test_one_that_is_refused_alone_stays_in_front_and_slows_nobody_down() -> None:
    made = backlog("a", "b", "c")
    for now_s in (10.0, 20.0, 30.0):
        made.apply_answers([AWAY, TAKEN, TAKEN], now_s)
        made.add("b", queued())
        made.add("c", queued())
        assert made.wait_s(now_s, most_s=7.0) == 1.0
        assert waiting(made, now_s + 1.0) == ["a", "b", "c"]


def test_what_came_after_the_attempt_is_not_settled_by_it() -> None:
    made = backlog("a")
    due = made.due(0.0)
    made.add("b", queued())
    assert [taken.message for taken, _, _ in made.apply_answers([TAKEN] * len(due), 0.0)] == ["a"]
    assert waiting(made, 0.0) == ["b"]
