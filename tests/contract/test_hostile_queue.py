"""Hostile messages in real queues, RabbitMQ's alarms, deleted queues, and messages that kill nodes."""

from __future__ import annotations

import base64
import bz2
import json
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from contract.broker_contract import outgoing
from contract.publisher_contract import TIMEOUT_S, receipts
from contract.test_ingress import emit, ids
from contract.test_kombu_publisher import SharedLeases, ingress_of, into, running, store_of
from support.processes.hub import environment
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.errors import TimedOut, Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.queue.publisher import KombuPublisher
from tidings.receipts import Receipt
from tidings_hub.core.lease import LeaseReply
from tidings_hub.metrics import Metrics
from tidings_hub.services.backend_notifications import Handover

BOMB = b"t1 orders:1 x 0 - 3 " + b"0" * 200_000_000


@pytest.fixture(scope="module")
def rabbit_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitProcess]:
    """A server whose alarms the tests raise."""
    server = RabbitProcess(tmp_path_factory.mktemp("rabbit") / "server").start()
    yield server
    server.stop()


@pytest.fixture
def url(shared_rabbit: RabbitProcess, queue: str) -> str:
    return f"{shared_rabbit.url}?queue={queue}"


def put(rabbit: RabbitProcess, queue: str, body: bytes, **options: Any) -> None:
    """Publish a message as any program could."""
    channel = rabbit.channel()
    try:
        message = channel.prepare_message(body, **({"content_type": "text/plain", "content_encoding": None} | options))
        channel.basic_publish(message, exchange="", routing_key=queue)
    finally:
        channel.connection.client.close()


def letters(rabbit: RabbitProcess, queue: str) -> list[tuple[bytes, str, str]]:
    """Body, code and reason of all dead letters, which are removed."""
    dead: list[tuple[bytes, str, str]] = []
    while (letter := rabbit.take(f"{queue}.dead")) is not None:
        body = letter.body.encode() if isinstance(letter.body, str) else bytes(letter.body)
        dead.append((body, letter.headers["tidings-code"], letter.headers["tidings-reason"]))
    return dead


@pytest.mark.parametrize("method", ["zlib", "gzip", "application/x-gzip", "bzip2", "lzma", "no such method", 7, [1]])
def test_compressed_message_is_dead_lettered_without_unpacking(
    shared_rabbit: RabbitProcess, url: str, queue: str, method: object
) -> None:
    packed = bz2.compress(BOMB) if method == "bzip2" else zlib.compress(BOMB)
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        tracemalloc.start()
        put(shared_rabbit, queue, packed, headers={"compression": method})
        emit(url, "good")
        wait_until(lambda: ids(store) == ["good"] and metrics.ingress_dead == {"bad_packet": 1})
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert metrics.ingress_reconnects == 0
    assert peak_bytes < 20_000_000
    ((body, code, reason),) = letters(shared_rabbit, queue)
    assert (body, code) == (packed, "bad_packet")
    assert "compression" in reason


@pytest.mark.parametrize("encoding", ["gzip", "zip", "rot13", "bz2", "hex", "idna", "utf-16", "undefined", "no such"])
@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/x-yaml", "text/plain", None])
def test_content_encoding_and_type_are_ignored(
    shared_rabbit: RabbitProcess, url: str, queue: str, encoding: str, content_type: str | None
) -> None:
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        put(
            shared_rabbit,
            queue,
            b't1 orders:1 plain 0 - 3 "e",1',
            content_type=content_type,
            content_encoding=encoding,
        )
        put(shared_rabbit, queue, zlib.compress(b"x"), content_type=content_type, content_encoding=encoding)
        wait_until(lambda: ids(store) == ["plain"] and metrics.ingress_dead == {"bad_packet": 1})
    assert metrics.ingress_reconnects == 0


def nested_headers(depth: int) -> bytes:
    """A property list of tables in tables (AMQP 0-9-1 section 4.2.5.5)."""
    table = b""
    for _ in range(depth):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return b"\x20\x00" + struct.pack(">I", len(table)) + table


UNDECODABLE = {
    "nested": nested_headers(3_000),
    "far date": b"\x20\x00" + struct.pack(">I", 11) + b"\x01aT" + b"\x00" + b"\xff" * 7,
    "not UTF-8": b"\x80\x00\x02\xff\xfe",
}


@pytest.mark.parametrize("kind", UNDECODABLE)
@pytest.mark.parametrize("body", [b't1 orders:1 odd 0 - 3 "e",1', b""])
def test_undecodable_properties_do_not_stop_the_queue(
    shared_rabbit: RabbitProcess, url: str, queue: str, kind: str, body: bytes
) -> None:
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        channel = shared_rabbit.channel()
        message = channel.prepare_message(body)
        message._serialize_properties = lambda: UNDECODABLE[kind]
        channel.basic_publish(message, exchange="", routing_key=queue)
        channel.connection.client.close()
        emit(url, "good")
        expected = ["odd", "good"] if body else ["good"]
        wait_until(lambda: ids(store) == expected, why="both are published")
        wait_until(lambda: sum(metrics.ingress_dead.values()) == (0 if body else 1))
    assert metrics.ingress_reconnects == 0


@pytest.mark.parametrize(
    "element",
    [
        *({}, [], 7, None, {"body": 7}, {"body": "eA", "properties": 7, "headers": "x"}),
        {"body": "abc", "properties": {"body_encoding": "rot13"}},
        {"body": "a", "properties": {"body_encoding": "base64"}},
        {"body": "eA==", "properties": {"body_encoding": "base64", "delivery_tag": {}, "delivery_info": []}},
        {"body": "eA==", "headers": {"compression": "zlib"}, "properties": {"body_encoding": "base64"}},
        {"body": "eA==", "content-type": "application/x-python-serialize", "content-encoding": "zip"},
    ],
    ids=repr,
)
def test_malformed_element_of_a_redis_list_is_dead_lettered(
    shared_redis: RedisProcess, queue: str, element: object
) -> None:
    store, metrics = store_of(), Metrics()
    url = f"kombu+redis://127.0.0.1:{shared_redis.port}/9?queue={queue}"
    with shared_redis.client() as client:
        client.select(9)
        client.lpush(queue, json.dumps(element))
        with running(ingress_of(url, into(store), metrics)):
            emit(url, "good")
            wait_until(lambda: ids(store) == ["good"] and sum(metrics.ingress_dead.values()) == 1)
            wait_until(lambda: not client.hlen(f"{queue}.unacked"), why="the message is acknowledged")
        assert client.llen(f"{queue}.dead") == 1
    assert metrics.ingress_reconnects == 0


def test_elements_of_a_redis_list_that_kombu_cannot_handle_are_dead_lettered_without_reconnects(
    shared_redis: RedisProcess, queue: str
) -> None:
    store, metrics = store_of(), Metrics()
    url = f"kombu+redis://127.0.0.1:{shared_redis.port}/9?queue={queue}"
    elements = [
        *(b"\xff\xfe", b"nope", b"", b"[" * 100_000, b'{"body": {"__type__": "uuid", "__value__": 7}}'),
        # The same name, escaped.
        b'{"body": {"\\u005f_type__": "uuid", "__value__": 7}}',
        # No UTF-8 has half of a surrogate pair, so kombu cannot store it.
        b'{"body": "eA==", "properties": {"delivery_tag": "\\ud800", "body_encoding": "base64"}}',
        b'{"body": "eA==", "properties": {"message_id": "\\ud800", "body_encoding": "base64"}}',
        b'{"body": "\\ud800"}',
        b'{"body": "eA==", "properties": {"priority": 1e999, "body_encoding": "base64"}}',
        # Python can read some of them in one place of its stack, but not in a deeper one.
        *(b'{"body": %b7%b}' % (b"[" * depth, b"]" * depth) for depth in range(880, 1000, 3)),
    ]
    with shared_redis.client() as client:
        client.select(9)
        client.lpush(queue, *elements)
        with running(ingress_of(url, into(store), metrics)):
            emit(url, "good")
            wait_until(lambda: ids(store) == ["good"] and sum(metrics.ingress_dead.values()) == len(elements))
        assert client.llen(f"{queue}.dead") == len(elements)
    assert metrics.ingress_reconnects == 0


@pytest.mark.parametrize(
    ("element", "cause"),
    [
        # What a parser would make of it takes twenty times as much memory, and seconds.
        (b"[" + b",".join([b"[]"] * 3_000_000) + b"]", "too_large"),
        (b'{"body": "%b"}' % (b"x" * 9_000_000), "too_large"),
        # Small enough to be parsed. To compare each name with each other would take a minute.
        (b"{%b}" % b",".join(b'"%d":1' % number for number in (*range(40_000), 39_999)), "too_large"),
    ],
    ids=["lists", "body", "names"],
)
def test_element_of_a_redis_list_costs_no_more_than_its_size(
    shared_redis: RedisProcess, queue: str, element: bytes, cause: str
) -> None:
    store, metrics = store_of(), Metrics()
    url = f"kombu+redis://127.0.0.1:{shared_redis.port}/9?queue={queue}"
    with shared_redis.client() as client:
        client.select(9)
        with running(ingress_of(url, into(store), metrics)):
            tracemalloc.start()
            started_s = time.monotonic()
            client.lpush(queue, element)
            emit(url, "good")
            wait_until(lambda: ids(store) == ["good"] and metrics.ingress_dead == {cause: 1}, within_s=60)
            taken_s = time.monotonic() - started_s
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert metrics.ingress_reconnects == 0
    assert peak_bytes < 120_000_000
    assert taken_s < 30


def test_dead_letter_of_a_huge_element_has_its_beginning(shared_redis: RedisProcess, queue: str) -> None:
    store, metrics = store_of(), Metrics()
    url = f"kombu+redis://127.0.0.1:{shared_redis.port}/9?queue={queue}"
    with shared_redis.client() as client:
        client.select(9)
        client.lpush(queue, b"x" * 60_000_000)
        with running(ingress_of(url, into(store), metrics)):
            tracemalloc.start()
            emit(url, "good")
            wait_until(lambda: ids(store) == ["good"] and metrics.ingress_dead == {"too_large": 1}, within_s=60)
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        letter = json.loads(client.lindex(f"{queue}.dead", 0))
    assert base64.b64decode(letter["body"]) == b"x" * 8_388_608
    # Two copies to read it. To carry all of it took eight.
    assert peak_bytes < 240_000_000


def test_event_that_would_end_early_is_dead_lettered(shared_rabbit: RabbitProcess, url: str, queue: str) -> None:
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        for event in (b'"""', b'"a","b"', b'"a",{"x":1},"orders:2","e.9"],["b"'):
            put(shared_rabbit, queue, b"t1 orders:1 quote 0 - %d %b,1" % (len(event), event))
        emit(url, "good")
        wait_until(lambda: ids(store) == ["good"] and metrics.ingress_dead == {"bad_packet": 3})


def test_header_of_a_publisher_does_not_make_a_message_redelivered(
    shared_rabbit: RabbitProcess, url: str, queue: str
) -> None:
    store, metrics, leases = store_of(), Metrics(), CountedLeases()
    with running(ingress_of(url, into(store), metrics, leases=leases)):
        put(shared_rabbit, queue, b't1 orders:1 one 0 - 3 "e",1', headers={"redelivered": True})
        wait_until(lambda: ids(store) == ["one"])
    assert leases.requests == 0


class CountedLeases(SharedLeases):
    """Leases that count the requests."""

    requests = 0

    def __call__(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        self.requests += 1
        return super().__call__(name, holder, lease_s=lease_s)


class AwayLeases(SharedLeases):
    """Leases of a broker that does not answer."""

    is_away = True

    def __call__(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        if self.is_away:
            raise Unavailable("the broker is away")
        return super().__call__(name, holder, lease_s=lease_s)


def test_rejected_messages_use_bounded_memory(shared_rabbit: RabbitProcess, url: str, queue: str) -> None:
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        pass
    shared_rabbit.delete(f"{queue}.dead")
    for _ in range(20):
        put(shared_rabbit, queue, b"y" * 500_000)
    # Without a dead-letter queue the node keeps what it has received.
    with running(ingress_of(url, into(store), metrics, declare=False, dead_waiting_max_bytes=1_000_000, heartbeat_s=2)):
        wait_until(lambda: metrics.ingress_dead_waiting >= 2)
        # Longer than two heartbeats.
        with pytest.raises(AssertionError, match="within"):
            wait_until(lambda: metrics.ingress_dead_waiting > 4, within_s=6)
        shared_rabbit.make_queue(f"{queue}.dead")
        wait_until(lambda: metrics.ingress_dead == {"too_large": 20}, within_s=30)
    assert metrics.ingress_reconnects == 0
    assert len(letters(shared_rabbit, queue)) == 20


def test_messages_behind_one_that_waits_use_bounded_memory(shared_rabbit: RabbitProcess, url: str, queue: str) -> None:
    store, metrics, leases = store_of(), Metrics(), AwayLeases()
    with running(ingress_of(url, into(store), metrics)):
        pass
    emit(url, "first")
    channel = shared_rabbit.channel()
    channel.basic_get(queue, no_ack=False)
    # It returns to the queue, marked as redelivered.
    channel.connection.client.close()
    for _ in range(20):
        put(shared_rabbit, queue, b"y" * 500_000)
    with running(ingress_of(url, into(store), metrics, leases=leases, heartbeat_s=2)):
        wait_until(lambda: metrics.ingress_consumed >= 3)
        # Longer than two heartbeats.
        with pytest.raises(AssertionError, match="within"):
            wait_until(lambda: metrics.ingress_consumed > 5, within_s=6)
        leases.is_away = False
        wait_until(lambda: metrics.ingress_dead == {"too_large": 20}, within_s=30)
    assert metrics.ingress_reconnects == 0
    assert ids(store) == ["first"]


def test_deleted_dead_letter_queue_is_declared_again(shared_rabbit: RabbitProcess, url: str, queue: str) -> None:
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        shared_rabbit.delete(f"{queue}.dead")
        put(shared_rabbit, queue, b"hello")
        wait_until(lambda: metrics.ingress_dead == {"bad_packet": 1})
    assert metrics.ingress_reconnects == 0
    assert [body for body, _, _ in letters(shared_rabbit, queue)] == [b"hello"]


def test_dead_letter_list_of_redis_is_bounded(shared_redis: RedisProcess, queue: str) -> None:
    store, metrics = store_of(), Metrics()
    url = f"kombu+redis://127.0.0.1:{shared_redis.port}/9?queue={queue}"
    with shared_redis.client() as client:
        client.select(9)
        with running(ingress_of(url, into(store), metrics, dead_max=10)):
            client.lpush(queue, *(b'{"body":"poison %d"}' % number for number in range(300)))
            wait_until(lambda: metrics.ingress_dead == {"bad_packet": 300})
            wait_until(lambda: client.llen(f"{queue}.dead") == 10, why="the oldest are dropped")
        bodies = [base64.b64decode(json.loads(letter)["body"]) for letter in client.lrange(f"{queue}.dead", 0, -1)]
    assert bodies == [b"poison %d" % number for number in range(299, 289, -1)]
    assert metrics.ingress_reconnects == 0


@pytest.mark.parametrize("count", [1, 5])
def test_alarm_delays_dead_letters_and_nothing_else(rabbit_own: RabbitProcess, queue: str, count: int) -> None:
    url = f"{rabbit_own.url}?queue={queue}"
    store, metrics = store_of(), Metrics()
    refusing = [True]

    def publish(items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        return [Unavailable("away")] * len(items) if refusing else into(store)(items)

    with running(ingress_of(url, publish, metrics, heartbeat_s=2)):
        emit(url, "first")
        for number in range(count):
            put(rabbit_own, queue, b"poison %d" % number)
        emit(url, *numbered(20))
        rabbit_own.set_alarm(on=True)
        try:
            refusing.clear()
            wait_until(lambda: ids(store) == ["first", *numbered(20)], why="all others are published")
            # Three times as long as RabbitMQ and the hub wait for heartbeats.
            with pytest.raises(AssertionError, match="within"):
                wait_until(lambda: metrics.ingress_reconnects, within_s=12)
        finally:
            rabbit_own.set_alarm(on=False)
        wait_until(lambda: metrics.ingress_dead == {"bad_packet": count})
        emit(url, "last")
        wait_until(lambda: ids(store)[-1] == "last")
    assert metrics.ingress_reconnects == 0
    assert [body for body, _, _ in letters(rabbit_own, queue)] == [b"poison %d" % number for number in range(count)]
    assert rabbit_own.count(queue) == 0


def test_messages_that_wait_longer_than_consumer_timeout_are_published_and_dead_lettered_once(
    rabbit_own: RabbitProcess, queue: str
) -> None:
    url = f"{rabbit_own.url}?queue={queue}"
    store, metrics, accepting = store_of(), Metrics(), threading.Event()

    def publish(items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        return into(store)(items) if accepting.is_set() else [Unavailable("away")] * len(items)

    with running(ingress_of(url, publish, metrics)):
        pass
    put(rabbit_own, queue, b"poison")
    emit(url, "good")
    rabbit_own.set_consumer_timeout(1.5)
    rabbit_own.set_alarm(on=True)
    ingress = ingress_of(url, publish, metrics, heartbeat_s=2)
    try:
        with running(ingress):
            wait_until(lambda: metrics.ingress_reconnects >= 2, within_s=60)
            assert "consumer_timeout" in ingress.last_error
            assert "delete it" not in ingress.last_error
            rabbit_own.set_alarm(on=False)
            accepting.set()
            wait_until(lambda: ids(store) == ["good"] and metrics.ingress_dead == {"bad_packet": 1})
            wait_until(lambda: rabbit_own.count(queue) == 0)
    finally:
        rabbit_own.set_consumer_timeout(None)
        rabbit_own.set_alarm(on=False)
    assert [body for body, _, _ in letters(rabbit_own, queue)] == [b"poison"]


def numbered(count: int) -> list[str]:
    return [f"id{number}" for number in range(count)]


@pytest.mark.parametrize("quorum", [False, True])
def test_message_behind_many_dead_letters_is_published_during_an_alarm(
    rabbit_own: RabbitProcess, queue: str, quorum: bool
) -> None:
    url = f"{rabbit_own.url}?queue={queue}"
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics, quorum=quorum)):
        pass
    for number in range(25):
        put(rabbit_own, queue, b"poison %d" % number)
    emit(url, "good")
    rabbit_own.set_alarm(on=True)
    try:
        with running(ingress_of(url, into(store), metrics, prefetch=10, quorum=quorum)):
            wait_until(lambda: ids(store) == ["good"])
            rabbit_own.set_alarm(on=False)
            wait_until(lambda: metrics.ingress_dead == {"bad_packet": 25})
    finally:
        rabbit_own.set_alarm(on=False)
    assert [body for body, _, _ in letters(rabbit_own, queue)] == [b"poison %d" % number for number in range(25)]


@pytest.mark.parametrize("held", [1, 6])
def test_notifications_that_wait_do_not_stop_the_queue_during_an_alarm(
    rabbit_own: RabbitProcess, queue: str, held: int
) -> None:
    """They wait for their service, and take a part of `prefetch`. The dead letters take the rest."""
    url = f"{rabbit_own.url}?queue={queue}"
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        pass
    for number in range(held):
        put(rabbit_own, queue, b'n1 {"category":"a","user":"7","title":"T","id":"n%d","at_ms":1}' % number)
    for number in range(25):
        put(rabbit_own, queue, b"poison %d" % number)
    emit(url, "good")

    def away(_: object) -> list[Handover]:
        raise Unavailable("the service is away")

    rabbit_own.set_alarm(on=True)
    try:
        with running(ingress_of(url, into(store), metrics, store=away, prefetch=10)):
            wait_until(lambda: ids(store) == ["good"], why=lambda: f"it is published, not {ids(store)}")
            assert metrics.ingress_held == held
    finally:
        rabbit_own.set_alarm(on=False)


def test_message_that_rabbitmq_accepts_no_more_does_not_stop_the_queue(rabbit_own: RabbitProcess, queue: str) -> None:
    """Its `max_message_size` was lowered, or is lower after an upgrade. The dead letter has the beginning."""
    url = f"{rabbit_own.url}?queue={queue}"
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        pass
    put(rabbit_own, queue, bytes(range(250)) * 1_000)
    for number in range(40):
        put(rabbit_own, queue, b"poison %d" % number)
    emit(url, "good")
    rabbit_own.set_max_message_size(100_000)
    try:
        # Less than the first message takes, so that nothing is received while it waits.
        with running(ingress_of(url, into(store), metrics, dead_waiting_max_bytes=100_000)):
            wait_until(lambda: ids(store) == ["good"] and sum(metrics.ingress_dead.values()) == 41)
            wait_until(lambda: rabbit_own.count(queue) == 0)
    finally:
        rabbit_own.set_max_message_size(None)
    first = rabbit_own.take(f"{queue}.dead")
    assert bytes(first.body) == (bytes(range(250)) * 1_000)[:62_500]
    assert (first.headers["tidings-code"], first.headers["tidings-bytes"]) == ("too_large", "250000")
    assert [body for body, _, _ in letters(rabbit_own, queue)] == [b"poison %d" % number for number in range(40)]


def test_dead_letter_whose_acknowledgement_was_lost_is_not_repeated(
    shared_rabbit: RabbitProcess, url: str, queue: str
) -> None:
    store, metrics = store_of(), Metrics()
    ingress = ingress_of(url, into(store), metrics)
    failures = [OSError("cut"), OSError("cut again")]

    def acknowledge() -> None:
        if failures and metrics.ingress_dead:
            raise failures.pop()
        original()

    original = ingress._dead_letters.acknowledge
    ingress._dead_letters.acknowledge = acknowledge  # type: ignore[method-assign]
    with running(ingress):
        put(shared_rabbit, queue, b"poison")
        wait_until(lambda: metrics.ingress_reconnects == 2 and metrics.ingress_connected)
        emit(url, "good")
        wait_until(lambda: ids(store) == ["good"])
    assert shared_rabbit.count(queue) == 0
    assert [body for body, _, _ in letters(shared_rabbit, queue)] == [b"poison"]


# A node that dies when it publishes the message `poison`.
DYING_NODE = """
import os, sys
sys.path[:0] = sys.argv[3].split(os.pathsep)
import redis
from contract.test_kombu_publisher import ingress_of
from tidings.receipts import Receipt
from tidings_hub.core.lease import LeaseReply
from tidings_hub.metrics import Metrics
server = redis.Redis(port=int(sys.argv[2]))
def acquire(name, holder, *, lease_s):
    key = f"{sys.argv[1]}:{name}"
    current = server.get(key)
    if current not in (None, holder.encode()):
        return LeaseReply.DENIED
    if not lease_s:
        server.delete(key)
        return LeaseReply.DENIED
    server.set(key, holder)
    return LeaseReply.ACQUIRED
def publish(items):
    if any(item.id == "poison" for item in items):
        server.rpush("died", os.getpid())
        os._exit(9)
    server.rpush("published", *[item.id for item in items])
    return [Receipt(item.id, "1") for item in items]
metrics = Metrics()
ingress = ingress_of(sys.argv[1], publish, metrics, leases=acquire, redelivery_s=10)
ingress.start()
ingress._thread.join()
"""


@pytest.mark.parametrize("kind", ["classic", "quorum", "list"])
def test_message_that_kills_two_nodes_is_dead_lettered(
    shared_rabbit: RabbitProcess, shared_redis: RedisProcess, tmp_path: Path, queue: str, kind: str
) -> None:
    redis = RedisProcess(tmp_path).start()
    places = {"list": f"kombu+redis://127.0.0.1:{shared_redis.port}/8"}
    url = f"{places.get(kind, shared_rabbit.url)}?queue={queue}"
    if kind != "list":
        with running(ingress_of(url, into(store_of()), Metrics(), quorum=kind == "quorum")):
            pass
    emit(url, "before", "poison")
    program = (
        DYING_NODE if kind == "classic" else DYING_NODE.replace("redelivery_s=10", "redelivery_s=10, declare=False")
    )
    command = [sys.executable, "-c", program, url, str(redis.port), os.pathsep.join(sys.path)]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        with redis.client() as client:
            for deaths in (1, 2):
                nodes.append(subprocess.Popen(command, env=environment()))
                wait_until(lambda n=deaths: client.llen("died") == n, within_s=40)
                # It writes its death down first.
                nodes[-1].wait(40)
            # Not earlier: Redis gives an element of a list to a node that is about to die, which loses it.
            if kind == "list":
                with shared_redis.client() as other:
                    wait_until(
                        lambda: all(entry["cmd"] != "brpop" for entry in other.client_list() if entry["db"] == "8")
                    )
            emit(url, "after")
            nodes.append(subprocess.Popen(command, env=environment()))
            wait_until(lambda: b"after" in client.lrange("published", 0, -1), within_s=60)
            assert client.llen("died") == 2
            assert b"poison" not in client.lrange("published", 0, -1)
        if kind == "list":
            with shared_redis.client() as client:
                client.select(8)
                wait_until(lambda: client.llen(f"{queue}.dead") == 1)
        else:
            wait_until(lambda: shared_rabbit.count(f"{queue}.dead") == 1)
            ((body, code, reason),) = letters(shared_rabbit, queue)
            assert (b" poison " in body, code) == (True, "internal")
            assert "died" in reason
    finally:
        for node in nodes:
            node.kill()
            node.wait()
        redis.stop()


def test_nodes_that_are_killed_for_other_reasons_lose_no_message(url: str) -> None:
    leases, store = SharedLeases(), store_of()

    def refuse(items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        return [Unavailable("away")] * len(items)

    metrics = Metrics()
    with running(ingress_of(url, refuse, metrics, leases=leases)):
        emit(url, *numbered(10))
        wait_until(lambda: metrics.ingress_held == 10)
    for _ in range(3):
        with running(ingress_of(url, refuse, metrics, leases=leases)):
            wait_until(lambda: metrics.ingress_held == 10)
    with running(ingress_of(url, into(store), metrics, leases=leases)):
        wait_until(lambda: ids(store) == numbered(10))
    assert metrics.ingress_dead == {}


def test_queue_that_is_deleted_under_load_loses_only_what_it_held(
    shared_rabbit: RabbitProcess, url: str, queue: str
) -> None:
    store, metrics = store_of(orders=(10_000, 60)), Metrics()
    with running(ingress_of(url, into(store), metrics)), closing(KombuPublisher(url)) as publisher:
        sent_after: list[str] = []
        for round_number in range(5):
            for number in range(40):
                item = outgoing("orders:1", id=f"r{round_number}n{number}")
                results = publisher.publish([item], timeout_s=TIMEOUT_S)
                assert isinstance(results[0], Receipt | Unavailable)
                # The last rounds begin after the last deletion.
                if round_number >= 3 and isinstance(results[0], Receipt):
                    sent_after.append(item.id)
            if round_number < 3:
                shared_rabbit.delete(queue)
        wait_until(lambda: set(sent_after[-40:]) <= set(ids(store)))
        assert len(sent_after) == 80
    assert metrics.ingress_deleted == 3


def test_publish_to_a_queue_that_was_deleted_raises(shared_rabbit: RabbitProcess, url: str, queue: str) -> None:
    shared_rabbit.make_queue(queue)
    with closing(KombuPublisher(url)) as publisher:
        receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
        shared_rabbit.delete(queue)
        results = publisher.publish([outgoing("orders:1") for _ in range(50)], timeout_s=1.0)
    # It tries again until the time is over. Where the last attempt has no response by then, the result is unknown.
    assert all(isinstance(result, Unavailable | TimedOut) for result in results), results
