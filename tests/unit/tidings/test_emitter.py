from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import pytest

from support.models import Note, Thing
from tidings.async_emitter import AsyncEmitter
from tidings.emitter import Emitter
from tidings.errors import (
    BadChannel,
    BadConfig,
    BadData,
    BadId,
    BadRequest,
    TooLarge,
    Unavailable,
)
from tidings.publishers.base import NotifyResult, OutgoingNotification
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.publishers.memory.store import MemoryStore
from tidings.receipts import BatchFailed, NotificationReceipt, Receipt


class TestEmitter:
    def test_returns_receipts(self, url: str, stored: Callable[[str], Any]) -> None:
        with Emitter(url) as emitter:
            first = emitter.emit("first", {"n": 1}, channel="a:1", id="x")
            second = emitter.emit("second", channels=["a:1", "a:2"])
            third = emitter.emit("third", user="7")
            repeated = emitter.emit("first", {"n": 1}, channel="a:1", id="x")
        assert first.id == "x"
        assert not first.duplicate
        assert repeated == Receipt("x", first.cursor, duplicate=True)
        assert len({first.cursor, *(receipt.cursor for receipt in second), third.cursor}) == 4
        assert stored("a:1") == [("first", {"n": 1}), ("second", None)]
        assert stored("user:7") == [("third", None)]

    def test_pushes_models(self, url: str, stored: Callable[[str], Any]) -> None:
        emitter = Emitter(url)
        emitter.register(Note, channels=lambda _: "notes:all", version=lambda _: 3)
        assert isinstance(emitter.push_model(Thing(5), channel="a:1", version=1), Receipt)
        assert len(emitter.push_model(Thing(5), op="deleted", version=2)) == 2
        assert len(emitter.push_model(Note())) == 1
        data = {"class": "Thing", "model": {"id": 5}, "op": "updated", "version": 1, "version_kind": "given"}
        assert stored("a:1") == [("updated_model", data)]
        assert stored("list:things")[0][1]["op"] == "deleted"
        assert stored("notes:all")[0][1] == {
            "class": "Note",
            "model": {"text": "hello"},
            "op": "updated",
            "version": 3,
            "version_kind": "given",
        }

    def test_registered_rules_belong_to_one_emitter(self, url: str) -> None:
        Emitter(url).register(Note, channels=["notes:all"])
        with pytest.raises(BadChannel, match="no channel for a Note"):
            Emitter(url).push_model(Note())

    def test_a_misspelt_option_is_an_error(self, url: str) -> None:
        with pytest.raises(TypeError, match="unexpected options: exlude"):
            Emitter(url).push_model(Thing(1), exlude=["id"])  # type: ignore[call-overload]

    def test_closed_emitter_is_unavailable(self, url: str) -> None:
        emitter = Emitter(url)
        emitter.close()
        emitter.close()
        with pytest.raises(Unavailable, match="closed"):
            emitter.emit("e", channel="a:1")

    def test_invalid_settings_are_rejected(self) -> None:
        for settings in ({"timeout_s": 0}, {"timeout_s": float("nan")}, {"publication_max_bytes": 0}, {"batch_max": 0}):
            with pytest.raises(BadConfig):
                Emitter("memory://", **settings)

    @pytest.mark.parametrize("url", ["", "redis", "localhost:6379", "mqtt://user:hunter2@host", "//hunter2"])
    def test_unknown_url_is_rejected_without_repeating_it(self, url: str) -> None:
        for kind in (Emitter, AsyncEmitter):
            with pytest.raises(BadConfig, match="redis") as caught:
                kind(url)
            assert "hunter2" not in str(caught.value)

    def test_repr_contains_no_password(self) -> None:
        text = repr(Emitter("redis://user:hunter2@redis.example:6380/1?client_name=hunter2"))
        assert text == "Emitter('redis://redis.example:6380/1')"
        assert repr(AsyncEmitter("redis://:hunter2@redis.example")) == "AsyncEmitter('redis://redis.example')"

    def test_an_api_key_needs_an_http_url(self) -> None:
        with pytest.raises(BadConfig, match="api_key is only for http"):
            Emitter("redis://localhost", api_key="k")

    def test_settings_from_the_environment(self) -> None:
        emitter = Emitter.from_env({"TIDINGS_URL": "https://hub.example/x", "TIDINGS_API_KEY": "k" * 32})
        assert repr(emitter) == "Emitter('https://hub.example/x')"
        assert repr(Emitter.from_env({})) == "Emitter('redis://localhost:6379/0')"
        # Several programs often share an environment, so the key may belong to another one.
        assert repr(AsyncEmitter.from_env({"TIDINGS_URL": "redis://r", "TIDINGS_API_KEY": "k"})) == (
            "AsyncEmitter('redis://r')"
        )


class TestNotify:
    def test_returns_one_receipt_per_user(self, url: str, store: MemoryStore) -> None:
        with Emitter(url) as emitter:
            first = emitter.notify("order_shipped", user="7", title="x", id="mine", data={"on": date(2026, 1, 2)})
            again = emitter.notify("order_shipped", user="7", title="y", id="mine")
            both = emitter.notify("order_shipped", users=["7", "8", "7"], title="z")
        assert first == NotificationReceipt("mine", "stored")
        assert again == NotificationReceipt("mine", "stored", duplicate=True)
        assert [receipt.id for receipt in both] == [both[0].id] * 2
        stored = store.notifications.stored("7")
        assert [(item.title, item.data_json) for item in stored] == [
            ("x", b'{"on":"2026-01-02"}'),
            ("z", None),
        ]
        assert abs(stored[0].at_ms - time.time() * 1000) < 60_000

    def test_malformed_call_sends_nothing(self, url: str, store: MemoryStore) -> None:
        emitter = Emitter(url, publication_max_bytes=3_000)
        calls: list[tuple[type[Exception], dict[str, Any]]] = [
            (BadRequest, {}),
            (BadRequest, {"title": "x", "titel": "x"}),
            (BadRequest, {"title": "x", "url": "//evil.example"}),
            (BadId, {"title": "x", "id": "a b"}),
            (BadData, {"title": "x", "data": object()}),
            (TooLarge, {"title": "x", "data": "x" * 2_000}),
            (BadChannel, {"title": "x", "user": "a b"}),
        ]
        for error, options in calls:
            with pytest.raises(error):
                emitter.notify("order_shipped", **{"user": "7", **options})
        assert store.notifications.stored("7") == []

    def test_some_users_fail(self) -> None:
        class Half(MemoryPublisher):
            def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
                return [NotificationReceipt(items[0].id, "stored"), *[Unavailable("away")] * (len(items) - 1)]

        emitter = Emitter("memory://half", publisher=Half("memory://half"))
        with pytest.raises(BatchFailed, match="2 of 3") as caught:
            emitter.notify("order_shipped", users=["7", "8", "9"], title="x")
        assert [type(result) for result in caught.value.results] == [NotificationReceipt, Unavailable, Unavailable]
        assert pickle.loads(pickle.dumps(caught.value)).results[0] == caught.value.results[0]

    def test_duplicate_of_an_own_id_is_the_emitters_own_retry(self) -> None:
        class Repeated(MemoryPublisher):
            def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
                return [NotificationReceipt(item.id, "stored", duplicate=True) for item in items]

        emitter = Emitter("memory://repeated", publisher=Repeated("memory://repeated"))
        assert not emitter.notify("order_shipped", user="7", title="x").duplicate
        assert emitter.notify("order_shipped", user="7", title="x", id="mine").duplicate

    def test_closed_emitter_is_unavailable(self, url: str) -> None:
        emitter = Emitter(url)
        emitter.close()
        with pytest.raises(Unavailable, match="closed"):
            emitter.notify("order_shipped", user="7", title="x")
        with pytest.raises(BatchFailed), emitter.batch() as batch:
            batch.notify("order_shipped", user="7", title="x")

    def test_publisher_without_notifications_is_bad_config_where_they_are_made(self) -> None:
        with Emitter("socketio+redis://127.0.0.1") as emitter:
            with pytest.raises(BadConfig, match="takes no notifications"):
                emitter.notify("order_shipped", user="7", title="x")
            with pytest.raises(BadConfig, match="takes no notifications"), emitter.batch() as batch:
                batch.notify("order_shipped", user="7", title="x")

    def test_from_asyncio(self, url: str, store: MemoryStore) -> None:
        async def run() -> list[object]:
            async with AsyncEmitter(url) as emitter:
                receipt = await emitter.notify("order_shipped", user="7", title="x")
                receipts = await emitter.notify("order_shipped", users=["7", "8"], title="y")
                async with emitter.batch() as batch:
                    batch.notify("order_shipped", user="7", title="z")
                    batch.emit("e", 1, channel="a:1")
                return [receipt, *receipts, *batch.results]

        kinds = [type(result) for result in asyncio.run(run())]
        assert kinds == [*[NotificationReceipt] * 4, Receipt]
        assert [item.title for item in store.notifications.stored("7")] == ["x", "y", "z"]


@pytest.mark.parametrize(
    "setting",
    [
        {"timeout_s": "5"},
        {"timeout_s": None},
        {"batch_max": "1"},
        {"publication_max_bytes": None},
        {"prefix": b"x"},
        {"api_key": 1},
        {"url": None},
        {"url": b"redis://h"},
    ],
    ids=repr,
)
def test_setting_of_another_type_is_bad_config(setting: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        Emitter(**setting)
