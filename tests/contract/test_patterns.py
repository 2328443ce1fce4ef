"""Receiving messages of other programs by pattern from a real Redis, and all faults of the link."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ports import free_port
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.errors import BadConfig, Unavailable
from tidings_hub.brokers.pattern_link import PatternSubscriber


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
def link(redis: RedisProcess) -> Iterator[PatternSubscriber]:
    subscriber = PatternSubscriber(redis.url, link_max_bytes=100_000)
    subscriber.open([b"a#*", b"b"])
    yield subscriber
    subscriber.close()


def read(link: PatternSubscriber, count: int, *, within_s: float = 1.0) -> list[tuple[bytes, bytes]]:
    messages: list[tuple[bytes, bytes]] = []
    while len(messages) < count:
        messages += link.read(within_s)
    return messages


def test_matching_messages_arrive_in_order_with_any_bytes(redis: RedisProcess, link: PatternSubscriber) -> None:
    messages = [(b"a#1", b"\x00\r\n\xff"), (b"b", b""), (b"a#", b"x" * 50_000)]
    with redis.client() as client:
        assert client.publish(b"c", b"not received") == 0
        for channel, message in messages:
            assert client.publish(channel, message) == 1
        assert client.pubsub_numsub("b") == [(b"b", 0)]
    assert read(link, 3) == messages


def test_link_without_messages_stays_open(redis: RedisProcess, link: PatternSubscriber) -> None:
    assert [link.read(0.05) for _ in range(6)] == [[]] * 6
    with redis.client() as client:
        client.publish("b", b"after all")
    assert read(link, 1) == [(b"b", b"after all")]


def test_suspended_redis_is_noticed(redis: RedisProcess, link: PatternSubscriber) -> None:
    redis.pause()
    with pytest.raises(Unavailable, match="did not answer a ping"):
        read(link, 1, within_s=0.2)


def test_stopped_redis_is_noticed_and_reconnected(redis: RedisProcess, link: PatternSubscriber) -> None:
    redis.kill()
    with pytest.raises(Unavailable, match="broke"):
        read(link, 1, within_s=0.2)
    link.close()
    with pytest.raises(Unavailable, match="closed"):
        link.read(0.2)
    redis.start()
    link.open([b"b"])
    with redis.client() as client:
        client.publish("b", b"again")
    assert read(link, 1) == [(b"b", b"again")]


def test_message_over_the_size_limit_breaks_the_link(redis: RedisProcess, link: PatternSubscriber) -> None:
    with redis.client() as client:
        client.publish("b", b"x" * 2_000_000)
    with pytest.raises(Unavailable, match="link_max_bytes"):
        read(link, 1)


def test_interrupt_ends_a_waiting_read(link: PatternSubscriber) -> None:
    errors: list[Unavailable] = []

    def wait() -> None:
        try:
            link.read(60.0)
        except Unavailable as error:
            errors.append(error)

    reader = threading.Thread(target=wait, daemon=True)
    reader.start()
    link.interrupt()
    wait_until(lambda: errors, why="the read ended")


def test_unreachable_redis_and_user_without_permission(redis: RedisProcess) -> None:
    with pytest.raises(Unavailable, match="cannot be listened to"):
        PatternSubscriber(f"redis://127.0.0.1:{free_port()}/0", link_max_bytes=100_000).open([b"b"])
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "ann", "on", ">secret-of-ann", "+@all", "resetchannels", "&b")
    allowed = PatternSubscriber(f"redis://ann:secret-of-ann@127.0.0.1:{redis.port}/0", link_max_bytes=100_000)
    allowed.open([b"b"])
    allowed.close()
    with pytest.raises(Unavailable, match="rejected the subscription") as caught:
        allowed.open([b"b", b"c"])
    assert "secret-of-ann" not in str(caught.value)
    with pytest.raises(BadConfig):
        PatternSubscriber("memory://", link_max_bytes=100_000)
