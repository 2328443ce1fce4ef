"""Both emitters against a real Redis: threads, forks, processes, event loops, outages."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from support.ports import free_port
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.async_emitter import AsyncEmitter
from tidings.emitter import Emitter
from tidings.errors import TimedOut, Unavailable, UnknownNamespace
from tidings.receipts import BatchFailed, Receipt
from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings.wire.publication import decode

KEYS = RedisKeys("tidings:")


def put_rules(server: RedisProcess) -> None:
    """Write the rules as a hub does at its start."""
    with server.client() as client:
        client.hset(KEYS.rules, mapping={"a": "100000 600", "orders": "100 600", "user": "10 600"})


def history(server: RedisProcess, channel: str) -> list[Any]:
    """The stored publications of a channel."""
    with server.client() as client:
        entries = client.xrange(KEYS.stream(channel))
    return [decode(channel, fields[b"m"], max_bytes=100_000) for _, fields in entries]


def data(server: RedisProcess, channel: str) -> list[Any]:
    return [json.loads(item.data_json) for item in history(server, channel)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def server(shared: RedisProcess) -> RedisProcess:
    with shared.client() as client:
        for key in client.scan_iter(KEYS.base + b"*"):
            client.delete(key)
    put_rules(shared)
    return shared


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path).start()
    put_rules(server)
    yield server
    server.stop()


@dataclass
class Order:
    id: int
    __channels__: ClassVar[list[str]] = ["orders:{id}", "user:ann"]


class TestEmit:
    def test_events_models_and_batches_are_stored(self, server: RedisProcess) -> None:
        with Emitter(server.url) as emitter:
            emitter.emit("shipped", {"order": 42}, channel="orders:42", id="x")
            emitter.push_model(Order(42), version=1)
            with emitter.batch() as batch:
                batch.emit("one", 1, channel="a:1")
                batch.emit("two", 2, channels=["a:1", "a:2"])
        stored = history(server, "orders:42")
        assert (stored[0].event, stored[0].id) == ("shipped", "x")
        assert [item.seq for item in stored] == [1, 2]
        kind = {"version": 1, "version_kind": "given"}
        assert json.loads(stored[1].data_json) == {"class": "Order", "model": {"id": 42}, "op": "updated", **kind}
        assert data(server, "a:1") == [1, 2]
        assert [Cursor.parse(result.cursor).seq for result in batch.results if isinstance(result, Receipt)] == [4, 5, 6]

    def test_repeated_id_is_published_once(self, server: RedisProcess) -> None:
        with Emitter(server.url) as emitter:
            first = emitter.emit("e", 1, channel="a:1", id="x")
            second = emitter.emit("e", 1, channel="a:1", id="x")
        assert (first.duplicate, second.duplicate) == (False, True)
        assert first.cursor == second.cursor
        assert data(server, "a:1") == [1]
        with server.client() as client:
            assert 290 < client.ttl(KEYS.idempotency("a:1", "x")) <= 300

    def test_generated_id_is_remembered_30_seconds(self, server: RedisProcess) -> None:
        with Emitter(server.url) as emitter:
            receipt = emitter.emit("e", 1, channel="a:1")
        with server.client() as client:
            assert 20 < client.ttl(KEYS.idempotency("a:1", receipt.id)) <= 30

    def test_unknown_namespace_is_an_error(self, server: RedisProcess) -> None:
        with Emitter(server.url) as emitter:
            with pytest.raises(UnknownNamespace, match="nobody"):
                emitter.emit("e", channel="nobody:1")
            with pytest.raises(BatchFailed) as caught:
                emitter.emit("e", channels=["a:1", "nobody:1"])
        assert [type(result) for result in caught.value.results] == [Receipt, UnknownNamespace]

    def test_other_prefix_shares_nothing(self, server: RedisProcess) -> None:
        with Emitter(server.url, prefix="other:", timeout_s=0.3) as emitter, pytest.raises(Unavailable):
            emitter.emit("e", channel="a:1")
        assert history(server, "a:1") == []
        with server.client() as client:
            assert list(client.scan_iter(b"other:*:s:*")) == []


class TestBatch:
    """publish.lua with several bodies at once: each is for itself."""

    def test_every_channel_has_its_own_chain(self, server: RedisProcess) -> None:
        with Emitter(server.url) as emitter:
            emitter.emit("e", 0, channel="a:1")
            with emitter.batch() as batch:
                for number, channel in enumerate(["a:1", "a:2", "a:1", "orders:1", "a:2", "a:1"]):
                    batch.emit("e", number, channel=channel)
            emitter.emit("e", 6, channel="a:2")
        for channel, links in {"a:1": [(1, 0), (2, 1), (4, 2), (7, 4)], "a:2": [(3, 2), (6, 3), (8, 6)]}.items():
            assert [(item.seq, item.prev) for item in history(server, channel)] == links
        with server.client() as client:
            assert [client.get(KEYS.pointer(channel)) for channel in ("a:1", "a:2", "orders:1")] == [b"7", b"8", b"5"]
            assert 590 < client.ttl(KEYS.stream("a:1")) <= 600
            assert 90 < client.ttl(KEYS.stream("orders:1")) <= 600
            assert client.ttl(KEYS.pointer("a:1")) > 600_000

    def test_key_of_a_wrong_type_is_replaced_by_a_new_stream(self, server: RedisProcess) -> None:
        with server.client() as client:
            client.set(KEYS.stream("a:1"), "x")
        with Emitter(server.url) as emitter, emitter.batch() as batch:
            for number in range(3):
                batch.emit("e", number, channel="a:1")
        assert data(server, "a:1") == [0, 1, 2]
        with server.client() as client:
            assert 590 < client.ttl(KEYS.stream("a:1")) <= 600

    def test_rejected_publication_does_not_affect_the_others(self, server: RedisProcess) -> None:
        with server.client() as client:
            rights = ["+@all", "~*", f"&{KEYS.pubsub('a:1').decode()}", f"&{KEYS.pubsub('a:3').decode()}"]
            client.execute_command("ACL", "SETUSER", "shop", "reset", "on", ">secret", *rights)
        with Emitter(server.url.replace("redis://", "redis://shop:secret@")) as emitter:
            batch = emitter.batch().begin()
            for number in (1, 2, 3):
                batch.emit("e", number, channel=f"a:{number}", id=(rejected_id := "mine") if number == 2 else None)
            with pytest.raises(BatchFailed):
                batch.send()
        accepted, rejected, third = batch.results
        assert isinstance(accepted, Receipt)
        assert isinstance(rejected, Unavailable)
        assert "can't publish" in str(rejected)
        assert isinstance(third, Receipt)
        assert [data(server, f"a:{number}") for number in (1, 2, 3)] == [[1], [], [3]]
        repeated = Emitter(server.url).emit("e", 2, channel="a:2", id=rejected_id)
        assert not repeated.duplicate
        (stored,) = history(server, "a:2")
        # The rejected publication used a seq, so clients that received all before it detect a possible loss.
        assert (stored.seq, stored.prev) == (4, 2)

    def test_full_redis_accepts_nothing_and_raises(self, own_redis: RedisProcess) -> None:
        with own_redis.client() as client:
            client.config_set("maxmemory", 1)
            with Emitter(own_redis.url) as emitter:
                batch = emitter.batch().begin()
                for number in range(3):
                    batch.emit("e", number, channel="a:1")
                with pytest.raises(BatchFailed):
                    batch.send()
            assert ["maxmemory" in str(result) for result in batch.results] == [True] * 3
            client.config_set("maxmemory", 0)
            assert data(own_redis, "a:1") == []
            assert not client.exists(KEYS.pointer("a:1"))


class TestConcurrency:
    def test_eight_threads_share_one_emitter(self, server: RedisProcess) -> None:
        receipts: dict[int, list[Receipt]] = {number: [] for number in range(8)}

        with Emitter(server.url) as emitter:

            def run(number: int) -> None:
                for turn in range(200):
                    receipts[number].append(emitter.emit("e", [number, turn], channel=f"a:{number % 2}"))

            threads = [threading.Thread(target=run, args=(number,)) for number in receipts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        cursors = [Cursor.parse(receipt.cursor) for thread_receipts in receipts.values() for receipt in thread_receipts]
        assert len({cursor.seq for cursor in cursors}) == 1600
        assert len({receipt.id for thread_receipts in receipts.values() for receipt in thread_receipts}) == 1600
        for thread_receipts in receipts.values():
            seqs = [Cursor.parse(receipt.cursor).seq for receipt in thread_receipts]
            assert seqs == sorted(seqs)
        for channel in (0, 1):
            stored = history(server, f"a:{channel}")
            assert len(stored) == 800
            assert [item.prev for item in stored[1:]] == [item.seq for item in stored[:-1]]
            for number in range(channel, 8, 2):
                turns = [
                    turn
                    for thread_number, turn in map(json.loads, (item.data_json for item in stored))
                    if thread_number == number
                ]
                assert turns == list(range(200))

    def test_forked_child_does_not_use_connections_of_its_parent(self, server: RedisProcess) -> None:
        emitter = Emitter(server.url)
        emitter.emit("e", "parent before", channel="a:1")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for number in range(50):
                    emitter.emit("e", f"child {number}", channel="a:1")
                status = 0
            finally:
                os._exit(status)
        parent_receipts = [emitter.emit("e", f"parent {number}", channel="a:1") for number in range(50)]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        emitter.close()
        stored = history(server, "a:1")
        assert len(stored) == 101
        assert {item.cursor for item in stored if "parent" in str(item.data_json)} >= {
            receipt.cursor for receipt in parent_receipts
        }

    def test_fork_while_threads_emit(self, server: RedisProcess) -> None:
        emitter = Emitter(server.url)
        stopped = threading.Event()

        def run() -> None:
            while not stopped.is_set():
                emitter.emit("e", "thread", channel="a:2")

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        emitter.emit("e", "child", channel="a:1")
                        status = 0
                    finally:
                        os._exit(status)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
            emitter.close()
        assert data(server, "a:1") == ["child"] * 10

    def test_preforked_workers_share_an_emitter(self, server: RedisProcess) -> None:
        emitter = Emitter(server.url)
        emitter.emit("e", -1, channel="a:1")
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_work, args=(emitter, number)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        emitter.close()
        assert sorted(data(server, "a:1")) == sorted([-1, *(number for number in range(4) for _ in range(50))])

    def test_a_closed_emitter_stays_closed_in_a_child(self, server: RedisProcess) -> None:
        emitter = Emitter(server.url)
        emitter.close()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                emitter.emit("e", channel="a:1")
            except Unavailable:
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _work(emitter: Emitter, number: int) -> None:
    for _ in range(50):
        emitter.emit("e", number, channel="a:1")


class TestAsync:
    def test_a_hundred_concurrent_emits(self, server: RedisProcess) -> None:
        async def run() -> list[Receipt]:
            async with AsyncEmitter(server.url) as emitter:
                receipts = await asyncio.gather(*[emitter.emit("e", n, channel="a:1") for n in range(100)])
                async with emitter.batch() as batch:
                    batch.push_model(Order(42))
                assert len(batch.results) == 2
                return receipts

        receipts = asyncio.run(run())
        assert len({receipt.cursor for receipt in receipts}) == 100
        assert sorted(data(server, "a:1")) == list(range(100))

    def test_emitter_is_used_by_several_event_loops(self, server: RedisProcess) -> None:
        emitter = AsyncEmitter(server.url)

        async def run(number: int) -> None:
            await emitter.emit("e", number, channel="a:1")
            # Without this the loop's end would leave its connection to the garbage collector.
            await emitter._publisher.current.close()

        for number in range(3):
            asyncio.run(run(number))
        threads = [threading.Thread(target=lambda n=number: asyncio.run(run(n))) for number in range(3, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(data(server, "a:1")) == list(range(6))

    @pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_closed_event_loops_leave_no_connections(self, server: RedisProcess) -> None:
        emitter = AsyncEmitter(server.url)
        for number in range(30):
            asyncio.run(emitter.emit("e", number, channel="a:1"))
        assert len(emitter._publisher._by_loop) == 1
        asyncio.run(emitter.close())
        gc.collect()
        with server.client() as client:
            wait_until(lambda: len(client.client_list()) <= 4, why="the connections are closed")

    def test_a_cancelled_emit_leaves_a_usable_emitter(self, own_redis: RedisProcess) -> None:
        async def run() -> None:
            async with AsyncEmitter(own_redis.url) as emitter:
                await emitter.emit("e", 1, channel="a:1")
                own_redis.pause()
                task = asyncio.create_task(emitter.emit("e", 2, channel="a:1"))
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                own_redis.resume()
                receipt = await emitter.emit("e", 3, channel="a:1", id="three")
                assert receipt.id == "three"

        asyncio.run(run())
        assert data(own_redis, "a:1")[-1] == 3


def sync_emit(url: str, timeout_s: float, **arguments: Any) -> Receipt:
    with Emitter(url, timeout_s=timeout_s) as emitter:
        return emitter.emit("e", 1, channel="a:1", **arguments)


def async_emit(url: str, timeout_s: float, **arguments: Any) -> Receipt:
    async def run() -> Receipt:
        async with AsyncEmitter(url, timeout_s=timeout_s) as emitter:
            return await emitter.emit("e", 1, channel="a:1", **arguments)

    return asyncio.run(run())


@pytest.mark.parametrize("emit", [sync_emit, async_emit])
class TestOutage:
    def test_unreachable_server_is_unavailable(self, emit: Callable[..., Receipt]) -> None:
        port = free_port()
        start_s = time.monotonic()
        with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}") as caught:
            emit(f"redis://user:hunter2@127.0.0.1:{port}/0", 0.5)
        assert time.monotonic() - start_s < 5
        assert not isinstance(caught.value, TimedOut)
        assert "hunter2" not in str(caught.value)

    def test_suspended_server_is_unavailable(self, own_redis: RedisProcess, emit: Callable[..., Receipt]) -> None:
        emit(own_redis.url, 5.0)
        own_redis.pause()
        start_s = time.monotonic()
        with pytest.raises(Unavailable):
            emit(own_redis.url, 0.5)
        assert time.monotonic() - start_s < 5

    def test_publish_succeeds_if_the_server_restarts_in_time(
        self, own_redis: RedisProcess, emit: Callable[..., Receipt]
    ) -> None:
        own_redis.kill()

        def restart() -> None:
            own_redis.start()
            put_rules(own_redis)

        later = threading.Timer(0.3, restart)
        later.start()
        receipt = emit(own_redis.url, 20.0)
        later.join()
        assert [item.cursor for item in history(own_redis, "a:1")] == [receipt.cursor]

    def test_wrong_password_is_unavailable_and_not_shown(self, tmp_path: Path, emit: Callable[..., Receipt]) -> None:
        server = RedisProcess(tmp_path, "--requirepass", "hunter2").start()
        try:
            with pytest.raises(Unavailable) as caught:
                emit(server.url.replace("//", "//:hunter3@"), 0.5)
        finally:
            server.stop()
        assert "hunter" not in str(caught.value)

    def test_lost_reply_is_retried_and_published_once(self, server: RedisProcess, emit: Callable[..., Receipt]) -> None:
        for arguments in ({}, {"id": "given"}):
            with Cutter(server.port) as cutter:
                receipt = emit(f"redis://127.0.0.1:{cutter.port}/0", 10.0, **arguments)
            assert cutter.cuts == 1
            # With an id of the caller it is unknown which call was first, so the receipt is a duplicate.
            assert receipt.duplicate == bool(arguments)
            assert history(server, "a:1")[-1].cursor == receipt.cursor
        assert data(server, "a:1") == [1, 1]


def test_timed_out_publish_can_be_repeated_with_the_same_id(own_redis: RedisProcess) -> None:
    with Emitter(own_redis.url, timeout_s=0.5) as emitter:
        emitter.emit("e", 1, channel="a:1")
        own_redis.pause()
        start_s = time.monotonic()
        with pytest.raises(TimedOut, match="same id"):
            emitter.emit("e", 2, channel="a:1", id="x")
        assert time.monotonic() - start_s < 5
        own_redis.resume()
        receipt = emitter.emit("e", 2, channel="a:1", id="x")
    assert data(own_redis, "a:1") == [1, 2]
    assert receipt.id == "x"


class Cutter:
    """A proxy for Redis that drops the first reply to an EVALSHA and closes the connection."""

    def __init__(self, port: int) -> None:
        self.cuts = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as redis:
            client.settimeout(0.02)
            redis.settimeout(0.02)
            published = False
            while not self._stopped.is_set():
                request = self._read(client)
                if request == b"":
                    return
                if request is not None:
                    published = published or b"EVALSHA" in request
                    redis.sendall(request)
                reply = self._read(redis)
                if reply is not None and published and self.cuts == 0 and b"." in reply:
                    # The reply has the receipt's cursor, so Redis has run the publish.
                    self.cuts += 1
                    return
                if reply:
                    client.sendall(reply)

    @staticmethod
    def _read(wire: socket.socket) -> bytes | None:
        try:
            return wire.recv(65_536)
        except TimeoutError:
            return None
        except ConnectionError:
            return b""


class TestPresence:
    def test_commands_without_a_hub_time_out(self, server: RedisProcess) -> None:
        with Emitter(server.url) as emitter, pytest.raises(Unavailable, match="no hub with presence"):
            emitter.presence("a:1")
        assert asyncio.run(self._presence_error(server.url)) == "unavailable"

    def test_unreachable_redis_is_unavailable(self) -> None:
        with Emitter(f"redis://127.0.0.1:{free_port()}/0", timeout_s=1.0) as emitter, pytest.raises(Unavailable):
            emitter.presence("a:1")
        assert asyncio.run(self._presence_error(f"redis://127.0.0.1:{free_port()}/0")) == "unavailable"

    def test_connection_that_broke_while_idle_is_replaced(self, server: RedisProcess) -> None:
        with Emitter(server.url) as emitter:
            emitter.emit("e", channel="a:1")
            with server.client() as client:
                client.sadd(KEYS.base + b"presence:namespaces", "a")
                client.hset(KEYS.base + b"presence", "epoch", "e")
                client.hset(KEYS.base + b"presence:of:a:1", "7", 'n1 {"n":1}')
                client.client_kill_filter(_type="normal", skipme=True)
            assert emitter.presence("a:1").members == {"7": {"n": 1}}

    async def _presence_error(self, url: str) -> str:
        async with AsyncEmitter(url, timeout_s=1.0) as emitter:
            try:
                await emitter.presence("a:1")
            except Unavailable as error:
                return error.code_name
        return "no error"
