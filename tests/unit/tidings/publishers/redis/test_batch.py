"""When a publish is tried again, when it is given up, and what it says then."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from contract.broker_contract import outgoing
from tidings.errors import TimedOut, Unavailable, UnknownNamespace
from tidings.publishers.base import OutgoingPublication
from tidings.publishers.redis.batch import RedisBatch
from tidings.receipts import Receipt
from tidings.redis_client.keys import RedisKeys


def batch_of(items: Sequence[OutgoingPublication], *, timeout_s: float = 5.0) -> RedisBatch:
    return RedisBatch(items, RedisKeys(), "redis://h:1/0", timeout_s=timeout_s, now_s=100.0, random=lambda: 0.999)


@pytest.fixture
def items() -> list[OutgoingPublication]:
    return [outgoing("orders:1"), outgoing("orders:2")]


def test_the_first_request_goes_at_once_and_answers_end_it(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    assert batch.pause_s(100.0) == 0
    packed, count = batch.request()
    assert (count, packed.count(b"EVALSHA")) == (1, 1)
    batch.on_replies([b"+e.1\n=e.2"])
    assert batch.pause_s(100.0) is None
    assert batch.results() == [Receipt(items[0].id, "e.1"), Receipt(items[1].id, "e.2", duplicate=True)]


def test_an_empty_batch_asks_nothing() -> None:
    batch = batch_of([])
    assert (batch.pause_s(100.0), batch.results()) == (None, [])


@pytest.mark.parametrize("error", ["NOSCRIPT x", "LOADING x", "READONLY x", "MASTERDOWN x", "TRYAGAIN x", "NORULES x"])
def test_what_passes_is_tried_again_for_those_items_only(error: str) -> None:
    items = [outgoing("orders:1") for _ in range(150)]
    batch = batch_of(items)
    assert batch.request()[1] == 2
    batch.on_replies(["\n".join(f"+e.{number}" for number in range(100)).encode(), Exception(error)])
    pause_s = batch.pause_s(100.0)
    assert pause_s is not None
    assert 0 < pause_s <= 0.02
    packed, count = batch.request()
    assert count == 1
    assert [item.body in packed for item in items] == [False] * 100 + [True] * 50
    batch.on_replies(["\n".join(f"+e.{number}" for number in range(100, 150)).encode()])
    assert batch.results() == [Receipt(item.id, f"e.{number}") for number, item in enumerate(items)]


def test_large_bodies_come_in_calls_of_their_own() -> None:
    items = [
        OutgoingPublication("orders:1", b"x" * size_bytes, f"i{size_bytes}")
        for size_bytes in (200_000, 70_000, 300_000, 1)
    ]
    batch = batch_of(items)
    packed, count = batch.request()
    assert (count, packed.count(b"EVALSHA")) == (4, 4)
    batch.on_replies([b"+e.1", b"+e.2", b"+e.3", b"+e.4"])
    assert [answer.cursor for answer in batch.results() if isinstance(answer, Receipt)] == ["e.1", "e.2", "e.3", "e.4"]


def test_pauses_grow_to_a_cap_and_end_at_the_deadline(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    pauses = []
    for _ in range(12):
        batch.fail("refused", sent=False, final=False)
        pauses.append(batch.pause_s(100.0))
    assert pauses == sorted(pauses, key=lambda pause_s: pause_s or 0)
    assert max(pause_s or 0 for pause_s in pauses) <= 0.5
    assert batch.pause_s(104.4) is not None
    # The pause would leave no time for an answer.
    assert batch.pause_s(104.9) is None
    assert batch.pause_s(105.0) is None


def test_after_a_dead_idle_connection_the_next_request_goes_at_once(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    batch.fail("reset", sent=True, final=False)
    assert batch.pause_s(100.0) == 0
    batch.fail("reset", sent=True, final=False)
    assert batch.pause_s(100.0) != 0


def test_giving_up_says_whether_it_may_have_happened(items: list[OutgoingPublication]) -> None:
    never, maybe = batch_of(items), batch_of(items)
    never.fail("refused", sent=False, final=False)
    maybe.fail("silence", sent=True, final=False)
    assert {type(one) for one in never.results()} == {Unavailable}
    assert {type(one) for one in maybe.results()} == {TimedOut}
    assert "redis://h:1/0" in str(never.results()[0])


def test_what_is_final_is_not_tried_again(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    batch.fail("wrong password", sent=False, final=True)
    assert batch.pause_s(100.0) is None


def test_refusals_stand_in_their_place(items: list[OutgoingPublication]) -> None:
    batch = batch_of([*items, outgoing("orders:3")])
    batch.request()
    batch.on_replies([b"-UNKNOWNNAMESPACE orders\n+e.7\n-NOPERM no such channel"])
    assert batch.pause_s(100.0) is None
    unknown, taken, forbidden = batch.results()
    assert isinstance(unknown, UnknownNamespace)
    assert taken == Receipt(items[1].id, "e.7")
    assert isinstance(forbidden, Unavailable)
    assert "NOPERM" in str(forbidden)


def test_a_refused_call_is_a_refusal_of_each(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    batch.request()
    batch.on_replies([Exception("OOM command not allowed")])
    assert batch.pause_s(100.0) is None
    assert ["OOM" in str(answer) for answer in batch.results() if isinstance(answer, Unavailable)] == [True, True]


@pytest.mark.parametrize("reply", [None, 5, [], b"", b"+", b"e.1", b"+e.1\n+e.2", [b"e.1", 0]])
def test_a_strange_reply_is_an_error(items: list[OutgoingPublication], reply: object) -> None:
    batch = batch_of(items[:1])
    batch.request()
    batch.on_replies([reply])
    assert isinstance(batch.results()[0], Unavailable)
