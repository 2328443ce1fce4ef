from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.models import Thing
from tidings.emitter import Emitter
from tidings.errors import (
    BadRequest,
    TidingsError,
    TooLarge,
    UnknownCategory,
    UnknownNamespace,
)
from tidings.publishers.memory.store import MemoryStore, open_store
from tidings.receipts import BatchFailed, Receipt


class TestBatch:
    def test_sends_all_at_the_end(self, url: str, store: MemoryStore, stored: Callable[[str], Any]) -> None:
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
        assert stored("a:1") == [("one", 1), ("two", 2)]

    def test_later_change_of_data_does_not_change_the_batch(self, url: str, stored: Callable[[str], Any]) -> None:
        data = {"n": 1}
        with Emitter(url).batch() as batch:
            batch.emit("e", data, channel="a:1")
            data["n"] = 2
        assert stored("a:1") == [("e", {"n": 1})]

    def test_notifications_stand_among_publications_in_order(
        self, url: str, store: MemoryStore, stored: Callable[[str], Any]
    ) -> None:
        store.notifications.set_categories(["order_shipped"])
        with pytest.raises(BatchFailed, match="1 of 5") as caught, Emitter(url).batch() as batch:  # noqa: PT012
            batch.notify("order_shipped", user="7", title="x", id="n1")
            batch.emit("e", 1, channel="a:1", id="p1")
            batch.notify("order_lost", user="7", title="x", id="n2")
            batch.notify("order_shipped", user="8", title="y", id="n3")
            batch.emit("e", 2, channel="a:1", id="p2")
            assert (len(batch), store.seq, store.notifications.stored("7")) == (5, 0, [])
        assert batch.channels == ["user:7", "a:1", "user:7", "user:8", "a:1"]
        assert caught.value.results == batch.results
        ids = [None if isinstance(result, TidingsError) else result.id for result in batch.results]
        assert ids == ["n1", "p1", None, "n3", "p2"]
        assert isinstance(batch.results[2], UnknownCategory)
        assert stored("a:1") == [("e", 1), ("e", 2)]
        assert [item.id for item in store.notifications.stored("8")] == ["n3"]

    def test_notifications_count_towards_the_size_of_a_batch(self, url: str, store: MemoryStore) -> None:
        with Emitter(url, batch_max=3).batch() as batch:
            batch.notify("order_shipped", user="7", title="x")
            with pytest.raises(TooLarge, match="more than 3"):
                batch.notify("order_shipped", users=["7", "8", "9"], title="x")
            batch.notify("order_shipped", users=["8", "9"], title="x")
        assert [len(store.notifications.stored(user)) for user in "789"] == [1, 1, 1]

    def test_an_exception_inside_publishes_nothing(self, url: str, store: MemoryStore) -> None:
        with pytest.raises(ZeroDivisionError), Emitter(url).batch() as batch:  # noqa: PT012
            batch.emit("e", channel="a:1")
            batch.notify("order_shipped", user="7", title="x")
            _ = 1 / 0
        assert (store.seq, store.notifications.stored("7")) == (0, [])
        assert batch.results == []

    def test_empty_batch_sends_nothing(self, url: str) -> None:
        emitter = Emitter(url)
        emitter.close()
        with emitter.batch() as batch:
            assert len(batch) == 0
        assert batch.results == []

    def test_failure_has_the_result_of_every_item(self) -> None:
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

    def test_batch_size_is_limited(self, url: str, store: MemoryStore) -> None:
        with pytest.raises(TooLarge, match="more than 2"), Emitter(url, batch_max=2).batch() as batch:  # noqa: PT012
            batch.emit("e", channels=["a:1", "a:2"])
            batch.emit("e", channel="a:3")
        assert store.seq == 0

    def test_batch_is_used_in_one_with_block(self, url: str) -> None:
        batch = Emitter(url).batch()
        with pytest.raises(BadRequest, match="inside its `with` block"):
            batch.emit("e", channel="a:1")
        with batch:
            batch.emit("e", channel="a:1")
        with pytest.raises(BadRequest, match="inside its `with` block"):
            batch.emit("e", channel="a:1")
        with pytest.raises(BadRequest, match="one `with` block"), batch:
            pass

    def test_batch_without_a_with_block(self, url: str, stored: Callable[[str], Any]) -> None:
        emitter = Emitter(url)
        batch = emitter.batch().begin()
        batch.emit("e", 1, channels=["a:1", "a:2"])
        assert stored("a:1") == []
        batch.send()
        batch.send()
        assert stored("a:1") == stored("a:2") == [("e", 1)]
        assert batch.channels == ["a:1", "a:2"]
        assert len(batch.results) == 2
        dropped = emitter.batch().begin()
        dropped.emit("e", 2, channel="a:1")
        dropped.drop()
        dropped.send()
        assert stored("a:1") == [("e", 1)]
        assert len(dropped) == 0
        with pytest.raises(BadRequest, match="inside its `with` block"):
            dropped.emit("e", 3, channel="a:1")
