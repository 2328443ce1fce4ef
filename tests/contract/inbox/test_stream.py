"""The stream of notifications in Redis: which entries a service takes from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.redis_client.connection import ConnectionLost
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.url import RedisAddress
from tidings_notifications.intake import stream as module
from tidings_notifications.intake.stream import Entry, NotificationStream, Own, StreamRules

KEYS = RedisKeys()
Open = Callable[[], NotificationStream]


@pytest.fixture
def open_stream(redis: RedisProcess) -> Iterator[Open]:
    """Opens the stream as services do whose host name and address are the same, on two machines."""
    opened: list[NotificationStream] = []

    def open_again() -> NotificationStream:
        rules = StreamRules(("mention",), stream_max=100, dead_max=100)
        opened.append(NotificationStream(RedisAddress.open(redis.url), KEYS, consumer="app/127.0.0.1", rules=rules))
        opened[-1].open()
        return opened[-1]

    yield open_again
    for stream in opened:
        stream.close()


def append(redis: RedisProcess, *bodies: str | bytes) -> None:
    with redis.client() as client:
        for body in bodies:
            client.xadd(KEYS.notifications, {"n": body})


def test_entries_of_an_ended_service_with_the_same_name_are_taken(
    redis: RedisProcess, open_stream: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OWN_SILENCE_MS", 200)
    first, second = open_stream(), open_stream()
    append(redis, "a", "b")
    assert [entry.body for entry in first.read()] == [b"a", b"b"]
    first.close()
    taken: list[Entry] = []
    wait_until(lambda: taken.extend(second.take_pending()) or taken, why="the second service takes the entries")
    assert [entry.body for entry in taken] == [b"a", b"b"]
    second.finish(taken)
    assert second.length() == 0


def test_entries_of_a_living_service_with_the_same_name_are_left_to_it(redis: RedisProcess, open_stream: Open) -> None:
    first, second = open_stream(), open_stream()
    append(redis, "a")
    entries = first.read()
    assert second.take_pending() == []
    assert [entry.id for entry in second.take_pending(Own.AFTER_START)] == [entry.id for entry in entries]


def test_entries_that_ended_a_service_by_their_size_are_taken_one_by_one(
    redis: RedisProcess, open_stream: Open
) -> None:
    """A service that held all of them in memory was killed, and so was the next one at its start."""
    first = open_stream()
    append(redis, *[b"x" * 20_000_000] * 3, "good")
    assert len(first.read()) == 4
    first.close()
    second, bodies = open_stream(), []
    for _ in range(4):
        entries = second.take_pending(Own.AFTER_START)
        bodies.append([entry.body or b"" for entry in entries])
        second.finish(entries)
    assert [[len(body) for body in part] for part in bodies] == [*[[module.CARRIED_MAX_BYTES]] * 3, [4]]
    assert second.length() == 0


def test_finished_entries_are_removed_with_the_next_read(redis: RedisProcess, open_stream: Open) -> None:
    stream = open_stream()
    append(redis, "a")
    stream.finish(stream.read())
    append(redis, "b")
    with redis.client() as client:
        assert client.xlen(KEYS.notifications) == 2
        assert [entry.body for entry in stream.read()] == [b"b"]
        assert client.xlen(KEYS.notifications) == 1
        assert client.xpending(KEYS.notifications, module.GROUP)["pending"] == 1


def test_finished_entries_are_removed_at_the_end(redis: RedisProcess, open_stream: Open) -> None:
    stream = open_stream()
    append(redis, "a")
    stream.finish(stream.read())
    stream.flush()
    with redis.client() as client:
        assert client.xlen(KEYS.notifications) == 0


def test_entries_that_were_finished_on_a_broken_connection_are_taken_again(
    redis: RedisProcess, open_stream: Open
) -> None:
    stream = open_stream()
    append(redis, "a")
    stream.finish(stream.read())
    stream.open()
    assert [entry.body for entry in stream.take_pending(Own.AFTER_BREAK)] == [b"a"]


def test_error_in_the_removal_of_finished_entries_is_that_of_the_next_call(
    redis: RedisProcess, open_stream: Open
) -> None:
    stream = open_stream()
    append(redis, "a")
    stream.finish(stream.read())
    with redis.client() as client:
        client.set(KEYS.notifications, "no stream")
    with pytest.raises(ConnectionLost, match="WRONGTYPE"):
        stream.flush()
