"""Publishing through a queue: a real RabbitMQ (and a Redis list), and an ingress that hands on to a store in memory."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from contract.broker_contract import outgoing
from contract.publisher_contract import (
    TIMEOUT_S,
    NotifierContract,
    PublisherContract,
    PublishingNotifier,
    Received,
    StoredIds,
    notification,
    notification_receipts,
    receipts,
)
from contract.test_emitter_greenlets import PATCHED, UNPATCHED, WAIT, run
from contract.test_publisher_contract import RULES, BlockingPublisher
from support.network.certificates import Authority
from support.network.proxy import Proxy
from support.ports import free_port
from support.processes.hub import environment
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.async_emitter import AsyncEmitter
from tidings.emitter import Emitter
from tidings.errors import BadConfig, NotFound, TidingsError, TimedOut, Unavailable
from tidings.publishers.base import AsyncNodeQueries, NodeQueries, OutgoingPublication, Publisher, PublishResult
from tidings.publishers.memory.store import MemoryStore
from tidings.publishers.queue.address import QueueAddress
from tidings.publishers.queue.publisher import AsyncKombuPublisher, KombuPublisher
from tidings.receipts import Receipt
from tidings.wire.notification import Notification
from tidings.wire.queue_message import decode_queue_notification
from tidings_hub.config.ingress import QueueSource
from tidings_hub.core.lease import LeaseReply
from tidings_hub.ingress import QueueIngress
from tidings_hub.ingress.notification_handover import Store
from tidings_hub.metrics import Metrics
from tidings_hub.services.backend_notifications import Handover


class SharedLeases:
    """The leases of a broker. Several ingresses of a test share them, as nodes do. They do not expire."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}

    def __call__(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        current = self._holders.get(name)
        if current not in (None, holder):
            return LeaseReply.DENIED
        if not lease_s:
            self._holders.pop(name, None)
            return LeaseReply.DENIED
        self._holders[name] = holder
        return LeaseReply.RENEWED if current else LeaseReply.ACQUIRED


def no_inboxes(groups: Sequence[Sequence[Notification]]) -> list[Handover]:
    """Of a hub without notifications."""
    raise NotFound("this hub has no inboxes")


def ingress_of(
    url: str,
    publish: Callable[[Sequence[OutgoingPublication]], list[PublishResult]],
    metrics: Metrics,
    *,
    store: Store | None = None,
    leases: SharedLeases | None = None,
    **settings: Any,
) -> QueueIngress:
    return QueueIngress(
        "main",
        QueueSource(url=url, **settings),
        node_id="n1",
        data_max_bytes=65_536,
        publish=publish,
        store=store or no_inboxes,
        acquire_lease=leases or SharedLeases(),
        attempt_max_s=1.0,
        metrics=metrics,
    )


def store_of(**rules: tuple[int, int]) -> MemoryStore:
    store = MemoryStore()
    store.write_rules({name: (rule.history, rule.history_ttl_s) for name, rule in RULES.items()} | rules)
    return store


def into(store: MemoryStore) -> Callable[[Sequence[OutgoingPublication]], list[PublishResult]]:
    return lambda items: [store.publish(item) for item in items]


@contextmanager
def running(ingress: QueueIngress) -> Iterator[None]:
    """The ingress, started and connected."""
    ingress.start()
    try:
        wait_until(lambda: ingress.state() == "connected", why="the ingress is connected")
        yield
    finally:
        ingress.stop()


class QueuePublisherContract(PublisherContract):
    """The contract as far as a queue can keep it: numbers, duplicates and rules are the ingress' business."""

    @pytest.fixture
    def url(self, shared_rabbit: RabbitProcess, queue: str) -> str:
        return f"{shared_rabbit.url}?queue={queue}"

    @pytest.fixture
    def store(self) -> MemoryStore:
        return store_of(done=(10, 60))

    @pytest.fixture
    def metrics(self, store: MemoryStore, url: str) -> Iterator[Metrics]:
        metrics = Metrics()
        with running(ingress_of(url, into(store), metrics)):
            yield metrics
        assert (metrics.ingress_connected, metrics.ingress_reconnects) == (0, 0)

    @pytest.fixture
    def publisher(self, url: str, metrics: Metrics) -> Iterator[Publisher]:
        with closing(KombuPublisher(url)) as publisher:
            yield publisher

    @pytest.fixture
    def stored_ids(self, store: MemoryStore, url: str) -> StoredIds:
        def stored_ids(channel: str) -> list[str]:
            # The queue keeps its order: once this publication has arrived, all earlier ones have.
            last = outgoing("done:1")
            with closing(KombuPublisher(url)) as probe:
                receipts(probe.publish([last], timeout_s=TIMEOUT_S))
            wait_until(lambda: last.id in [publication.id for publication in store.stored("done:1")])
            return [publication.id for publication in store.stored(channel)]

        return stored_ids

    def test_batch_has_one_result_per_item_and_is_stored_in_order(
        self, publisher: Publisher, stored_ids: StoredIds
    ) -> None:
        items = [outgoing("orders:1") for _ in range(100)]
        results = receipts(publisher.publish(items, timeout_s=TIMEOUT_S))
        assert results == [Receipt(item.id, "") for item in items]
        assert stored_ids("orders:1") == [item.id for item in items]

    def test_the_same_id_is_published_once_per_channel(self, publisher: Publisher, stored_ids: StoredIds) -> None:
        item, other_channel = outgoing("orders:1", id="same"), outgoing("orders:2", id="same")
        results = receipts(publisher.publish([item, item, other_channel], timeout_s=TIMEOUT_S))
        assert [(receipt.id, receipt.queued, receipt.duplicate) for receipt in results] == [("same", True, False)] * 3
        assert stored_ids("orders:1") == stored_ids("orders:2") == ["same"]

    def test_rejected_item_does_not_stop_the_others(
        self, publisher: Publisher, stored_ids: StoredIds, metrics: Metrics
    ) -> None:
        items = [outgoing("orders:1"), outgoing("unknown:1"), outgoing("orders:1")]
        receipts(publisher.publish(items, timeout_s=TIMEOUT_S))
        assert stored_ids("orders:1") == [items[0].id, items[2].id]
        wait_until(lambda: metrics.ingress_dead == {"unknown_namespace": 1})

    def test_publisher_offers_no_node_queries(self, url: str) -> None:
        # Nodes do not reply through a queue.
        with closing(KombuPublisher(url)) as publisher:
            assert not isinstance(publisher, NodeQueries)
        assert not issubclass(AsyncKombuPublisher, AsyncNodeQueries)

    @pytest.mark.parametrize("closed", [False, True])
    def test_operations_that_need_a_reply_raise_bad_config(self, url: str, metrics: Metrics, closed: bool) -> None:
        with Emitter(url) as emitter:
            if closed:
                emitter.close()
            with pytest.raises(BadConfig, match="history needs a reply from a hub"):
                emitter.history("orders:1")

    def test_threads_share_a_publisher(self, publisher: Publisher, stored_ids: StoredIds) -> None:
        ids_by_thread: list[list[str]] = [[] for _ in range(8)]

        def work(sent_ids: list[str]) -> None:
            for _ in range(10):
                item = outgoing("orders:1")
                receipts(publisher.publish([item], timeout_s=TIMEOUT_S))
                sent_ids.append(item.id)

        workers = [threading.Thread(target=work, args=(sent_ids,)) for sent_ids in ids_by_thread]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        stored = stored_ids("orders:1")
        assert len(stored) == 80
        assert [[id for id in stored if id in sent_ids] for sent_ids in ids_by_thread] == ids_by_thread


class TestKombu(QueuePublisherContract):
    def test_malformed_message_is_dead_lettered_with_the_reason(
        self, shared_rabbit: RabbitProcess, publisher: Publisher, stored_ids: StoredIds, metrics: Metrics, queue: str
    ) -> None:
        channel = shared_rabbit.channel()
        poison = {
            b"hello": "bad_packet",
            b't1 orders:1 x 0 - 3 "e",nope': "bad_data",
            b't1 orders x 0 - 3 "e",1': "bad_channel",
            b't1 orders:1 x 0 - 3 "e","' + b"y" * 65_536 + b'"': "too_large",
            "gemütlich".encode(): "bad_packet",
        }
        item = outgoing("orders:1")
        for body in poison:
            # Any program may publish there, with any content type.
            message = channel.prepare_message(body, content_type="text/plain", content_encoding="utf-8")
            channel.basic_publish(message, exchange="", routing_key=queue)
        receipts(publisher.publish([item], timeout_s=TIMEOUT_S))
        assert stored_ids("orders:1") == [item.id]
        channel.connection.client.close()
        wait_until(lambda: sum(metrics.ingress_dead.values()) == len(poison))
        for body, code in poison.items():
            dead = shared_rabbit.take(f"{queue}.dead")
            assert (bytes(dead.body), dead.headers["tidings-code"]) == (body, code)
            assert dead.headers["tidings-reason"]
            assert (dead.headers["tidings-queue"], dead.headers["tidings-node"]) == (queue, "n1")
        assert shared_rabbit.take(f"{queue}.dead") is None


class TestAsyncKombu(QueuePublisherContract):
    @pytest.fixture
    def publisher(self, url: str, metrics: Metrics) -> Iterator[Publisher]:
        publisher = BlockingPublisher(lambda: AsyncKombuPublisher(url))
        yield publisher
        publisher.end()


class TestKombuOnRedis(QueuePublisherContract):
    @pytest.fixture
    def url(self, shared_redis: RedisProcess, queue: str) -> str:
        return f"kombu+redis://127.0.0.1:{shared_redis.port}/7?queue={queue}"


class QueueNotifierContract(NotifierContract):
    """The contract as far as a queue can keep it: which categories exist is the notification service's business."""

    @pytest.fixture
    def url(self, shared_rabbit: RabbitProcess, queue: str) -> str:
        shared_rabbit.make_queue(queue)
        return f"{shared_rabbit.url}?queue={queue}"

    @pytest.fixture
    def received(self, shared_rabbit: RabbitProcess, url: str, queue: str) -> Received:
        taken: list[Notification] = []

        def received(user: str) -> list[Notification]:
            channel = shared_rabbit.channel()
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                taken.append(decode_queue_notification(bytes(message.body), publication_max_bytes=65_536))
                assert message.properties["message_id"] == taken[-1].id
            channel.connection.client.close()
            return [item for item in taken if item.user == user]

        return received

    @pytest.fixture
    def publisher(self, url: str) -> Iterator[PublishingNotifier]:
        with closing(KombuPublisher(url)) as publisher:
            yield publisher

    def test_unknown_category_fails_alone(self, publisher: PublishingNotifier, received: Received) -> None:
        items = [notification("7"), notification("7", category="order_lost")]
        notification_receipts(publisher.notify(items, timeout_s=TIMEOUT_S))
        assert received("7") == [item.notification for item in items]


class TestKombuNotifications(QueueNotifierContract):
    pass


class TestAsyncKombuNotifications(QueueNotifierContract):
    @pytest.fixture
    def publisher(self, url: str) -> Iterator[PublishingNotifier]:
        publisher = BlockingPublisher(lambda: AsyncKombuPublisher(url))
        yield publisher
        publisher.end()


def test_notify_to_a_full_or_missing_queue_is_unavailable(shared_rabbit: RabbitProcess, queue: str) -> None:
    with closing(KombuPublisher(f"{shared_rabbit.url}?queue={queue}")) as publisher:
        (missing,) = publisher.notify([notification("7")], timeout_s=0.5)
        assert type(missing) is Unavailable
        shared_rabbit.make_queue(queue, **{"x-max-length": 1, "x-overflow": "reject-publish"})
        notification_receipts(publisher.notify([notification("7")], timeout_s=TIMEOUT_S))
        (full,) = publisher.notify([notification("7")], timeout_s=0.5)
        assert type(full) is Unavailable
        assert "full" in str(full)


def test_publishing_from_asyncio(shared_rabbit: RabbitProcess, queue: str) -> None:
    shared_rabbit.make_queue(queue)

    async def emit() -> list[Receipt]:
        async with AsyncEmitter(f"{shared_rabbit.url}?queue={queue}") as emitter:
            return await asyncio.gather(*(emitter.emit("e", n, channel="a:1") for n in range(20)))

    assert all(receipt.queued for receipt in asyncio.run(emit()))
    assert shared_rabbit.count(queue) == 20


def failure(url: str, *, timeout_s: float) -> tuple[TidingsError, float]:
    start_s = time.monotonic()
    with closing(KombuPublisher(url)) as publisher:
        (result,) = publisher.publish([outgoing("orders:1")], timeout_s=timeout_s)
    assert isinstance(result, TidingsError)
    assert "hunter2" not in str(result)
    return result, time.monotonic() - start_s


@pytest.mark.parametrize("scheme", ["amqp", "kombu+amqp", "kombu+pyamqp"])
def test_publish_to_a_missing_queue_is_unavailable(shared_rabbit: RabbitProcess, queue: str, scheme: str) -> None:
    """Without RabbitMQ's confirms it would return a receipt."""
    url = shared_rabbit.url.replace("amqp", scheme, 1)
    error, _ = failure(f"{url}?queue={queue}", timeout_s=2.0)
    assert type(error) is Unavailable
    assert f"there is no queue '{queue}'" in str(error)


def test_full_queue_rejects_only_messages_over_its_limit(shared_rabbit: RabbitProcess, queue: str) -> None:
    shared_rabbit.make_queue(queue, **{"x-max-length": 3, "x-overflow": "reject-publish"})
    with closing(KombuPublisher(f"{shared_rabbit.url}?queue={queue}")) as publisher:
        results = publisher.publish([outgoing("orders:1") for _ in range(10)], timeout_s=0.5)
        accepted = [result for result in results if isinstance(result, Receipt)]
        rejected = [result for result in results if type(result) is Unavailable and "full" in str(result)]
        assert len(accepted) == shared_rabbit.count(queue)
        assert len(accepted) + len(rejected) == 10
        assert rejected
        # A publish retries until there is room, within its timeout.
        threading.Timer(0.2, lambda: [shared_rabbit.take(queue) for _ in range(len(accepted))]).start()
        receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))


def test_wrong_password_fails_without_retries_and_is_not_shown(shared_rabbit: RabbitProcess) -> None:
    error, took_s = failure(shared_rabbit.url.replace("guest@", "hunter2@"), timeout_s=30)
    assert type(error) is Unavailable
    assert "refused" in str(error)
    assert took_s < 15


def test_missing_virtual_host_fails_without_retries(shared_rabbit: RabbitProcess) -> None:
    error, took_s = failure(f"{shared_rabbit.url[:-1]}nowhere", timeout_s=30)
    assert "vhost nowhere not found" in str(error)
    assert took_s < 15


@pytest.mark.parametrize("scheme", ["amqp", "kombu+redis"])
def test_unreachable_server_is_unavailable(scheme: str) -> None:
    error, took_s = failure(f"{scheme}://user:hunter2@127.0.0.1:{free_port()}/0", timeout_s=0.5)
    assert type(error) is Unavailable
    assert "cannot be reached" in str(error)
    assert f"{scheme}://127.0.0.1" in str(error)
    assert took_s < 3


def test_unknown_host_name_is_unavailable() -> None:
    error, _ = failure("amqp://user:hunter2@no-such-host.invalid/", timeout_s=0.5)
    assert type(error) is Unavailable


@pytest.mark.parametrize("connected", [True, False])
def test_server_that_does_not_respond_is_an_error_in_time(
    shared_rabbit: RabbitProcess, queue: str, *, connected: bool
) -> None:
    shared_rabbit.make_queue(queue)
    proxy = Proxy(shared_rabbit.port, plain=True)
    with closing(proxy), closing(KombuPublisher(f"amqp://127.0.0.1:{proxy.port}//?queue={queue}")) as publisher:
        if connected:
            receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
        proxy.pause()
        item = outgoing("orders:1")
        start_s = time.monotonic()
        (result,) = publisher.publish([item], timeout_s=0.5)
        assert time.monotonic() - start_s < 3
        assert type(result) is (TimedOut if connected else Unavailable)
        proxy.resume()
        receipts(publisher.publish([item], timeout_s=TIMEOUT_S))


def test_connection_that_broke_while_idle_is_replaced(shared_rabbit: RabbitProcess, queue: str) -> None:
    shared_rabbit.make_queue(queue)
    proxy = Proxy(shared_rabbit.port, plain=True)
    with closing(proxy), closing(KombuPublisher(f"amqp://127.0.0.1:{proxy.port}//?queue={queue}")) as publisher:
        receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
        proxy.cut()
        receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))


def test_tls_needs_the_right_authority(shared_rabbit: RabbitProcess, queue: str, tmp_path: Path) -> None:
    assert shared_rabbit.authority is not None
    shared_rabbit.make_queue(queue)
    base_url = f"amqps://guest:guest@127.0.0.1:{shared_rabbit.tls_port}//?queue={queue}"
    with closing(KombuPublisher(f"{base_url}&ca_certs={shared_rabbit.authority.file}")) as publisher:
        receipts(publisher.publish([outgoing("orders:1") for _ in range(30)], timeout_s=TIMEOUT_S))
    assert shared_rabbit.count(queue) == 30
    other = Authority.make(tmp_path / "other").file
    for url in (base_url, f"{base_url}&ca_certs={other}"):
        error, took_s = failure(url, timeout_s=30)
        assert "certificate" in str(error).lower()
        assert took_s < 15


@pytest.mark.parametrize("kind", ["amqp", "redis"])
def test_forked_child_opens_new_connections(
    shared_rabbit: RabbitProcess, shared_redis: RedisProcess, queue: str, kind: str
) -> None:
    shared_rabbit.make_queue(queue)
    urls = {"amqp": shared_rabbit.url, "redis": f"kombu+redis://127.0.0.1:{shared_redis.port}/6"}
    url = f"{urls[kind]}?queue={queue}"
    # As with a prefork worker of Celery, the parent emits before and after the fork.
    with Emitter(url) as emitter:
        emitter.emit("e", "first", channel="orders:1")
        child = os.fork()
        if child == 0:
            child_receipts = [emitter.emit("e", n, channel="orders:child") for n in range(50)]
            emitter.close()
            os._exit(0 if all(receipt.queued for receipt in child_receipts) else 1)
        for n in range(50):
            emitter.emit("e", n, channel="orders:parent")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        emitter.emit("e", "last", channel="orders:1")
    if kind == "amqp":
        assert shared_rabbit.count(queue) == 102
    else:
        import redis

        with redis.Redis(port=shared_redis.port, db=6) as client:
            assert client.llen(queue) == 102


EMIT = """
import sys
from tidings.emitter import Emitter
emitter = Emitter(sys.argv[1], timeout_s=10)
receipts = together([lambda n=n: emitter.emit("e", n, channel="a:1") for n in range(40)])
with emitter.batch() as batch:
    for n in range(40, 60):
        batch.emit("e", n, channel="a:1")
assert all(receipt.queued for receipt in receipts + batch.results)
emitter.close()
print("done")
"""


@pytest.mark.parametrize("programs", [PATCHED, UNPATCHED], ids=["patched", "unpatched"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_emitter_works_with_greenlets(
    shared_rabbit: RabbitProcess, queue: str, library: str, programs: dict[str, str]
) -> None:
    shared_rabbit.make_queue(queue)
    run(programs[library] + EMIT, f"{shared_rabbit.url}?queue={queue}", "")
    assert shared_rabbit.count(queue) == 60


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_waiting_for_a_confirm_lets_others_run(shared_rabbit: RabbitProcess, queue: str, library: str) -> None:
    proxy = Proxy(shared_rabbit.port, plain=True)
    with closing(proxy):
        proxy.pause()
        run(PATCHED[library] + WAIT, f"amqp://127.0.0.1:{proxy.port}//?queue={queue}", "")


def test_missing_kombu_error_has_the_pip_line() -> None:
    program = (
        "import sys; sys.modules['kombu'] = None\n"
        "from tidings import Emitter\n"
        "from tidings.errors import MissingExtra\n"
        "Emitter('redis://h')\n"
        "try: Emitter('amqp://h')\n"
        "except MissingExtra as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environment()
    )
    assert "pip install 'tidings[kombu]'" in result.stdout


# The class and the method of Connection.OpenOk (AMQP 0-9-1 section 1.4.2.8).
_OPEN_OK = b"\x00\x0a\x00\x29"


def _relay_login(client: socket.socket, port: int) -> None:
    """Forward until the client is logged in, then nothing that the server says."""
    received = b""
    with client, socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
        server.settimeout(0.05)
        client.settimeout(0.05)
        while True:
            with suppress(TimeoutError):
                if not (sent := client.recv(65_536)):
                    return
                server.sendall(sent)
            with suppress(TimeoutError):
                reply = server.recv(65_536)
                if _OPEN_OK not in received:
                    client.sendall(reply)
                received += reply


@contextmanager
def hanging(port: int, *, logs_in: bool) -> Iterator[tuple[int, list[float]]]:
    """A port that accepts connections and then says nothing, and when it accepted each. `logs_in`: after the login."""
    accepted_s: list[float] = []
    clients: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    accepted_s.append(time.monotonic())
                    clients.append(client)
                    if logs_in:
                        threading.Thread(target=_relay_login, args=(client, port), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], accepted_s
        listener.shutdown(socket.SHUT_RDWR)
    for client in clients:
        client.close()


@pytest.mark.parametrize("logs_in", [False, True])
def test_host_that_hangs_leaves_time_for_the_next_one_and_is_tried_last(
    shared_rabbit: RabbitProcess, queue: str, logs_in: bool
) -> None:
    """One that hung after the login was tried alone, again and again, until the time was over."""
    with closing(QueueAddress.parse(f"{shared_rabbit.url}?queue={queue}").connect(timeout_s=TIMEOUT_S)) as link:
        link.channel().queue_declare(queue=queue, durable=False, auto_delete=False)
        with hanging(shared_rabbit.port, logs_in=logs_in) as (port, accepted_s):
            url = f"{shared_rabbit.url}?queue={queue}".replace("127.0.0.1:", f"127.0.0.1:{port},127.0.0.1:", 1)
            with closing(KombuPublisher(url)) as publisher:
                for _ in range(3):
                    receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
                    publisher._pool.drop_idle()
            assert len(accepted_s) == 1
        link.channel().queue_delete(queue)
