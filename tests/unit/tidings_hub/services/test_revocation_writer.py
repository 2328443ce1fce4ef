from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest

from support.waiting import wait_until
from tidings_hub.services import revocation_writer
from tidings_hub.services.revocation_writer import RevocationWriter


class Store:
    """Keeps what is saved. It fails with `failure`, waits for `gate`, and has room for `room` revocations."""

    def __init__(self) -> None:
        self.saved: dict[str, float] = {}
        self.calls = 0
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.room = 100
        self.has_lost = False

    def is_replaced(self) -> bool:
        return self.has_lost

    def save(self, until_s: Mapping[str, float]) -> dict[str, float]:
        self.calls += 1
        assert self.gate.wait(20)
        self.has_lost = False
        if self.failure is not None:
            raise self.failure
        fitting = dict(list(until_s.items())[: self.room])
        self.saved |= fitting
        return {key: end_s for key, end_s in until_s.items() if key not in fitting}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[RevocationWriter]:
    monkeypatch.setattr(revocation_writer, "_RETRY_S", 0.02)
    writer = RevocationWriter(store)
    writer.start()
    yield writer
    store.failure = None
    store.gate.set()
    writer.stop()


def test_flush_returns_when_everything_is_saved(writer: RevocationWriter, store: Store) -> None:
    assert writer.flush(timeout_s=20)
    writer.add("user:a", 1.0)
    writer.add("user:a", 3.0)
    writer.add("user:a", 2.0)
    assert writer.flush(timeout_s=20)
    assert (store.saved, writer.unsaved, writer.error) == ({"user:a": 3.0}, 0, "")


def test_add_during_a_slow_write_is_saved_afterwards(writer: RevocationWriter, store: Store) -> None:
    store.gate.clear()
    writer.add("user:a", 1.0)
    wait_until(lambda: store.calls == 1, why="the write has begun")
    writer.add("user:b", 1.0)
    assert not writer.flush(timeout_s=0.05)
    store.gate.set()
    assert writer.flush(timeout_s=20)
    assert store.saved == {"user:a": 1.0, "user:b": 1.0}


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), ValueError("a bug")])
def test_failed_write_is_repeated_until_it_succeeds(writer: RevocationWriter, store: Store, failure: Exception) -> None:
    store.failure = failure
    writer.add("user:a", 1.0)
    assert not writer.flush(timeout_s=20)
    assert (writer.unsaved, store.saved) == (1, {})
    assert writer.error in {"No space left on device", "ValueError: a bug"}
    writer.add("user:b", 2.0)
    writer.add("user:a", 3.0)
    store.failure = None
    assert writer.flush(timeout_s=20)
    assert (store.saved, writer.unsaved, writer.error) == ({"user:a": 3.0, "user:b": 2.0}, 0, "")


def test_revocations_that_do_not_fit_are_tried_again_with_the_next(writer: RevocationWriter, store: Store) -> None:
    store.room = 0
    writer.add("user:a", 1.0)
    assert writer.flush(timeout_s=20)
    assert writer.unsaved == 1
    store.room = 100
    writer.add("user:b", 1.0)
    assert writer.flush(timeout_s=20)
    assert (store.saved, writer.unsaved) == ({"user:a": 1.0, "user:b": 1.0}, 0)


def test_what_the_store_has_lost_is_saved_again(writer: RevocationWriter, store: Store) -> None:
    known = {"user:a": 1.0, "user:b": 2.0}
    writer.check(known)
    writer.add("user:c", 3.0)
    assert writer.flush(timeout_s=20)
    assert store.saved == {"user:c": 3.0}
    store.has_lost, store.failure = True, OSError("gone")
    writer.add("user:b", 9.0)
    writer.check(known)
    wait_until(lambda: writer.unsaved == 2)
    assert writer.repairs == 0
    store.failure = None
    wait_until(lambda: writer.repairs == 1)
    assert (store.saved, writer.unsaved) == ({"user:a": 1.0, "user:b": 9.0, "user:c": 3.0}, 0)


def test_stop_saves_what_waits(store: Store) -> None:
    writer = RevocationWriter(store)
    writer.start()
    store.gate.clear()
    writer.add("user:a", 1.0)
    wait_until(lambda: store.calls == 1, why="the write has begun")
    writer.add("user:b", 1.0)
    threading.Timer(0.1, store.gate.set).start()
    writer.stop()
    assert store.saved == {"user:a": 1.0, "user:b": 1.0}
