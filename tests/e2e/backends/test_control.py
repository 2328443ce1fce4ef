"""Commands to all nodes, over HTTP and by emitters: two real hubs on one Redis with stock clients on both."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import AsyncEmitter, Emitter
from tidings.errors import BadRequest, TidingsError, Unavailable, UnknownNamespace
from tidings.wire.control import CommandResult

EXTRA = 'prefix = "control:"\n' + "control_timeout_s = 15.0\nnode_record_s = 1.0\nchannels_per_connection = 3\n"
KINDS = ["js-websocket", "python-polling", "sse"]
Start = Callable[..., ClientProcess]


@dataclass
class TwoNodes:
    """Two nodes on one Redis."""

    redis: RedisProcess
    first: HubProcess
    other: HubProcess


@pytest.fixture(scope="module")
def nodes(shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    hubs = []
    for name in ("one", "other"):
        flags = ("--broker", shared_redis.url, "--node-id", name)
        hubs.append(HubProcess(tmp_path_factory.mktemp(name), *flags, extra=EXTRA))
    try:
        for hub in hubs:
            hub.start()
        wait_until(lambda: len(hubs[0].get("/api/nodes")[1]["nodes"]) == 2, why="both nodes have a record")
        yield TwoNodes(shared_redis, *hubs)
    finally:
        for hub in hubs:
            hub.stop()
    assert not [hub for hub in hubs if "Traceback" in hub.log.read_text()]


@pytest.fixture
def start(nodes: TwoNodes) -> Iterator[Start]:
    clients: list[ClientProcess] = []

    def start_client(hub: HubProcess, user: str, kind: str = "js-websocket", *channels: str) -> ClientProcess:
        client = ClientProcess(kind, hub.url, token=token(user, "chat:*"), channels=list(channels) or ["chat:x"])
        clients.append(client)
        return client

    yield start_client
    for client in clients:
        client.stop()


@contextmanager
def emitter(nodes: TwoNodes, way: str) -> Iterator[Any]:
    """Yield a synchronous or asynchronous emitter with the methods of the synchronous one."""
    url, options = nodes.first.url, {"api_key": API_KEY}
    if way.startswith("redis"):
        url, options = nodes.redis.url, {"prefix": "control:"}
    if way.endswith("async"):
        with asyncio.Runner() as runner:
            async_emitter = AsyncEmitter(url, timeout_s=20, **options)  # type: ignore[arg-type]
            yield BlockingEmitter(async_emitter, runner)
            runner.run(async_emitter.close())
    else:
        with Emitter(url, timeout_s=20, **options) as plain:  # type: ignore[arg-type]
            yield plain


class BlockingEmitter:
    """Awaits every call of an AsyncEmitter."""

    def __init__(self, emitter: AsyncEmitter, runner: asyncio.Runner) -> None:
        self._emitter, self._runner = emitter, runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._runner.run(getattr(self._emitter, name)(*args, **kwargs))


EMITTERS = pytest.mark.parametrize("way", ["redis", "redis-async", "http", "http-async"])
SOME_EMITTERS = pytest.mark.parametrize("way", ["redis-async", "http"])


def test_counts_include_all_nodes(nodes: TwoNodes, start: Start) -> None:
    for hub, kind in ((nodes.first, "js-websocket"), (nodes.other, "js-polling"), (nodes.other, "sse")):
        start(hub, "carla", kind, "chat:counted").wait_ready()
    for hub in (nodes.first, nodes.other):
        _, body, _ = hub.get("/api/channels?after=chat:count&limit=1")
        assert body["channels"] == [{"channel": "chat:counted", "connections": 3}]
        assert (body["nodes"], body["missing"]) == (2, [])
        rows: list[dict[str, Any]] = []
        after = ""
        while True:
            _, page, _ = hub.get(f"/api/connections?limit=2{after}")
            rows += page["connections"]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        carla_rows = sorted((row["node"], row["transport"], row["channels"]) for row in rows if row["user"] == "carla")
        assert carla_rows == [("one", "websocket", 2), ("other", "polling", 2), ("other", "sse", 2)]
        assert len({row["connection"] for row in rows}) == len(rows)
    _, local, _ = nodes.first.get("/api/connections?here=true")
    assert {row["node"] for row in local["connections"]} == {"one"}

    def are_counts_complete() -> bool:
        _, body, _ = nodes.first.get("/api/nodes")
        return bool(body["connections"] == {"websocket": 1, "polling": 1, "sse": 1} and body["sessions"] == 3)

    wait_until(are_counts_complete, why="the records of both nodes have the three connections")
    wait_until(lambda: len(nodes.other.get("/api/nodes")[1]["nodes"]) == 2, why="both nodes have a record")
    _, body, _ = nodes.other.get("/api/nodes")
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", node["address"]) for node in body["nodes"])


@SOME_EMITTERS
def test_a_user_is_disconnected_on_every_node(nodes: TwoNodes, start: Start, way: str) -> None:
    user = f"dora-{way}"
    clients = [start(nodes.first, user).wait_ready(), start(nodes.other, user).wait_ready()]
    bystander = start(nodes.other, "bystander").wait_ready()
    with emitter(nodes, way) as backend:
        assert backend.disconnect(user=user) == CommandResult(2, 2)
        for client in clients:
            client.wait(lambda client: client.records_of("close"), why="the close event")
            assert client.records_of("close")[0]["code"] == "disconnected"
            client.wait_ready(2)
        # Disconnect one of the two connections by its public id.
        assert backend.disconnect(connection=clients[1].records_of("ready")[1]["connection"]) == CommandResult(1, 2)
        clients[1].wait_ready(3)
        assert backend.disconnect(connection="unknown") == CommandResult(0, 2)
    assert len(clients[0].records_of("ready")) == 2
    assert bystander.records_of("close") == []


@SOME_EMITTERS
def test_a_user_or_a_token_is_revoked_on_every_node(nodes: TwoNodes, start: Start, way: str) -> None:
    user = f"rita-{way}"
    clients = [start(nodes.first, user).wait_ready(), start(nodes.other, user).wait_ready()]
    with emitter(nodes, way) as backend:
        assert backend.revoke(jti="unknown", until_s=time.time() + 60) == CommandResult(0, 2)
        assert backend.revoke(user=user, for_s=600) == CommandResult(2, 2)
        with pytest.raises(BadRequest):
            backend.revoke(user=user)
    for client in clients:
        client.wait(lambda client: client.records_of("close"), why="the close event")
        assert client.records_of("close")[0]["code"] == "revoked"
    late = start(nodes.other, user)
    late.wait(lambda client: client.records_of("connect_error"), why="the reconnect is rejected")
    assert late.records_of("connect_error")[0]["data"]["code"] == "revoked"


@EMITTERS
def test_a_backend_subscribes_and_unsubscribes_a_user(nodes: TwoNodes, start: Start, way: str) -> None:
    user, channel = f"sara-{way}", f"orders:{way}"
    clients = [
        start(nodes.first, user, KINDS[0]),
        start(nodes.other, user, KINDS[1]),
        start(nodes.other, user, KINDS[2]),
    ]
    for client in clients:
        client.wait_ready()
    with emitter(nodes, way) as backend:
        assert backend.subscribe(user=user, channel=channel) == CommandResult(3, 2)
        for client in clients:
            client.wait(lambda client: client.records_of("subscribed"), why="the subscription arrives")
            event = client.records_of("subscribed")[0]
            assert event["channels"] == {channel: {"recovered": False}}
            assert re.fullmatch(r"[\w-]+\.\d+", event["cursor"])
        backend.emit("n", 1, channel=channel)
        for client in clients:
            client.wait(lambda client: client.data(channel) == [1], why="the publication")
        # A repeated command changes nothing and sends no second event.
        assert backend.subscribe(user=user, channel=channel) == CommandResult(3, 2)
        assert backend.unsubscribe(user=user, channel=channel) == CommandResult(3, 2)
        for client in clients:
            client.wait(lambda client: client.records_of("unsubscribed"), why="the unsubscription arrives")
            assert client.records_of("unsubscribed")[0]["channels"] == [channel]
        backend.emit("n", 2, channel=channel)
        backend.emit("end", None, user=user)
        for client in clients:
            client.wait(lambda client: client.data(f"user:{user}") == [None], why="the publication after it")
            assert client.data(channel) == [1]
            assert len(client.records_of("subscribed")) == 1
        assert backend.unsubscribe(user=user, channel=channel) == CommandResult(0, 2)
        with pytest.raises(UnknownNamespace):
            backend.subscribe(user=user, channel="nowhere:1")
        # The client cannot subscribe again by itself: its token does not cover the channel.
    answer = clients[0].request("tidings:subscribe", {"channels": [channel]})
    assert answer["channels"][channel]["error"]["code"] == "forbidden"


def test_a_subscription_by_a_backend_survives_a_new_token(nodes: TwoNodes, start: Start) -> None:
    client = start(nodes.other, "tina").wait_ready()
    with emitter(nodes, "http") as backend:
        assert backend.subscribe(user="tina", channel="orders:tina") == CommandResult(1, 2)
        answer = client.request("tidings:refresh", {"token": token("tina", "chat:*")})
        assert answer["left"] == []
        # After a gap, the client subscribes to the channel again with its cursor.
        cursor = client.records_of("subscribed")[0]["cursor"]
        backend.emit("n", 1, channel="orders:tina")
        client.wait(lambda client: client.data("orders:tina") == [1], why="the publication")
        answer = client.request("tidings:subscribe", {"channels": ["orders:tina"], "since": cursor})
        assert answer["channels"] == {"orders:tina": {"recovered": True}}
        assert client.data("orders:tina") == [1, 1]


def test_a_connection_with_too_many_channels_is_counted_as_refused(nodes: TwoNodes, start: Start) -> None:
    full = start(nodes.first, "fiona", "js-websocket", "chat:1", "chat:2").wait_ready()
    start(nodes.other, "fiona").wait_ready()
    with emitter(nodes, "redis") as backend:
        assert backend.subscribe(user="fiona", channel="orders:1") == CommandResult(1, 2, refused=1)
    assert full.records_of("subscribed") == []


@EMITTERS
def test_history_and_nodes_from_an_emitter(nodes: TwoNodes, way: str) -> None:
    channel = f"chat:history-{way}"
    with emitter(nodes, way) as backend:
        receipts = [backend.emit("n", {"n": number}, channel=channel) for number in range(4)]
        page = backend.history(channel, limit=2)
        assert [publication["data"] for publication in page.publications] == [{"n": 2}, {"n": 3}]
        assert page.publications[0] == {
            "event": "n",
            "data": {"n": 2},
            "id": receipts[2].id,
            "cursor": receipts[2].cursor,
            "at_ms": page.publications[0]["at_ms"],
        }
        later = backend.history(channel, limit=2, since=receipts[0].cursor)
        assert [publication["data"]["n"] for publication in later.publications] == [1, 2]
        assert backend.history("chat:nothing").publications == []
        with pytest.raises(UnknownNamespace):
            backend.history("nowhere:1")
        with pytest.raises(TidingsError, match="cursor"):
            backend.history(channel, since="nonsense")
        wait_until(lambda: [node.node for node in backend.nodes()] == ["one", "other"], why="both nodes have a record")
        assert all(node.started_s <= time.time() + 1 for node in backend.nodes())


def test_node_that_cannot_reply_is_reported_as_missing(nodes: TwoNodes, start: Start, tmp_path: Any) -> None:
    """A paused node receives no command. It is reported as missing in time, and applies the revocation later."""
    flags = ("--broker", nodes.redis.url, "--node-id")
    settings = 'prefix = "still:"\n' + "control_timeout_s = 2.0\nnode_record_s = 30\n"
    hubs = []
    for name in ("awake", "asleep"):
        (tmp_path / name).mkdir()
        hubs.append(HubProcess(tmp_path / name, *flags, name, extra=settings).start())
    awake, asleep = hubs
    try:
        wait_until(lambda: len(awake.get("/api/nodes")[1]["nodes"]) == 2, why="both nodes have a record")
        client = start(asleep, "rosa").wait_ready()
        asleep.pause()
        status, answer, _ = awake.request("POST", "/api/revocations", {"user": "rosa", "for_s": 600})
        assert (status, answer["nodes"], answer["missing"], answer["disconnected"]) == (201, 1, ["asleep"], 0)
        _, listed, _ = awake.get("/api/connections")
        assert (listed["nodes"], listed["missing"]) == (1, ["asleep"])
        asleep.resume()
        client.wait(lambda client: client.records_of("close"), why="the revocation reaches the node")
        assert client.records_of("close")[0]["code"] == "revoked"
        assert asleep.terminate() == 0
        assert [node["node"] for node in awake.get("/api/nodes")[1]["nodes"]] == ["awake"]
        assert awake.request("POST", "/api/users/rosa/disconnect")[1] == {"disconnected": 0, "nodes": 1, "missing": []}
    finally:
        for hub in hubs:
            hub.stop()


def test_without_redis_every_query_raises(nodes: TwoNodes) -> None:
    with Emitter("redis://127.0.0.1:1/0", timeout_s=0.3) as backend:
        for query in (
            lambda: backend.disconnect(user="u"),
            lambda: backend.history("chat:1"),
            backend.nodes,
        ):
            with pytest.raises(Unavailable):
                query()
