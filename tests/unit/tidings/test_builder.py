from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from support.models import Note
from tidings.async_emitter import AsyncEmitter
from tidings.builder import PublicationBuilder, receipts_or_raise, without_own_duplicates
from tidings.emitter import Emitter
from tidings.errors import (
    BadChannel,
    BadConfig,
    BadData,
    BadEvent,
    BadId,
    Internal,
    TimedOut,
    TooLarge,
    Unavailable,
    UnknownNamespace,
    from_wire,
)
from tidings.publishers.base import CALLER_ID_S, OWN_ID_S, OutgoingPublication, PublishResult
from tidings.publishers.memory.store import MemoryStore
from tidings.receipts import BatchFailed, Receipt
from tidings.wire.publication import decode

NOW_NS = 1_790_000_000_123_456_789


def build(event: str = "e", data: object = None, **target: Any) -> list[OutgoingPublication]:
    return PublicationBuilder(clock_ns=lambda: NOW_NS).build_event(event, data, **target)


def body_of(item: OutgoingPublication) -> Any:
    return decode(item.channel, b"t1 1 0 x " + item.body, max_bytes=100_000)


class TestTarget:
    def test_publication_to_a_channel(self) -> None:
        (item,) = build("shipped", {"order": 42}, channel="orders:42")
        publication = body_of(item)
        assert (item.channel, publication.event, publication.data_json) == ("orders:42", "shipped", b'{"order":42}')
        assert publication.at_ms == 1_790_000_000_123
        assert publication.id == item.id

    def test_requested_acks_are_in_the_options(self) -> None:
        assert [body_of(item).options for item in build(channel="a:1")] == ["-"]
        assert [body_of(item).options for item in build(channels=["a:1", "a:2"], ack=True)] == ["ra", "ra"]

    def test_ack_is_rejected_where_none_is_possible(self) -> None:
        builder = PublicationBuilder(no_acks="a queue only takes publications")
        with pytest.raises(BadConfig, match="only takes publications"):
            builder.build_event("e", None, channel="a:1", ack=True)
        assert len(builder.build_event("e", None, channel="a:1")) == 1

    def test_channels_share_one_id_and_one_body(self) -> None:
        items = build(channels=["a:1", "b:2", "a:1"])
        assert [item.channel for item in items] == ["a:1", "b:2"]
        assert items[0].body is items[1].body
        assert items[0].id == items[1].id

    def test_publication_to_a_user(self) -> None:
        assert [item.channel for item in build(user="42")] == ["user:42"]

    @pytest.mark.parametrize(
        "target",
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
    def test_missing_or_malformed_target_is_an_error(
        self, target: dict[str, Any], store: MemoryStore, url: str
    ) -> None:
        emitter = Emitter(url)
        calls: list[Callable[[], object]] = [
            lambda: emitter.emit("e", {}, **target),
            lambda: asyncio.run(AsyncEmitter(url).emit("e", {}, **target)),
            lambda: emitter.push_model(Note(), **target),
        ]
        for call in calls:
            with pytest.raises(BadChannel):
                call()
        with pytest.raises(BadChannel), emitter.batch() as batch:  # noqa: PT012
            batch.emit("fine", channel="a:1")
            batch.emit("e", {}, **target)
        assert store.seq == 0


class TestPublication:
    def test_caller_id_is_remembered_longer_than_generated_id(self) -> None:
        (with_id,) = build(channel="a:1", id="order-42")
        (without_id,) = build(channel="a:1")
        assert (with_id.id, with_id.idempotency_s) == ("order-42", CALLER_ID_S)
        assert (len(without_id.id), without_id.idempotency_s) == (22, OWN_ID_S)
        assert (CALLER_ID_S, OWN_ID_S) == (300, 30)

    @pytest.mark.parametrize("id", ["", "a b", "x" * 65, "a/b", 7])
    def test_malformed_id_is_rejected(self, id: Any) -> None:
        with pytest.raises(BadId):
            build(channel="a:1", id=id)

    @pytest.mark.parametrize("event", ["", "connect", "tidings:ready", "a\nb", "x" * 129, None, 7, "\ud800"])
    def test_malformed_or_reserved_event_is_rejected(self, event: Any) -> None:
        with pytest.raises(BadEvent):
            build(event, channel="a:1")

    def test_documented_types_are_encoded(self) -> None:
        class Colour(Enum):
            RED = "red"

        data = {
            "at": datetime(2026, 11, 22, 12, tzinfo=UTC),
            "id": UUID(int=1),
            "price": Decimal("1.10"),
            "colour": Colour.RED,
            "pair": (1, 2),
        }
        (item,) = build(data=data, channel="a:1")
        assert json.loads(body_of(item).data_json) == {
            "at": "2026-11-22T12:00:00+00:00",
            "id": "00000000-0000-0000-0000-000000000001",
            "price": "1.10",
            "colour": "red",
            "pair": [1, 2],
        }

    def test_error_for_unrepresentable_data_has_its_path(self) -> None:
        cycle: list[object] = []
        cycle.append(cycle)
        for bad in (float("nan"), b"x", {1}, cycle, object()):
            with pytest.raises(BadData, match=r"data\.items\[1\]"):
                build(data={"items": [0, bad]}, channel="a:1")

    def test_body_over_the_limit_is_rejected(self) -> None:
        builder = PublicationBuilder(publication_max_bytes=10)
        assert builder.build_event("e", "x" * 8, channel="a:1")
        with pytest.raises(TooLarge, match="11 bytes; publication_max_bytes allows 10"):
            builder.build_event("e", "x" * 9, channel="a:1")


class TestResults:
    ITEM = OutgoingPublication("a:1", b"", "i", OWN_ID_S)

    def test_duplicate_of_a_retry_is_not_reported_to_the_caller(self) -> None:
        with_caller_id = OutgoingPublication("a:1", b"", "i", CALLER_ID_S)
        receipts = without_own_duplicates(
            [self.ITEM, with_caller_id], [Receipt("i", "e.1", duplicate=True), Receipt("i", "e.2", duplicate=True)]
        )
        assert receipts == [Receipt("i", "e.1"), Receipt("i", "e.2", duplicate=True)]

    def test_missing_result_of_a_publisher_is_an_internal_error(self) -> None:
        with pytest.raises(Internal, match="1 results for 2"):
            without_own_duplicates([self.ITEM, self.ITEM], [Receipt("i", "e.1")])

    def test_same_error_for_all_items_is_raised_itself(self) -> None:
        with pytest.raises(TimedOut, match="first"):
            receipts_or_raise([TimedOut("first"), TimedOut("second")])

    def test_different_results_raise_batch_failed(self) -> None:
        results: list[PublishResult] = [Receipt("i", "e.1"), Unavailable("down"), UnknownNamespace("none")]
        with pytest.raises(BatchFailed, match="2 of 3 publications were not taken; the first: down") as caught:
            receipts_or_raise(results)
        assert caught.value.results == results

    def test_batch_failed_can_be_pickled(self) -> None:
        error = BatchFailed([Receipt("i", "e.1"), Unavailable("down")])
        unpickled = pickle.loads(pickle.dumps(error))
        assert str(unpickled) == str(error)
        assert unpickled.results[0] == Receipt("i", "e.1")
        assert isinstance(unpickled.results[1], Unavailable)
        assert str(unpickled.results[1]) == "down"

    def test_no_wire_code_becomes_batch_failed(self) -> None:
        assert type(from_wire("internal", "x")) is Internal
