"""Notifications through a queue: RabbitMQ or a Redis list, a hub that consumes it, and the service."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from support.notification_node import NotificationNode
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter
from tidings.publishers.queue.address import QueueAddress
from tidings.publishers.queue.connection import QueueMessage, QueueProducer


class QueueServer(Protocol):
    """A server with queues. `url` names the queue of the test."""

    url: str

    def count(self, queue: str) -> int:
        """Messages in a queue."""

    def dead_codes(self) -> list[str]:
        """The codes of the dead letters, which are removed."""


class RabbitQueue:
    def __init__(self, rabbit: RabbitProcess, queue: str) -> None:
        self._rabbit, self._queue = rabbit, queue
        self.url = f"{rabbit.url}?queue={queue}"

    def count(self, queue: str) -> int:
        return self._rabbit.count(queue)

    def dead_codes(self) -> list[str]:
        codes = []
        while (message := self._rabbit.take(f"{self._queue}.dead")) is not None:
            codes.append(str(message.headers["tidings-code"]))
        return codes


class ListQueue:
    def __init__(self, redis: RedisProcess, queue: str) -> None:
        self._redis, self._queue = redis, queue
        self.url = f"kombu+{redis.url}?queue={queue}"

    def count(self, queue: str) -> int:
        with self._redis.client() as client:
            return int(client.llen(queue))

    def dead_codes(self) -> list[str]:
        with self._redis.client() as client:
            elements = client.lrange(f"{self._queue}.dead", 0, -1)
            client.delete(f"{self._queue}.dead")
        return [json.loads(element)["headers"]["tidings-code"] for element in elements]


@pytest.fixture(params=["rabbit", "list"])
def server(request: pytest.FixtureRequest, queue: str) -> QueueServer:
    if request.param == "rabbit":
        return RabbitQueue(request.getfixturevalue("shared_rabbit"), queue)
    return ListQueue(request.getfixturevalue("shared_redis"), queue)


@pytest.fixture
def node(server: QueueServer, tmp_path: Path) -> Iterator[NotificationNode]:
    with ExitStack() as stack:
        process = NotificationNode(tmp_path, options=f'[ingress.main]\nurl = "{server.url}"\nredelivery_s = 10\n')
        stack.callback(process.stop)
        process.start()
        wait_until(lambda: process.hub.metric("tidings_ingress_connected") == 1, why="the hub consumes the queue")
        yield process


def items_of(node: NotificationNode, user: str) -> list[dict[str, Any]]:
    # Past the hub, which limits the rate of a user.
    status, page = node.service.request("GET", f"/inbox?user={user}&limit=100")
    assert status == 200, page
    return list(page["items"])


def titles_of(node: NotificationNode, user: str) -> list[str]:
    """The titles of the notifications, oldest first."""
    return [item["title"] for item in reversed(items_of(node, user))]


def send(url: str, *bodies: bytes) -> None:
    """Write foreign messages into the queue."""
    address = QueueAddress.parse(url)
    with closing(QueueProducer(address, timeout_s=10.0)) as producer:
        messages = [QueueMessage(address.queue, body, "") for body in bodies]
        assert producer.send(messages, deadline_s=time.monotonic() + 10) == {}


def test_notification_of_a_queue_reaches_the_user(
    node: NotificationNode, server: QueueServer, queue: str, clients: list[ClientProcess]
) -> None:
    client = ClientProcess("python-websocket", node.hub.url, token=token("ann"), channels=[])
    clients.append(client)
    client.wait_ready()
    with Emitter(server.url) as emitter:
        receipt = emitter.notify("order_shipped", user="ann", title="Ä", data={"n": 1}, id="one")
        assert (receipt.id, receipt.state) == ("one", "accepted")
        emitter.notify("order_shipped", user="ann", title="Ä", id="one")
        emitter.notify("order_shipped", users=["bob", "cat"], title="T")
    client.wait(lambda self: self.records_of("notification"), why="the event")
    wait_until(lambda: node.hub.metric("tidings_ingress_acked_total") == 4, why="all are acknowledged")
    assert [item["data"] for item in items_of(node, "ann")] == [{"n": 1}]
    assert len(items_of(node, "bob")) == len(items_of(node, "cat")) == 1
    assert server.count(queue) == 0


def test_notifications_wait_for_the_service_and_publications_do_not(
    node: NotificationNode, server: QueueServer, clients: list[ClientProcess]
) -> None:
    client = ClientProcess("python-websocket", node.hub.url, token=token("ann", "orders:*"), channels=["orders:1"])
    clients.append(client)
    client.wait_ready()
    node.service.kill()
    with Emitter(server.url) as emitter:
        for number in range(20):
            emitter.notify("order_shipped", user="ann", title=f"{number}", id=f"n{number}")
            emitter.emit("updated", number, channel="orders:1")
    client.wait(lambda self: len(self.data("orders:1")) == 20, why="the publications")
    assert client.data("orders:1") == list(range(20))
    wait_until(lambda: node.hub.metric("tidings_ingress_held") == 20, why="the notifications wait")
    node.service.start()
    wait_until(lambda: len(titles_of(node, "ann")) == 20, why=lambda: f"all, not {titles_of(node, 'ann')}")
    assert titles_of(node, "ann") == [f"{number}" for number in range(20)]
    wait_until(lambda: node.hub.metric("tidings_ingress_held") == 0, why="no more wait")


def test_notifications_of_a_hub_that_dies_while_they_wait_are_stored_once(
    node: NotificationNode, server: QueueServer
) -> None:
    node.service.kill()
    with Emitter(server.url) as emitter:
        for number in range(20):
            emitter.notify("order_shipped", user="ann", title=f"{number}", id=f"n{number}")
    wait_until(lambda: node.hub.metric("tidings_ingress_held") == 20, why="the notifications wait")
    node.hub.kill()
    node.hub.start()
    node.service.start()
    wait_until(lambda: len(titles_of(node, "ann")) >= 20, within_s=60, why=lambda: f"all, not {titles_of(node, 'ann')}")
    assert sorted(titles_of(node, "ann"), key=int) == [f"{number}" for number in range(20)]


def test_poison_is_dead_lettered_and_the_others_are_stored(node: NotificationNode, server: QueueServer) -> None:
    with Emitter(server.url) as emitter:
        emitter.notify("order_shipped", user="ann", title="before")
        emitter.notify("order_lost", user="ann", title="T")
        good = b'{"category":"order_shipped","user":"ann","id":"x","at_ms":1,"title":"T"'
        send(
            server.url,
            b"n1 {",
            b"n1 " + good + b',"url":"javascript:alert(1)"}',
            b"n1 " + good.replace(b'"ann"', b'"a b"') + b"}",
            b"n1 " + good + b',"data":"' + b"x" * 70_000 + b'"}',
            b"n3 " + good + b"}",
        )
        emitter.notify("order_shipped", user="ann", title="after")
    wait_until(lambda: node.hub.metric("tidings_ingress_dead_total") == 6, why="the dead letters")
    wait_until(lambda: titles_of(node, "ann") == ["before", "after"], why=lambda: f"the rest: {titles_of(node, 'ann')}")
    codes = sorted(server.dead_codes())
    assert codes == ["bad_channel", "bad_data", "bad_packet", "bad_request", "too_large", "unknown_category"]


def test_hub_without_notifications_says_what_to_set(server: QueueServer, tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, config=CONFIG + f'[ingress.main]\nurl = "{server.url}"\n')
    try:
        hub.start()
        with Emitter(server.url) as emitter:
            emitter.notify("order_shipped", user="ann", title="T")
        wait_until(lambda: hub.metric("tidings_ingress_dead_total") == 1, why="the dead letter")
        assert server.dead_codes() == ["not_found"]
        assert "[notifications]" in hub.log.read_text()
    finally:
        hub.stop()
