"""Every publisher fulfils the same contract. Asyncio publishers run behind a blocking wrapper."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.broker_contract import Keep, outgoing
from contract.publisher_contract import (
    TIMEOUT_S,
    HubPublisherContract,
    NotifierContract,
    PublishingNotifier,
    Received,
    StoredIds,
    notification,
    notification_receipts,
    receipts,
)
from support.network.proxy import Proxy
from support.ports import free_port
from support.processes.redis import RedisProcess
from tidings.errors import BadConfig, TimedOut, Unavailable
from tidings.publishers.base import (
    AsyncNodeQueries,
    AsyncNotifier,
    AsyncPublisher,
    NotifyResult,
    OutgoingNotification,
    OutgoingPublication,
    Publisher,
    PublishResult,
)
from tidings.publishers.memory.publisher import AsyncMemoryPublisher, MemoryPublisher
from tidings.publishers.memory.store import MemoryStore
from tidings.publishers.redis.publisher import AsyncRedisPublisher, RedisPublisher
from tidings.receipts import NotificationReceipt, Receipt
from tidings.redis_client.keys import STREAM_MAX_FIELD, RedisKeys
from tidings.redis_client.url import RedisAddress
from tidings.wire.notification import Notification, decode
from tidings.wire.reports import Report, ReportQuery

RULES = {"orders": Keep(100, 3600)}


class BlockingPublisher:
    """An async publisher behind the blocking interface: its event loop runs in another thread."""

    def __init__(self, make: Callable[[], AsyncPublisher]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._publisher = make()

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        return asyncio.run_coroutine_threadsafe(
            self._publisher.publish(items, timeout_s=timeout_s), self._loop
        ).result()

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        publisher = self._publisher
        assert isinstance(publisher, AsyncNotifier)
        return asyncio.run_coroutine_threadsafe(publisher.notify(items, timeout_s=timeout_s), self._loop).result()

    def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        publisher = self._publisher
        assert isinstance(publisher, AsyncNodeQueries)
        return asyncio.run_coroutine_threadsafe(publisher.report(query, timeout_s=timeout_s), self._loop).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._publisher.close(), self._loop).result()

    def end(self) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def opened(kind: str, url: str, prefix: str = "tidings:") -> Iterator[PublishingNotifier]:
    """A publisher to Redis, for threads or for asyncio."""
    if kind == "threads":
        publisher = RedisPublisher(url, prefix=prefix)
        yield publisher
        publisher.close()
    else:
        blocking = BlockingPublisher(lambda: AsyncRedisPublisher(url, prefix=prefix))
        yield blocking
        blocking.end()


def put_rules(redis: RedisProcess, prefix: str) -> None:
    with redis.client() as client:
        client.hset(RedisKeys(prefix).rules, "orders", "100 3600")


def put_categories(redis: RedisProcess, prefix: str, *, stream_max: int = 10_000) -> None:
    """What the notification service writes when it starts."""
    with redis.client() as client:
        client.hset(
            RedisKeys(prefix).categories, mapping={STREAM_MAX_FIELD: str(stream_max).encode(), b"order_shipped": b"1"}
        )


def stream_of(redis: RedisProcess, prefix: str) -> list[Notification]:
    """The notifications in the stream, in order."""
    with redis.client() as client:
        return [decode(entry[b"n"]) for _, entry in client.xrange(RedisKeys(prefix).notifications)]


class InRedis(HubPublisherContract):
    @pytest.fixture
    def stored_ids(self, shared_redis: RedisProcess, prefix: str) -> Iterator[StoredIds]:
        put_rules(shared_redis, prefix)
        with shared_redis.client() as client:

            def stored_ids(channel: str) -> list[str]:
                stream = RedisKeys(prefix).stream(channel)
                return [entry[b"m"].split(b" ")[4].decode() for _, entry in client.xrange(stream)]

            yield stored_ids


class TestRedis(InRedis):
    @pytest.fixture
    def publisher(self, shared_redis: RedisProcess, prefix: str, stored_ids: StoredIds) -> Iterator[Publisher]:
        with opened("threads", shared_redis.url, prefix) as publisher:
            yield publisher


class TestAsyncRedis(InRedis):
    @pytest.fixture
    def publisher(self, shared_redis: RedisProcess, prefix: str, stored_ids: StoredIds) -> Iterator[Publisher]:
        with opened("asyncio", shared_redis.url, prefix) as publisher:
            yield publisher


class InMemory(HubPublisherContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.write_rules({name: (rule.history, rule.history_ttl_s) for name, rule in RULES.items()})
        return store

    @pytest.fixture
    def stored_ids(self, store: MemoryStore) -> StoredIds:
        return lambda channel: [publication.id for publication in store.stored(channel)]


class TestMemory(InMemory):
    @pytest.fixture
    def publisher(self, store: MemoryStore) -> Publisher:
        return MemoryPublisher(store=store)


class TestAsyncMemory(InMemory):
    @pytest.fixture
    def publisher(self, store: MemoryStore) -> Iterator[Publisher]:
        publisher = BlockingPublisher(lambda: AsyncMemoryPublisher(store=store))
        yield publisher
        publisher.end()


class NotificationsInRedis(NotifierContract):
    @pytest.fixture
    def received(self, shared_redis: RedisProcess, prefix: str) -> Received:
        put_categories(shared_redis, prefix)
        return lambda user: [item for item in stream_of(shared_redis, prefix) if item.user == user]


class TestNotificationsInRedis(NotificationsInRedis):
    @pytest.fixture
    def publisher(self, shared_redis: RedisProcess, prefix: str, received: Received) -> Iterator[PublishingNotifier]:
        with opened("threads", shared_redis.url, prefix) as publisher:
            yield publisher


class TestAsyncNotificationsInRedis(NotificationsInRedis):
    @pytest.fixture
    def publisher(self, shared_redis: RedisProcess, prefix: str, received: Received) -> Iterator[PublishingNotifier]:
        with opened("asyncio", shared_redis.url, prefix) as publisher:
            yield publisher


class NotificationsInMemory(NotifierContract):
    state = "stored"

    @pytest.fixture
    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.notifications.set_categories(["order_shipped"])
        return store

    @pytest.fixture
    def received(self, store: MemoryStore) -> Received:
        return store.notifications.stored

    def test_an_id_counts_once_per_user(self, publisher: PublishingNotifier, received: Received) -> None:
        items = [notification("7", id="x"), notification("8", id="x"), notification("7", id="x", title="again")]
        results = notification_receipts(publisher.notify(items, timeout_s=TIMEOUT_S))
        assert [(receipt.id, receipt.duplicate) for receipt in results] == [("x", False), ("x", False), ("x", True)]
        assert [item.title for item in received("7")] == ["It has shipped"]


class TestNotificationsInMemory(NotificationsInMemory):
    @pytest.fixture
    def publisher(self, store: MemoryStore) -> PublishingNotifier:
        return MemoryPublisher(store=store)


class TestAsyncNotificationsInMemory(NotificationsInMemory):
    @pytest.fixture
    def publisher(self, store: MemoryStore) -> Iterator[PublishingNotifier]:
        publisher = BlockingPublisher(lambda: AsyncMemoryPublisher(store=store))
        yield publisher
        publisher.end()


def test_publishers_with_one_memory_url_share_a_store() -> None:
    first, same, other = MemoryPublisher("memory://a"), MemoryPublisher("memory://a"), MemoryPublisher("memory://b")
    assert first.store is same.store
    assert first.store is not other.store


@pytest.fixture(params=["threads", "asyncio"])
def through_proxy(
    request: pytest.FixtureRequest, shared_redis: RedisProcess, prefix: str
) -> Iterator[tuple[PublishingNotifier, Proxy]]:
    """A publisher for threads or asyncio, behind a proxy."""
    put_rules(shared_redis, prefix)
    proxy = Proxy(shared_redis.port)
    with opened(request.param, proxy.url, prefix) as publisher:
        yield publisher, proxy
    proxy.close()


def test_connection_that_broke_while_idle_is_replaced(through_proxy: tuple[Publisher, Proxy]) -> None:
    publisher, proxy = through_proxy
    receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
    proxy.cut()
    (receipt,) = receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
    assert not receipt.duplicate


def test_publish_that_timed_out_can_be_repeated_with_the_same_id(through_proxy: tuple[Publisher, Proxy]) -> None:
    publisher, proxy = through_proxy
    receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
    proxy.pause()
    item = outgoing("orders:1", id="once")
    start_s = time.monotonic()
    (result,) = publisher.publish([item], timeout_s=0.3)
    assert time.monotonic() - start_s < 3
    assert isinstance(result, TimedOut)
    assert "same id" in str(result)
    proxy.resume()
    (receipt,) = receipts(publisher.publish([item], timeout_s=TIMEOUT_S))
    (repeated,) = receipts(publisher.publish([item], timeout_s=TIMEOUT_S))
    assert (receipt.cursor, repeated.duplicate) == (repeated.cursor, True)


def test_notify_after_a_broken_connection_and_a_flush_of_scripts(
    through_proxy: tuple[PublishingNotifier, Proxy], shared_redis: RedisProcess, prefix: str
) -> None:
    publisher, proxy = through_proxy
    put_categories(shared_redis, prefix)
    notification_receipts(publisher.notify([notification("7")], timeout_s=TIMEOUT_S))
    proxy.cut()
    notification_receipts(publisher.notify([notification("7")], timeout_s=TIMEOUT_S))
    with shared_redis.client() as client:
        client.script_flush()
    notification_receipts(publisher.notify([notification("7") for _ in range(150)], timeout_s=TIMEOUT_S))
    # The same connection serves both scripts.
    receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
    assert len({item.id for item in stream_of(shared_redis, prefix)}) == 152


def test_notify_without_a_reply_is_timed_out(
    through_proxy: tuple[PublishingNotifier, Proxy], shared_redis: RedisProcess, prefix: str
) -> None:
    publisher, proxy = through_proxy
    put_categories(shared_redis, prefix)
    notification_receipts(publisher.notify([notification("7")], timeout_s=TIMEOUT_S))
    proxy.pause()
    start_s = time.monotonic()
    (result,) = publisher.notify([notification("7", id="once")], timeout_s=0.3)
    assert time.monotonic() - start_s < 3
    assert type(result) is TimedOut
    proxy.resume()
    notification_receipts(publisher.notify([notification("7", id="once")], timeout_s=TIMEOUT_S))


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_notify_without_a_service_is_bad_config_at_once(shared_redis: RedisProcess, prefix: str, kind: str) -> None:
    put_rules(shared_redis, prefix)
    with opened(kind, shared_redis.url, prefix) as publisher:
        start_s = time.monotonic()
        results = publisher.notify([notification("7"), notification("8")], timeout_s=30)
        assert time.monotonic() - start_s < 15
        assert [type(result) for result in results] == [BadConfig, BadConfig]
        assert "no notification service has ever used this Redis" in str(results[0])
        with shared_redis.client() as client:
            assert not client.exists(RedisKeys(prefix).notifications)
        put_categories(shared_redis, prefix)
        notification_receipts(publisher.notify([notification("7")], timeout_s=TIMEOUT_S))


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_notify_waits_for_a_service_that_is_behind(shared_redis: RedisProcess, prefix: str, kind: str) -> None:
    put_categories(shared_redis, prefix, stream_max=100)
    with opened(kind, shared_redis.url, prefix) as publisher:
        # At most one call of 100 goes beyond the limit.
        results = publisher.notify([notification("7", id=f"n-{number}") for number in range(300)], timeout_s=0.5)
        accepted = [result for result in results if isinstance(result, NotificationReceipt)]
        assert [receipt.id for receipt in accepted] == [f"n-{number}" for number in range(100)]
        assert {type(result) for result in results[100:]} == {Unavailable}
        assert "the notification service is behind" in str(results[-1])
        assert [item.id for item in stream_of(shared_redis, prefix)] == [receipt.id for receipt in accepted]
        # As soon as the service has read some, there is room again.
        with shared_redis.client() as client:
            exactly = {"maxlen": 99, "approximate": False}
            timer = threading.Timer(0.2, client.xtrim, (RedisKeys(prefix).notifications,), exactly)
            timer.start()
            notification_receipts(publisher.notify([notification("7")], timeout_s=TIMEOUT_S))
            timer.join()


def test_a_key_of_another_type_is_unavailable_and_nothing_is_lost(shared_redis: RedisProcess, prefix: str) -> None:
    put_categories(shared_redis, prefix)
    with shared_redis.client() as client, opened("threads", shared_redis.url, prefix) as publisher:
        client.set(RedisKeys(prefix).notifications, b"x")
        (result,) = publisher.notify([notification("7")], timeout_s=0.3)
        assert type(result) is Unavailable
        assert "WRONGTYPE" in str(result) or "wrong kind" in str(result)
        client.delete(RedisKeys(prefix).notifications)
        notification_receipts(publisher.notify([notification("7")], timeout_s=TIMEOUT_S))


def test_scripts_are_loaded_again_after_a_flush(
    through_proxy: tuple[Publisher, Proxy], shared_redis: RedisProcess
) -> None:
    publisher, _ = through_proxy
    receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
    with shared_redis.client() as client:
        client.script_flush()
    receipts(publisher.publish([outgoing("orders:1") for _ in range(3)], timeout_s=TIMEOUT_S))


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_unreachable_redis_is_unavailable(kind: str) -> None:
    url = f"redis://user:hunter2secret@127.0.0.1:{free_port()}/0"
    with opened(kind, url) as publisher:
        (result,) = publisher.publish([outgoing("orders:1")], timeout_s=0.3)
    assert type(result) is Unavailable
    assert "hunter2secret" not in str(result)
    assert "Check that redis://127.0.0.1" in str(result)


@pytest.mark.parametrize("login", [":hunter2secret@", ""])
@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_wrong_password_fails_without_retries_and_is_not_shown(kind: str, login: str, tmp_path: Path) -> None:
    redis = RedisProcess(tmp_path, "--requirepass", "right").start()
    try:
        url = f"redis://{login}127.0.0.1:{redis.port}/0"
        start_s = time.monotonic()
        with opened(kind, url) as publisher:
            (result,) = publisher.publish([outgoing("orders:1")], timeout_s=30)
        assert time.monotonic() - start_s < 15
        assert type(result) is Unavailable
        assert "hunter2secret" not in str(result)
        assert "login" in str(result)
    finally:
        redis.stop()


def test_publish_before_the_first_hub_is_unavailable(shared_redis: RedisProcess, prefix: str) -> None:
    publisher = RedisPublisher(shared_redis.url, prefix=prefix)
    (result,) = publisher.publish([outgoing("orders:1")], timeout_s=0.3)
    assert type(result) is Unavailable
    assert "no hub has started" in str(result)
    put_rules(shared_redis, prefix)
    receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
    publisher.close()


def test_forked_child_opens_new_connections(shared_redis: RedisProcess, prefix: str) -> None:
    put_rules(shared_redis, prefix)
    publisher = RedisPublisher(shared_redis.url, prefix=prefix)
    receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
    child = os.fork()
    if child == 0:
        results = [publisher.publish([outgoing("orders:child")], timeout_s=TIMEOUT_S)[0] for _ in range(50)]
        os._exit(0 if all(isinstance(result, Receipt) for result in results) else 1)
    for _ in range(50):
        receipts(publisher.publish([outgoing("orders:parent")], timeout_s=TIMEOUT_S))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    publisher.close()


def test_through_sentinel(tmp_path: Path, shared_redis: RedisProcess, prefix: str) -> None:
    put_rules(shared_redis, prefix)
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor main 127.0.0.1 {shared_redis.port} 1\n")
    sentinel = RedisProcess(tmp_path, program=["redis-server", str(config), "--sentinel"]).start()
    try:
        # Sentinels that are down must not use up the time, wherever they are in the list.
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port},127.0.0.1:{free_port()}/main/0"
        for kind in ("threads", "asyncio"):
            with opened(kind, url, prefix) as publisher:
                receipts(publisher.publish([outgoing("orders:1")], timeout_s=2.0))
    finally:
        sentinel.stop()


def test_over_a_unix_socket(tmp_path: Path, prefix: str) -> None:
    redis = RedisProcess(tmp_path, "--unixsocket", str(tmp_path / "s")).start()
    try:
        put_rules(redis, prefix)
        publisher = RedisPublisher(f"unix://{tmp_path / 's'}", prefix=prefix)
        receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S))
        publisher.close()
    finally:
        redis.stop()


@pytest.mark.parametrize(
    ("url", "display_url"),
    [
        ("redis://:pw@host", "redis://host:6379/0"),
        ("redis://u:pw@host:7000/3", "redis://host:7000/3"),
        ("rediss://u:pw@host/2", "rediss://host:6379/2"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis+sentinel://u:pw@a,b:7/main/4", "redis+sentinel://a:26379,b:7/main/4"),
        ("rediss+sentinel://[::1]:5/main", "rediss+sentinel://::1:5/main/0"),
    ],
)
def test_address_shows_no_password(url: str, display_url: str) -> None:
    address = RedisAddress.parse(url)
    assert str(address) == display_url
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    "url", ["", "host", "http://h", "redis://h:pwsecret@x:y", "redis+sentinel:///main", "redis+sentinel://h:1/"]
)
def test_malformed_url_is_rejected_without_repeating_it(url: str) -> None:
    with pytest.raises(BadConfig) as caught:
        RedisAddress.parse(url)
    assert "pwsecret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["{x}", "a b", "a*", "ä"])
def test_prefix_that_would_break_keys_is_rejected(prefix: str) -> None:
    with pytest.raises(BadConfig):
        RedisKeys(prefix)
