"""The core of the emitter, and the shells around it, without a network."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from tidings.async_emitter import AsyncEmitter
from tidings.builder import PublicationBuilder, receipts_or_raise, without_own_duplicates
from tidings.emitter import Emitter
from tidings.errors import (
    BadChannel,
    BadConfig,
    BadData,
    BadEvent,
    BadId,
    BadRequest,
    Internal,
    TimedOut,
    TooLarge,
    Unavailable,
    UnknownNamespace,
    from_wire,
)
from tidings.publishers.base import CALLER_ID_S, OWN_ID_S, OutgoingPublication, PublishResult
from tidings.publishers.memory.store import MemoryStore, open_store
from tidings.receipts import AsyncReceipt, BatchFailed, Receipt
from tidings.wire.publication import decode

NOW_NS = 1_790_000_000_123_456_789
_names = count()


@pytest.fixture
def store() -> MemoryStore:
    return open_store(f"memory://emitter{next(_names)}")


@pytest.fixture
def url(store: MemoryStore) -> str:
    return f"memory://emitter{next(_names) - 1}"


@pytest.fixture
def kept(store: MemoryStore, url: str) -> Callable[[str], list[tuple[str, Any]]]:
    assert open_store(url) is store
    return lambda channel: [(one.event, json.loads(one.data_json)) for one in store.stored(channel)]


def drafted(event: str = "e", data: object = None, **where: Any) -> list[OutgoingPublication]:
    return PublicationBuilder(clock_ns=lambda: NOW_NS).build_event(event, data, **where)


def body_of(item: OutgoingPublication) -> Any:
    return decode(item.channel, b"t1 1 0 x " + item.body, max_bytes=100_000)


class TestWhereTo:
    def test_a_channel(self) -> None:
        (item,) = drafted("shipped", {"order": 42}, channel="orders:42")
        said = body_of(item)
        assert (item.channel, said.event, said.data_json) == ("orders:42", "shipped", b'{"order":42}')
        assert said.at_ms == 1_790_000_000_123
        assert said.id == item.id

    def test_what_is_asked_for_goes_along(self) -> None:
        assert [body_of(one).options for one in drafted(channel="a:1")] == ["-"]
        assert [body_of(one).options for one in drafted(channels=["a:1", "a:2"], ack=True)] == ["ra", "ra"]

    def test_where_no_answer_comes_back_none_is_asked_for(self) -> None:
        builder = PublicationBuilder(no_acks="a queue only takes publications")
        with pytest.raises(BadConfig, match="only takes publications"):
            builder.build_event("e", None, channel="a:1", ack=True)
        assert len(builder.build_event("e", None, channel="a:1")) == 1

    def test_channels_share_one_id_and_one_body(self) -> None:
        items = drafted(channels=["a:1", "b:2", "a:1"])
        assert [item.channel for item in items] == ["a:1", "b:2"]
        assert items[0].body is items[1].body
        assert items[0].id == items[1].id

    def test_a_user(self) -> None:
        assert [item.channel for item in drafted(user="42")] == ["user:42"]

    @pytest.mark.parametrize(
        "where",
        [
            {},
            {"channel": None},
            {"channel": None, "channels": None, "user": None},
            {"channel": ""},
            {"channel": "orders"},
            {"channel": "orders:"},
            {"channel": ":42"},
            {"channel": "orders:*"},
            {"channel": "orders:4\n2"},
            {"channel": 42},
            {"channel": b"orders:42"},
            {"channel": ["orders:42"]},
            {"channels": []},
            {"channels": ()},
            {"channels": "orders:42"},
            {"channels": {"orders:42": 1}},
            {"channels": 42},
            {"channels": ["orders:42", ""]},
            {"channels": [None]},
            {"user": ""},
            {"user": 42},
            {"user": "a b"},
            {"user": "*"},
            {"channel": "orders:42", "user": "42"},
            {"channel": "orders:42", "channels": ["orders:42"]},
            {"channel": "", "user": "42"},
            {"channels": [], "user": "42"},
        ],
    )
    def test_anything_else_is_an_error_and_never_everyone(
        self, where: dict[str, Any], store: MemoryStore, url: str
    ) -> None:
        emitter = Emitter(url)
        calls: list[Callable[[], object]] = [
            lambda: emitter.emit("e", {}, **where),
            lambda: asyncio.run(AsyncEmitter(url).emit("e", {}, **where)),
            lambda: emitter.push_model(Note(), **where),
        ]
        for call in calls:
            with pytest.raises(BadChannel):
                call()
        with pytest.raises(BadChannel), emitter.batch() as batch:  # noqa: PT012
            batch.emit("fine", channel="a:1")
            batch.emit("e", {}, **where)
        assert store.seq == 0


class TestWhatIsSent:
    def test_a_given_id_is_remembered_longer_than_our_own(self) -> None:
        (given,) = drafted(channel="a:1", id="order-42")
        (own,) = drafted(channel="a:1")
        assert (given.id, given.idempotency_s) == ("order-42", CALLER_ID_S)
        assert (len(own.id), own.idempotency_s) == (22, OWN_ID_S)
        assert (CALLER_ID_S, OWN_ID_S) == (300, 30)

    @pytest.mark.parametrize("id", ["", "a b", "x" * 65, "a/b", 7])
    def test_a_malformed_id(self, id: Any) -> None:
        with pytest.raises(BadId):
            drafted(channel="a:1", id=id)

    @pytest.mark.parametrize("event", ["", "connect", "tidings:ready", "a\nb", "x" * 129, None, 7, "\ud800"])
    def test_a_malformed_or_reserved_event(self, event: Any) -> None:
        with pytest.raises(BadEvent):
            drafted(event, channel="a:1")

    def test_the_documented_forms(self) -> None:
        class Colour(Enum):
            RED = "red"

        data = {
            "at": datetime(2026, 11, 22, 12, tzinfo=UTC),
            "id": UUID(int=1),
            "price": Decimal("1.10"),
            "colour": Colour.RED,
            "pair": (1, 2),
        }
        (item,) = drafted(data=data, channel="a:1")
        assert json.loads(body_of(item).data_json) == {
            "at": "2026-11-22T12:00:00+00:00",
            "id": "00000000-0000-0000-0000-000000000001",
            "price": "1.10",
            "colour": "red",
            "pair": [1, 2],
        }

    def test_what_json_cannot_say_names_its_path(self) -> None:
        cycle: list[object] = []
        cycle.append(cycle)
        for bad in (float("nan"), b"x", {1}, cycle, object()):
            with pytest.raises(BadData, match=r"data\.items\[1\]"):
                drafted(data={"items": [0, bad]}, channel="a:1")

    def test_too_large(self) -> None:
        builder = PublicationBuilder(publication_max_bytes=10)
        assert builder.build_event("e", "x" * 8, channel="a:1")
        with pytest.raises(TooLarge, match="11 bytes; publication_max_bytes allows 10"):
            builder.build_event("e", "x" * 9, channel="a:1")


class TestResults:
    ITEM = OutgoingPublication("a:1", b"", "i", OWN_ID_S)

    def test_a_duplicate_of_our_own_retry_is_none_to_the_caller(self) -> None:
        given = OutgoingPublication("a:1", b"", "i", CALLER_ID_S)
        seen = without_own_duplicates(
            [self.ITEM, given], [Receipt("i", "e.1", duplicate=True), Receipt("i", "e.2", duplicate=True)]
        )
        assert seen == [Receipt("i", "e.1"), Receipt("i", "e.2", duplicate=True)]

    def test_a_publisher_that_forgets_an_item_is_found_out(self) -> None:
        with pytest.raises(Internal, match="1 results for 2"):
            without_own_duplicates([self.ITEM, self.ITEM], [Receipt("i", "e.1")])

    def test_one_reason_for_all_is_that_reason(self) -> None:
        with pytest.raises(TimedOut, match="first"):
            receipts_or_raise([TimedOut("first"), TimedOut("second")])

    def test_mixed_reasons_are_a_failed_batch(self) -> None:
        results: list[PublishResult] = [Receipt("i", "e.1"), Unavailable("down"), UnknownNamespace("none")]
        with pytest.raises(BatchFailed, match="2 of 3 publications were not taken; the first: down") as caught:
            receipts_or_raise(results)
        assert caught.value.results == results

    def test_a_failed_batch_survives_a_task_queue(self) -> None:
        error = BatchFailed([Receipt("i", "e.1"), Unavailable("down")])
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert again.results[0] == Receipt("i", "e.1")
        assert isinstance(again.results[1], Unavailable)
        assert str(again.results[1]) == "down"

    def test_no_wire_code_becomes_a_failed_batch(self) -> None:
        assert type(from_wire("internal", "x")) is Internal


@dataclass
class Thing:
    id: int
    __channels__ = ("things:{id}", "list:things")


class Note:
    """Not a dataclass of ours: it has no channels."""

    def to_dict(self) -> dict[str, Any]:
        return {"text": "hello"}


class TestEmitter:
    def test_returns_receipts(self, url: str, kept: Callable[[str], Any]) -> None:
        with Emitter(url) as emitter:
            one = emitter.emit("first", {"n": 1}, channel="a:1", id="x")
            many = emitter.emit("second", channels=["a:1", "a:2"])
            user = emitter.emit("third", user="7")
            again = emitter.emit("first", {"n": 1}, channel="a:1", id="x")
        assert one.id == "x"
        assert not one.duplicate
        assert again == Receipt("x", one.cursor, duplicate=True)
        assert len({one.cursor, *(r.cursor for r in many), user.cursor}) == 4
        assert kept("a:1") == [("first", {"n": 1}), ("second", None)]
        assert kept("user:7") == [("third", None)]

    def test_pushes_models(self, url: str, kept: Callable[[str], Any]) -> None:
        emitter = Emitter(url)
        emitter.register(Note, channels=lambda _: "notes:all", version=lambda _: 3)
        assert isinstance(emitter.push_model(Thing(5), channel="a:1", version=1), Receipt)
        assert len(emitter.push_model(Thing(5), op="deleted", version=2)) == 2
        assert len(emitter.push_model(Note())) == 1
        assert kept("a:1") == [("updated_model", {"class": "Thing", "model": {"id": 5}, "op": "updated", "version": 1})]
        assert kept("list:things")[0][1]["op"] == "deleted"
        assert kept("notes:all")[0][1] == {"class": "Note", "model": {"text": "hello"}, "op": "updated", "version": 3}

    def test_registering_with_one_emitter_says_nothing_to_another(self, url: str) -> None:
        Emitter(url).register(Note, channels=["notes:all"])
        with pytest.raises(BadChannel, match="no channel for a Note"):
            Emitter(url).push_model(Note())

    def test_a_misspelt_option_is_an_error(self, url: str) -> None:
        with pytest.raises(TypeError, match="unexpected options: exlude"):
            Emitter(url).push_model(Thing(1), exlude=["id"])  # type: ignore[call-overload]

    def test_closed_is_unavailable(self, url: str) -> None:
        emitter = Emitter(url)
        emitter.close()
        emitter.close()
        with pytest.raises(Unavailable, match="closed"):
            emitter.emit("e", channel="a:1")

    def test_settings_that_cannot_be(self) -> None:
        for settings in ({"timeout_s": 0}, {"timeout_s": float("nan")}, {"publication_max_bytes": 0}, {"batch_max": 0}):
            with pytest.raises(BadConfig):
                Emitter("memory://", **settings)

    @pytest.mark.parametrize("url", ["", "redis", "localhost:6379", "mqtt://user:hunter2@host", "//hunter2", None])
    def test_a_url_of_no_kind_is_refused_without_repeating_it(self, url: Any) -> None:
        for kind in (Emitter, AsyncEmitter):
            with pytest.raises(BadConfig, match="redis") as caught:
                kind(url)
            assert "hunter2" not in str(caught.value)

    def test_no_password_in_its_repr(self) -> None:
        shown = repr(Emitter("redis://user:hunter2@redis.example:6380/1?password=hunter2"))
        assert shown == "Emitter('redis://redis.example:6380/1')"
        assert repr(AsyncEmitter("redis://:hunter2@redis.example")) == "AsyncEmitter('redis://redis.example')"

    def test_an_api_key_needs_an_http_url(self) -> None:
        with pytest.raises(BadConfig, match="api_key is only for http"):
            Emitter("redis://localhost", api_key="k")

    def test_from_the_environment(self) -> None:
        found = Emitter.from_env({"TIDINGS_URL": "https://hub.example/x", "TIDINGS_API_KEY": "k" * 32})
        assert repr(found) == "Emitter('https://hub.example/x')"
        assert repr(Emitter.from_env({})) == "Emitter('redis://localhost:6379/0')"
        # One environment often serves several programs: the key may be meant for another.
        assert repr(AsyncEmitter.from_env({"TIDINGS_URL": "redis://r", "TIDINGS_API_KEY": "k"})) == (
            "AsyncEmitter('redis://r')"
        )


class TestBatch:
    def test_sends_all_at_the_end(self, url: str, store: MemoryStore, kept: Callable[[str], Any]) -> None:
        emitter = Emitter(url)
        with emitter.batch() as batch:
            batch.emit("one", 1, channel="a:1")
            batch.emit("two", 2, channels=["a:1", "a:2"])
            batch.push_model(Thing(5), user="7", version=1)
            assert len(batch) == 4
            assert store.seq == 0
        assert [result.cursor for result in batch.results if isinstance(result, Receipt)] == [
            f"{store.epoch}.{seq}" for seq in (1, 2, 3, 4)
        ]
        assert kept("a:1") == [("one", 1), ("two", 2)]

    def test_what_is_added_stays_as_it_was(self, url: str, kept: Callable[[str], Any]) -> None:
        data = {"n": 1}
        with Emitter(url).batch() as batch:
            batch.emit("e", data, channel="a:1")
            data["n"] = 2
        assert kept("a:1") == [("e", {"n": 1})]

    def test_an_exception_inside_publishes_nothing(self, url: str, store: MemoryStore) -> None:
        with pytest.raises(ZeroDivisionError), Emitter(url).batch() as batch:  # noqa: PT012
            batch.emit("e", channel="a:1")
            _ = 1 / 0
        assert store.seq == 0
        assert batch.results == []

    def test_nothing_added_is_nothing_sent(self, url: str) -> None:
        emitter = Emitter(url)
        emitter.close()
        with emitter.batch() as batch:
            assert len(batch) == 0
        assert batch.results == []

    def test_a_failure_names_every_item(self) -> None:
        store = open_store("memory://failing")
        store.write_rules({"orders": (10, 60)})
        emitter = Emitter("memory://failing")
        with pytest.raises(BatchFailed, match="1 of 2") as caught, emitter.batch() as batch:  # noqa: PT012
            batch.emit("e", channel="orders:1")
            batch.emit("e", channel="elsewhere:1")
        assert isinstance(caught.value.results[0], Receipt)
        assert isinstance(caught.value.results[1], UnknownNamespace)
        assert batch.results == caught.value.results
        assert isinstance(caught.value.__cause__, UnknownNamespace)

    def test_is_bounded(self, url: str, store: MemoryStore) -> None:
        with pytest.raises(TooLarge, match="more than 2"), Emitter(url, batch_max=2).batch() as batch:  # noqa: PT012
            batch.emit("e", channels=["a:1", "a:2"])
            batch.emit("e", channel="a:3")
        assert store.seq == 0

    def test_is_for_one_block(self, url: str) -> None:
        batch = Emitter(url).batch()
        with pytest.raises(BadRequest, match="inside its `with` block"):
            batch.emit("e", channel="a:1")
        with batch:
            batch.emit("e", channel="a:1")
        with pytest.raises(BadRequest, match="inside its `with` block"):
            batch.emit("e", channel="a:1")
        with pytest.raises(BadRequest, match="one `with` block"), batch:
            pass

    def test_by_hand(self, url: str, kept: Callable[[str], Any]) -> None:
        emitter = Emitter(url)
        batch = emitter.batch().begin()
        batch.emit("e", 1, channels=["a:1", "a:2"])
        assert kept("a:1") == []
        batch.send()
        batch.send()
        assert kept("a:1") == kept("a:2") == [("e", 1)]
        assert batch.channels == ["a:1", "a:2"]
        assert len(batch.results) == 2
        dropped = emitter.batch().begin()
        dropped.emit("e", 2, channel="a:1")
        dropped.drop()
        dropped.send()
        assert kept("a:1") == [("e", 1)]
        assert len(dropped) == 0
        with pytest.raises(BadRequest, match="inside its `with` block"):
            dropped.emit("e", 3, channel="a:1")


class TestAsyncEmitter:
    def test_the_same_methods(self, url: str, kept: Callable[[str], Any]) -> None:
        async def run() -> None:
            async with AsyncEmitter(url) as emitter:
                one = await emitter.emit("one", 1, channel="a:1")
                many = await emitter.emit("two", 2, channels=["a:1", "a:2"])
                models = await emitter.push_model(Thing(5))
                async with emitter.batch() as batch:
                    batch.emit("three", 3, channel="a:1")
                    batch.push_model(Thing(6), channel="a:3")
                assert len({one.cursor, *(r.cursor for r in (*many, *models))}) == 5
                assert len(batch.results) == 2
                with pytest.raises(ZeroDivisionError):  # noqa: PT012
                    async with emitter.batch() as broken:
                        broken.emit("never", channel="a:1")
                        _ = 1 / 0
                by_hand = emitter.batch().begin()
                by_hand.emit("four", 4, channel="a:1")
                await by_hand.send()
                await by_hand.send()
            with pytest.raises(Unavailable, match="closed"):
                await emitter.emit("e", channel="a:1")

        asyncio.run(run())
        assert kept("a:1") == [("one", 1), ("two", 2), ("three", 3), ("four", 4)]

    def test_serves_one_event_loop_after_another(self, url: str, kept: Callable[[str], Any]) -> None:
        emitter = AsyncEmitter(url)
        for number in range(3):
            asyncio.run(emitter.emit("e", number, channel="a:1"))
        assert [data for _, data in kept("a:1")] == [0, 1, 2]


class TestReceipt:
    def test_how_it_waits_is_no_part_of_it(self, url: str) -> None:
        with Emitter(url) as emitter:
            receipt = emitter.emit("e", channel="a:1", ack=True, id="x")
        plain = Receipt("x", receipt.cursor)
        assert (receipt, hash(receipt), repr(receipt)) == (plain, hash(plain), repr(plain))
        assert asdict(receipt) == {"id": "x", "cursor": receipt.cursor, "duplicate": False}
        assert receipt != Receipt("x", receipt.cursor, duplicate=True)
        assert receipt != ("x", receipt.cursor, False)

    @pytest.mark.parametrize("kind", [Receipt, AsyncReceipt])
    def test_a_pickled_one_does_not_wait(self, kind: type[Receipt]) -> None:
        receipt = kind("x", "e.1", duplicate=True)
        receipt.set_waiter(max)
        again = pickle.loads(pickle.dumps(receipt))
        assert (type(again), again) == (kind, receipt)
        with pytest.raises(BadRequest, match="ack=True"):
            Receipt.wait(again)

    def test_it_waits_for_publications_that_asked_for_it(self, url: str) -> None:
        with Emitter(url) as emitter:
            asked, _ = emitter.emit("e", channels=["a:1", "a:2"], ack=True)
            assert asked.wait(acks=0).recipients == 0
            with pytest.raises(TimedOut, match=f"{asked.id}: 0 of 1"):
                asked.wait(timeout_s=0.2)
            with pytest.raises(BadRequest, match="acks"):
                asked.wait(acks=-1)
            with pytest.raises(BadRequest, match="ack=True"):
                emitter.emit("e", channel="a:1").wait()
            with emitter.batch() as batch:
                batch.emit("e", channel="a:1", ack=True)
            (collected,) = batch.results
            assert isinstance(collected, Receipt)
            assert collected.wait(acks=0).channel == "a:1"

    @pytest.mark.parametrize(
        ("scheme", "why"),
        [("amqp://localhost", "only takes publications"), ("socketio+redis://localhost", "do not reply to an emitter")],
    )
    def test_ways_without_an_answer_say_why(self, scheme: str, why: str) -> None:
        for emitter in (Emitter(scheme), Emitter(scheme).batch().begin()):
            with pytest.raises(BadConfig, match=why):
                emitter.emit("e", channel="a:1", ack=True)
        with pytest.raises(BadConfig, match=why):
            asyncio.run(AsyncEmitter(scheme).emit("e", channel="a:1", ack=True))
