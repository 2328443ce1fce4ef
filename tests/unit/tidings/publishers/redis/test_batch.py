"""When a publish is retried, when it ends, and with which results."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from contract.broker_contract import outgoing
from contract.publisher_contract import notification
from tidings.errors import TimedOut, Unavailable, UnknownCategory, UnknownNamespace
from tidings.publishers.base import OutgoingPublication
from tidings.publishers.redis.batch import NOTIFY, PUBLISH, RedisBatch, read_notify_results
from tidings.receipts import NotificationReceipt, Receipt
from tidings.redis_client.keys import RedisKeys


def batch_of(
    items: Sequence[OutgoingPublication], *, timeout_s: float = 5.0
) -> RedisBatch[OutgoingPublication, Receipt]:
    target = "redis://h:1/0"
    return RedisBatch(PUBLISH, items, RedisKeys(), target, timeout_s=timeout_s, now_s=100.0, random=lambda: 0.999)


@pytest.fixture
def items() -> list[OutgoingPublication]:
    return [outgoing("orders:1"), outgoing("orders:2")]


def test_first_request_has_no_pause_and_replies_end_the_batch(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    assert batch.pause_s(100.0) == 0
    packed, count = batch.request()
    assert (count, packed.count(b"EVALSHA")) == (1, 1)
    batch.on_replies([b"+e.1\n=e.2"])
    assert batch.pause_s(100.0) is None
    assert batch.results() == [Receipt(items[0].id, "e.1"), Receipt(items[1].id, "e.2", duplicate=True)]


def test_empty_batch_sends_no_request() -> None:
    batch = batch_of([])
    assert (batch.pause_s(100.0), batch.results()) == (None, [])


@pytest.mark.parametrize("error", ["NOSCRIPT x", "LOADING x", "READONLY x", "MASTERDOWN x", "TRYAGAIN x", "NORULES x"])
def test_transient_error_is_retried_for_its_items_only(error: str) -> None:
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


def test_notifications_are_split_and_only_those_behind_are_retried() -> None:
    items = [notification("7", id=f"n{number}") for number in range(150)]
    batch = RedisBatch(NOTIFY, items, RedisKeys(), "redis://h:1/0", timeout_s=5.0, now_s=100.0, random=lambda: 0.999)
    packed, count = batch.request()
    assert (count, packed.count(b"EVALSHA")) == (2, 2)
    batch.on_replies(["\n".join(["+"] * 99 + ["-"]).encode(), Exception("BEHIND x")])
    assert batch.pause_s(100.0) is not None
    packed, count = batch.request()
    assert count == 1
    assert [item.body in packed for item in items] == [False] * 100 + [True] * 50
    batch.fail("gone", sent=False, final=True)
    results = batch.results()
    assert results[:99] == [NotificationReceipt(f"n{number}", "accepted") for number in range(99)]
    assert isinstance(results[99], UnknownCategory)
    assert {type(result) for result in results[100:]} == {Unavailable}


@pytest.mark.parametrize("reply", [b"", b"+", b"+\n+\n+", b"+\n", b"+\nx", None, 7])
def test_unexpected_reply_to_notify_is_unavailable(reply: object) -> None:
    results = read_notify_results([notification("7"), notification("8")], reply)
    assert {type(result) for result in results} == {Unavailable}
    assert "notify.lua" in str(results[0])


def test_large_bodies_are_split_into_several_calls() -> None:
    items = [
        OutgoingPublication("orders:1", b"x" * size_bytes, f"i{size_bytes}")
        for size_bytes in (200_000, 70_000, 300_000, 1)
    ]
    batch = batch_of(items)
    packed, count = batch.request()
    assert (count, packed.count(b"EVALSHA")) == (4, 4)
    batch.on_replies([b"+e.1", b"+e.2", b"+e.3", b"+e.4"])
    assert [result.cursor for result in batch.results() if isinstance(result, Receipt)] == ["e.1", "e.2", "e.3", "e.4"]


def test_pauses_grow_to_a_cap_and_end_at_the_deadline(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    pauses = []
    for _ in range(12):
        batch.fail("refused", sent=False, final=False)
        pauses.append(batch.pause_s(100.0))
    assert pauses == sorted(pauses, key=lambda pause_s: pause_s or 0)
    assert max(pause_s or 0 for pause_s in pauses) <= 0.5
    assert batch.pause_s(104.4) is not None
    # The pause would leave no time for a reply.
    assert batch.pause_s(104.9) is None
    assert batch.pause_s(105.0) is None


def test_second_request_has_no_pause_after_a_broken_idle_connection(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    batch.fail("reset", sent=True, final=False)
    assert batch.pause_s(100.0) == 0
    batch.fail("reset", sent=True, final=False)
    assert batch.pause_s(100.0) != 0


def test_results_distinguish_unsent_from_unanswered(items: list[OutgoingPublication]) -> None:
    unsent, unanswered = batch_of(items), batch_of(items)
    unsent.fail("refused", sent=False, final=False)
    unanswered.fail("silence", sent=True, final=False)
    assert {type(result) for result in unsent.results()} == {Unavailable}
    assert {type(result) for result in unanswered.results()} == {TimedOut}
    assert "redis://h:1/0" in str(unsent.results()[0])


def test_final_failure_is_not_retried(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    batch.fail("wrong password", sent=False, final=True)
    assert batch.pause_s(100.0) is None


def test_rejected_items_keep_their_position(items: list[OutgoingPublication]) -> None:
    batch = batch_of([*items, outgoing("orders:3")])
    batch.request()
    batch.on_replies([b"-UNKNOWNNAMESPACE orders\n+e.7\n-NOPERM no such channel"])
    assert batch.pause_s(100.0) is None
    unknown, published, forbidden = batch.results()
    assert isinstance(unknown, UnknownNamespace)
    assert published == Receipt(items[1].id, "e.7")
    assert isinstance(forbidden, Unavailable)
    assert "NOPERM" in str(forbidden)


def test_rejected_call_rejects_each_of_its_items(items: list[OutgoingPublication]) -> None:
    batch = batch_of(items)
    batch.request()
    batch.on_replies([Exception("OOM command not allowed")])
    assert batch.pause_s(100.0) is None
    assert ["OOM" in str(result) for result in batch.results() if isinstance(result, Unavailable)] == [True, True]


@pytest.mark.parametrize("reply", [None, 5, [], b"", b"+", b"e.1", b"+e.1\n+e.2", [b"e.1", 0]])
def test_unexpected_reply_is_an_error(items: list[OutgoingPublication], reply: object) -> None:
    batch = batch_of(items[:1])
    batch.request()
    batch.on_replies([reply])
    assert isinstance(batch.results()[0], Unavailable)
