"""Faults around an ingress: real queues, and a store in memory in place of the hub."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from amqp.exceptions import PreconditionFailed

from contract.broker_contract import outgoing
from contract.publisher_contract import TIMEOUT_S, receipts
from contract.test_kombu_publisher import ingress_of, into, running, store_of
from support.network.proxy import Proxy
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.errors import Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.memory.store import MemoryStore
from tidings.publishers.queue.publisher import KombuPublisher
from tidings_hub.metrics import Metrics


@pytest.fixture
def url(shared_rabbit: RabbitProcess, queue: str) -> str:
    return f"{shared_rabbit.url}?queue={queue}"


@pytest.fixture
def redis_own(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server that the test may kill."""
    server = RedisProcess(tmp_path).start()
    yield server
    server.stop()


def emit(url: str, *ids: str) -> None:
    with closing(KombuPublisher(url)) as publisher:
        receipts(publisher.publish([outgoing("orders:1", id=item) for item in ids], timeout_s=TIMEOUT_S))


def ids(store: MemoryStore) -> list[str]:
    return [item.id for item in store.stored("orders:1")]


def numbered(count: int) -> list[str]:
    return [f"id{number}" for number in range(count)]


def test_unacknowledged_message_is_redelivered_without_effect(shared_rabbit: RabbitProcess, url: str) -> None:
    store, metrics = store_of(), Metrics()
    link = Proxy(shared_rabbit.port, plain=True)
    cuts = threading.Semaphore(3)

    def publish(items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        answers = into(store)(items)
        if cuts.acquire(blocking=False):
            # Nothing that is acknowledged from now on arrives.
            link.cut()
        return answers

    place = url.replace(f":{shared_rabbit.port}/", f":{link.port}/")
    with closing(link), running(ingress_of(place, publish, metrics)):
        emit(url, *numbered(50))
        wait_until(lambda: metrics.ingress_reconnects >= 2 and metrics.ingress_connected, why="connected again")
        emit(url, "last")
        wait_until(lambda: "last" in ids(store))
    assert ids(store) == [*numbered(50), "last"]
    assert metrics.ingress_consumed > 51


@pytest.mark.parametrize("kind", ["rabbit", "list"])
def test_messages_the_broker_does_not_accept_stay_in_order_and_return_to_the_queue(
    shared_rabbit: RabbitProcess, shared_redis: RedisProcess, queue: str, kind: str
) -> None:
    places = {"rabbit": shared_rabbit.url, "list": f"kombu+redis://127.0.0.1:{shared_redis.port}/8"}
    url = f"{places[kind]}?queue={queue}"
    store, metrics = store_of(), Metrics()
    attempts: list[int] = []

    def refuse(items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        attempts.append(len(items))
        return [Unavailable("away")] * len(items)

    first = ingress_of(url, refuse, metrics, prefetch=10)
    first.start()
    wait_until(lambda: first.state() == "connected")
    emit(url, *numbered(30))
    wait_until(lambda: metrics.ingress_held == 10 and len(attempts) >= 3, why="ten are held")
    assert max(attempts) == 10
    # The node stops while the broker is unreachable.
    first.stop()
    assert (metrics.ingress_acked, metrics.ingress_held, metrics.ingress_connected) == (0, 0, 0)
    # The back-off grows. Without it there would be thousands of attempts.
    assert len(attempts) < 60
    with running(ingress_of(url, into(store), metrics)):
        wait_until(lambda: len(ids(store)) == 30)
    assert sorted(ids(store)) == sorted(numbered(30))
    if kind == "rabbit":
        assert ids(store) == numbered(30)


def test_unexpected_error_ends_a_connection_and_not_the_ingress(url: str) -> None:
    store, metrics = store_of(), Metrics()
    faults = [ValueError("a mistake"), KeyError("another")]

    def publish(items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        if faults:
            raise faults.pop()
        return into(store)(items)

    with running(ingress_of(url, publish, metrics)):
        emit(url, *numbered(5))
        wait_until(lambda: ids(store) == numbered(5))
    assert metrics.ingress_reconnects == 2


def test_deleted_queue_is_declared_again(shared_rabbit: RabbitProcess, url: str, queue: str) -> None:
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        channel = shared_rabbit.channel()
        channel.queue_delete(queue)
        channel.connection.client.close()
        wait_until(lambda: metrics.ingress_reconnects == 1 and metrics.ingress_connected == 1)
        emit(url, "after")
        wait_until(lambda: ids(store) == ["after"])


def test_queue_with_other_properties_is_reported_and_used_with_declare_off(
    shared_rabbit: RabbitProcess, url: str, queue: str
) -> None:
    shared_rabbit.make_queue(queue)
    store, metrics = store_of(), Metrics()
    refused = ingress_of(url, into(store), metrics)
    refused.start()
    wait_until(lambda: "declare = false" in refused.last_error)
    assert "guest:guest" not in refused.last_error
    refused.stop()
    assert metrics.ingress_reconnects >= 1
    with running(ingress_of(url, into(store), metrics, declare=False)):
        emit(url, "one")
        wait_until(lambda: ids(store) == ["one"])


def test_message_that_cannot_be_dead_lettered_is_not_lost(shared_rabbit: RabbitProcess, url: str, queue: str) -> None:
    store, metrics = store_of(), Metrics()
    shared_rabbit.make_queue(queue)
    with running(ingress_of(url, into(store), metrics, declare=False, dead_queue=f"{queue}.grave")):
        with closing(KombuPublisher(url)) as publisher:
            receipts(publisher.publish([outgoing("unknown:1", id="poison")], timeout_s=TIMEOUT_S))
        wait_until(lambda: metrics.ingress_dead_waiting == 1, why="the message is rejected")
        emit(url, "good")
        wait_until(lambda: ids(store) == ["good"], why="later messages are published")
        assert metrics.ingress_dead == {}
        shared_rabbit.make_queue(f"{queue}.grave")
        wait_until(lambda: metrics.ingress_dead == {"unknown_namespace": 1})
        assert (metrics.ingress_dead_waiting, metrics.ingress_reconnects) == (0, 0)
    assert b" poison " in bytes(shared_rabbit.take(f"{queue}.grave").body)
    assert shared_rabbit.count(f"{queue}.grave") == 0


def test_redis_list_with_foreign_messages_is_still_consumed(shared_redis: RedisProcess, queue: str) -> None:
    url = f"kombu+redis://127.0.0.1:{shared_redis.port}/9?queue={queue}"
    store, metrics = store_of(), Metrics()
    with shared_redis.client() as client:
        client.select(9)
        client.lpush(queue, b"\xff\xfe", b"{}")
    with running(ingress_of(url, into(store), metrics)):
        emit(url, *numbered(5))
        wait_until(lambda: ids(store) == numbered(5), within_s=40)


@pytest.mark.parametrize("stops", [1, 2])
def test_messages_that_a_stopping_node_returns_to_a_redis_list_keep_their_order(
    shared_redis: RedisProcess, queue: str, stops: int
) -> None:
    url, store = f"kombu+redis://127.0.0.1:{shared_redis.port}/9?queue={queue}", store_of()

    def refuse(items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        return [Unavailable("away")] * len(items)

    sent = [f"m{number}" for number in range(12)]
    emit(url, *sent)
    for _ in range(stops):
        metrics = Metrics()
        with running(ingress_of(url, refuse, metrics, prefetch=5)):
            wait_until(lambda held=metrics: held.ingress_held == 5, why="the node holds what it has received")
    with running(ingress_of(url, into(store), Metrics())):
        wait_until(lambda: len(ids(store)) == len(sent))
    assert ids(store) == sent


def test_messages_of_a_redis_list_with_the_same_delivery_tag_are_all_kept(
    shared_redis: RedisProcess, queue: str
) -> None:
    """As producers without kombu write them. kombu holds one message for each tag."""
    url, store = f"kombu+redis://127.0.0.1:{shared_redis.port}/9?queue={queue}", store_of()
    properties = {"body_encoding": "base64", "delivery_tag": "1"}
    with shared_redis.client() as client:
        client.select(9)
        for number in range(5):
            body = base64.b64encode(b't1 orders:1 id%d 0 - 3 "e",1' % number).decode()
            client.lpush(queue, json.dumps({"body": body, "properties": properties}))
    metrics = Metrics()
    with running(ingress_of(url, lambda items: [Unavailable("away")] * len(items), metrics)):
        wait_until(lambda: metrics.ingress_held == 5, why="the node holds what it has received")
    with running(ingress_of(url, into(store), Metrics())):
        wait_until(lambda: ids(store) == numbered(5), why=lambda: f"all are published, not {ids(store)}")


def test_redis_list_is_consumed_after_redis_was_killed_and_restarted(redis_own: RedisProcess, queue: str) -> None:
    url = f"kombu+redis://127.0.0.1:{redis_own.port}/0?queue={queue}"
    store, metrics = store_of(), Metrics()
    with running(ingress_of(url, into(store), metrics)):
        emit(url, "before")
        wait_until(lambda: ids(store) == ["before"])
        redis_own.restart(redis_own.save())
        wait_until(lambda: metrics.ingress_reconnects >= 1, why="the ingress noticed the deletion")
        wait_until(lambda: metrics.ingress_connected == 1, why="the ingress is connected again")
        emit(url, "after")
        wait_until(lambda: ids(store) == ["before", "after"])


@pytest.mark.parametrize("by_hand", [False, True])
def test_quorum_queues_are_consumed(shared_rabbit: RabbitProcess, url: str, queue: str, by_hand: bool) -> None:
    store, metrics = store_of(), Metrics()
    if by_hand:
        for name in (queue, f"{queue}.dead"):
            shared_rabbit.make_queue(name, **{"x-queue-type": "quorum"})
    settings = {"declare": False} if by_hand else {"quorum": True}
    with running(ingress_of(url, into(store), metrics, **settings)):
        emit(url, *numbered(50))
        with closing(KombuPublisher(url)) as publisher:
            receipts(publisher.publish([outgoing("unknown:1", id="poison")], timeout_s=TIMEOUT_S))
        wait_until(
            lambda: metrics.ingress_acked == 50 and metrics.ingress_dead, why="all are acknowledged or dead-lettered"
        )
    assert ids(store) == numbered(50)
    # The error for a declaration that differs only in the type states the type of the queue.
    bounds = {"x-max-length": 1_000_000, "x-overflow": "reject-publish", "x-single-active-consumer": True}
    with pytest.raises(PreconditionFailed, match=r"'x-queue-type'.*current is.*'quorum'"):
        shared_rabbit.make_queue(queue, **({} if by_hand else bounds), **{"x-queue-type": "classic"})
    assert b" poison " in bytes(shared_rabbit.take(f"{queue}.dead").body)
