"""An Emitter publishes to two Socket.IO servers on Node with the Redis adapter and stock clients on both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.ports import free_port
from support.processes.node_program import NodeProgram
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import AsyncEmitter, Emitter
from tidings.errors import BadConfig, BadData, Unavailable
from tidings.receipts import BatchFailed

EMPTY = "no Socket.IO server listens"


@dataclass
class Servers:
    redis: RedisProcess
    url: str
    clients: list[NodeProgram]
    running: list[NodeProgram]
    ports: tuple[int, ...] = ()

    def client(self, server: int, *rooms: str) -> NodeProgram:
        """Start a client of a server, and wait until it is in these rooms."""
        started = NodeProgram("socketio_client.mjs", {"port": self.ports[server], "rooms": rooms})
        self.clients.append(started)
        assert started.read_line() == {"joined": True}
        return started


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis for this test only, so that no other program listens on it."""
    server = RedisProcess(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
def servers(redis: RedisProcess) -> Iterator[Servers]:
    running = [NodeProgram("socketio_server.mjs", {"port": redis.port}) for _ in range(2)]
    started = Servers(redis, f"socketio+{redis.url}", [], running)
    try:
        started.ports = tuple(server.read_line()["port"] for server in running)
        yield started
    finally:
        for program in (*started.clients, *running):
            program.stop()


def test_channel_is_a_room_on_every_server(servers: Servers) -> None:
    first, other = servers.client(0, "orders:1"), servers.client(1, "orders:1", "user:7")
    with Emitter(servers.url) as emitter:
        receipt = emitter.emit("updated", {"n": 1, "t": "ü", "f": 1.5}, channel="orders:1", id="mine")
        assert (receipt.id, receipt.cursor, receipt.duplicate) == ("mine", "", False)
        assert len(emitter.emit("both", [None, True], channels=["orders:1", "user:7"])) == 2
        emitter.emit("yours", None, user="7")
        with emitter.batch() as batch:
            batch.emit("b1", 1, channel="orders:1")
            batch.emit("b2", 2, channel="orders:1")
    for client in (first, other):
        assert client.read_line() == {"event": "updated", "given": [{"n": 1, "t": "ü", "f": 1.5}]}
        assert client.read_line() == {"event": "both", "given": [[None, True]]}
    assert other.read_line() == {"event": "both", "given": [[None, True]]}
    assert other.read_line() == {"event": "yours", "given": [None]}
    for client in (first, other):
        assert [client.read_line()["event"] for _ in range(2)] == ["b1", "b2"]


def test_async_emitter_publishes(servers: Servers) -> None:
    client = servers.client(0, "orders:1")

    async def emit() -> None:
        emitter = AsyncEmitter(servers.url)
        assert (await emitter.emit("updated", 1, channel="orders:1")).cursor == ""
        with pytest.raises(BadConfig, match="nodes"):
            await emitter.nodes()
        await emitter.close()
        with pytest.raises(Unavailable):
            await emitter.emit("updated", 1, channel="orders:1")

    asyncio.run(emit())
    assert client.read_line() == {"event": "updated", "given": [1]}


def test_publish_without_a_listening_server_raises(redis: RedisProcess) -> None:
    with Emitter(f"socketio+{redis.url}") as emitter:
        with pytest.raises(Unavailable, match=EMPTY):
            emitter.emit("updated", 1, channel="orders:1")
        with pytest.raises(Unavailable, match=EMPTY):
            emitter.emit("updated", 1, channels=["orders:1", "orders:2"])


def test_another_key_or_namespace_reaches_no_server(servers: Servers) -> None:
    for query in ("?key=other", "?nsp=/admin"):
        with Emitter(servers.url + query) as emitter, pytest.raises(Unavailable, match=EMPTY):
            emitter.emit("updated", 1, channel="orders:1")
    with Emitter(servers.url + "?key=socket.io&nsp=/") as emitter:
        emitter.emit("updated", 1, channel="orders:1")


def test_publishing_works_after_a_redis_restart(servers: Servers) -> None:
    with Emitter(servers.url, timeout_s=1.0) as emitter:
        emitter.emit("updated", 1, channel="orders:1")
        servers.redis.kill()
        with pytest.raises(Unavailable):
            emitter.emit("updated", 2, channel="orders:1")
        servers.redis.start()

        def is_received() -> bool:
            try:
                return emitter.emit("updated", 3, channel="orders:1").cursor == ""
            except Unavailable as error:
                # The servers reconnect shortly after Redis has restarted.
                assert EMPTY in str(error)  # noqa: PT017
                return False

        wait_until(is_received, why="the servers are connected again")


def test_unsupported_options_and_queries_raise() -> None:
    nowhere = f"socketio+redis://127.0.0.1:{free_port()}/0"
    with Emitter(nowhere, timeout_s=0.3) as emitter:
        with pytest.raises(Unavailable, match="cannot be reached"):
            emitter.emit("updated", 1, channel="orders:1")
        for ask in (
            emitter.nodes,
            lambda: emitter.history("orders:1"),
            lambda: emitter.presence("orders:1"),
            lambda: emitter.disconnect(user="7"),
        ):
            with pytest.raises(BadConfig, match="needs a reply from a hub, and socketio"):
                ask()


@pytest.mark.parametrize(
    "url",
    ["socketio+redis://h?nsp=admin", "socketio+redis://h?key=", "socketio+http://h", "socketio+redis+cluster://h"],
)
def test_invalid_url_raises(url: str) -> None:
    with pytest.raises(BadConfig):
        Emitter(url)


def test_number_that_msgpack_cannot_encode_fails_alone(servers: Servers) -> None:
    def send(emitter: Emitter) -> None:
        with emitter.batch() as batch:
            batch.emit("huge", 2**70, channel="orders:1")
            batch.emit("fine", 1, channel="orders:1")

    with Emitter(servers.url) as emitter:
        with pytest.raises(BadData):
            emitter.emit("updated", 2**70, channel="orders:1")
        with pytest.raises(BatchFailed) as caught:
            send(emitter)
    assert [type(result).__name__ for result in caught.value.results] == ["BadData", "Receipt"]
