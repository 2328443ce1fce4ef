"""Poll responses that are lost between a node and its clients: a repeat gets them again, or the client recovers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from faults.sticky import Nginx
from support.network.proxy import Proxy
from support.network.raw_polling import POLL, connect, exchange, request, status_of
from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.hub import HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter

NODE = "n1"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def hub(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    extra = f'node_id = "{NODE}"\ntrusted_proxies = ["127.0.0.1"]\npoll_pace_ms = 0\n'
    process = HubProcess(tmp_path_factory.mktemp("hub"), "--broker", redis.url, extra=extra)
    yield process.start()
    process.stop()


@pytest.fixture
def proxy(hub: HubProcess) -> Iterator[Proxy]:
    with closing(Proxy(hub.port, plain=True)) as created:
        yield created


@pytest.fixture
def nginx(proxy: Proxy, tmp_path: Path) -> Iterator[Nginx]:
    """An nginx that repeats polls: `proxy_next_upstream error timeout` and idle connections to the node."""
    created = Nginx(tmp_path, {NODE: proxy.port}).start()
    yield created
    created.stop()


class PollingClient:
    """A client that follows PROTOCOL.md over single requests. `sends_t`: whether its polls have a `t`."""

    def __init__(self, port: int, channel: str, *, sends_t: bool) -> None:
        self._port, self._channel, self._sends_t = port, channel, sends_t
        self._polls = 0
        self._sid = self._cursor = ""
        self.received: list[int] = []
        self.connects = 0

    def receive(self, count: int) -> list[int]:
        """Poll, and reconnect after errors, until `count` publications arrived."""
        while len(self.received) < count:
            if not self._sid:
                self.connect()
            status, body = self._poll()
            if status != 200:
                self._sid = ""
                continue
            for packet in body.split(b"\x1e"):
                self._handle(packet.decode())
        return self.received

    def subscribe(self) -> None:
        """Connect for the first time, and poll until the subscription is active."""
        self.connect()
        while not self._cursor:
            status, body = self._poll()
            assert status == 200, body
            for packet in body.split(b"\x1e"):
                self._handle(packet.decode())

    def connect(self) -> None:
        """Open a session and subscribe, with the cursor of the last one."""
        self.connects += 1
        body = self._send("GET")[1]
        self._sid = json.loads(body.split(b"\x1e")[0][1:])["sid"]
        auth = {"token": token("u", "orders:*"), "channels": [self._channel]}
        since = {"since": self._cursor} if self._cursor else {}
        assert self._send("POST", b"40" + json.dumps(auth | since).encode())[0] == 200

    def _poll(self) -> tuple[int, bytes]:
        return self._send("GET")

    def _send(self, method: str, body: bytes = b"") -> tuple[int, bytes]:
        self._polls += 1
        sid = f"&sid={self._sid}" if self._sid else ""
        t = f"&t=request{self._polls}" if self._sends_t else ""
        return exchange(self._port, method, f"{POLL}{t}{sid}", body=body)[:2]

    def _handle(self, packet: str) -> None:
        if packet == "2":
            self._send("POST", b"3")
        elif packet.startswith("42"):
            name, data, *more = json.loads(packet[2:])
            if name == "tidings:ready":
                assert not self._cursor or data["channels"][self._channel]["recovered"]
                self._cursor = data["cursor"]
            elif name == "updated":
                self.received.append(data["n"])
                self._cursor = more[1]


@pytest.mark.parametrize("sends_t", [True, False])
def test_poll_that_nginx_repeats_loses_nothing(
    redis: RedisProcess, hub: HubProcess, proxy: Proxy, nginx: Nginx, sends_t: bool
) -> None:
    channel = f"orders:{sends_t}"
    client = PollingClient(nginx.port, channel, sends_t=sends_t)
    with Emitter(redis.url) as emitter:
        # A publication before the subscription is not for this client.
        client.subscribe()
        # The first responses open the connections that nginx keeps and repeats on.
        for number in range(8):
            emitter.emit("updated", {"n": number}, channel=channel)
            client.receive(number + 1)
        for number in range(8, 12):
            proxy.lose_response(b'"n":%d' % number)
            emitter.emit("updated", {"n": number}, channel=channel)
            assert client.receive(number + 1) == list(range(number + 1))
    assert proxy.responses_lost == 4
    # With `t` the repeat gets the lost response, so the client notices nothing.
    assert client.connects == 1 if sends_t else client.connects > 1


@pytest.mark.parametrize("kind", ["js-polling", "python-polling"])
def test_stock_clients_lose_nothing(
    redis: RedisProcess, proxy: Proxy, nginx: Nginx, clients: list[ClientProcess], kind: str
) -> None:
    channel = f"orders:{kind}"
    client = ClientProcess(kind, f"http://127.0.0.1:{nginx.port}", token=token("u", "orders:*"), channels=[channel])
    clients.append(client)
    client.wait_ready()
    with Emitter(redis.url) as emitter:
        for number in range(20):
            if number % 4 == 3:
                proxy.lose_response(b'"n":%d' % number)
            emitter.emit("updated", {"n": number}, channel=channel)
            client.wait(lambda client, count=number + 1: len(client.data(channel)) >= count, why="it was delivered")
    assert client.data(channel) == [{"n": number} for number in range(20)]
    assert proxy.responses_lost == 5


@contextmanager
def running_nodes(redis: RedisProcess, tmp_path: Path, *names: str) -> Iterator[list[HubProcess]]:
    """Nodes that relay requests to each other."""
    nodes = []
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        port = free_port()
        extra = f'node_id = "{name}"\nadvertise = "127.0.0.1:{port}"\nlease_s = 6\npoll_pace_ms = 0\n'
        node = HubProcess(folder, "--broker", redis.url, extra=extra)
        node.port = port
        nodes.append(node.start())
    try:
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def open_relayed(owner: HubProcess, relay: HubProcess) -> str:
    """Open a session at its owner, poll through another node up to `tidings:ready`, and return its id."""
    body = exchange(owner.port, "GET", f"{POLL}&t=h")[1]
    sid: str = json.loads(body.split(b"\x1e")[0][1:])["sid"]
    auth = {"token": token("u", "orders:*"), "channels": ["orders:frozen"]}
    assert exchange(owner.port, "POST", f"{POLL}&sid={sid}", body=b"40" + json.dumps(auth).encode())[0] == 200
    ready, turn = b"", 0
    while b"tidings:ready" not in ready:
        turn += 1
        ready += exchange(relay.port, "GET", f"{POLL}&t=ready{turn}&sid={sid}")[1]
    return sid


@pytest.mark.parametrize("owner_is_asked", [True, False])
def test_response_in_a_frozen_relaying_node_is_repeated(
    redis: RedisProcess, tmp_path: Path, owner_is_asked: bool
) -> None:
    """The node that relays a poll freezes with the response in its socket, and dies. The poll is repeated elsewhere."""
    with running_nodes(redis, tmp_path, "a", "b", "c") as (owner, relay, third):
        sid = open_relayed(owner, relay)
        taken = owner.metric("tidings_relay_taken_total")
        poll = f"{POLL}&t=lost&sid={sid}"
        with socket.create_connection(("127.0.0.1", relay.port)) as waiting, Emitter(redis.url) as emitter:
            waiting.sendall(request("GET", poll))
            wait_until(lambda: owner.metric("tidings_relay_taken_total") > taken, why="the poll waits at its owner")
            relay.pause()
            emitter.emit("updated", {"n": 1}, channel="orders:frozen")
            wait_until(lambda: owner.metric("tidings_deliveries_total") == 1, why="the owner responded")
            relay.kill()
            emitter.emit("updated", {"n": 2}, channel="orders:frozen")
        target = owner if owner_is_asked else third
        status, body, _ = exchange(target.port, "GET", poll)
        assert (status, b'"n":1' in body, b'"n":2' in body) == (200, True, False)
        assert b'"n":2' in exchange(target.port, "GET", f"{POLL}&t=next&sid={sid}")[1]


def test_poll_that_a_resumed_node_reads_late_takes_nothing(redis: RedisProcess, tmp_path: Path) -> None:
    """A proxy gave the poll up and repeated it elsewhere. The frozen node reads it when the session is far ahead."""
    with running_nodes(redis, tmp_path, "a", "b") as (owner, relay), Emitter(redis.url) as emitter:
        sid = open_relayed(owner, relay)
        relay.pause()
        with socket.create_connection(("127.0.0.1", relay.port)) as given_up:
            given_up.sendall(request("GET", f"{POLL}&t=late&sid={sid}"))
        for number, t in enumerate(("late", "p1", "p2", "p3", "p4", "p5")):
            emitter.emit("updated", {"n": number}, channel="orders:frozen")
            assert b'"n":%d' % number in exchange(owner.port, "GET", f"{POLL}&t={t}&sid={sid}")[1]
        emitter.emit("updated", {"n": 6}, channel="orders:frozen")
        wait_until(lambda: owner.metric("tidings_deliveries_total") == 7, why="the last publication waits at the owner")
        taken = owner.metric("tidings_relay_taken_total")
        relay.resume()
        status, body, _ = exchange(relay.port, "GET", f"{POLL}&t=p6&sid={sid}")
        assert (status, b'"n":6' in body) == (200, True)
        assert owner.metric("tidings_relay_taken_total") == taken + 1


def test_poll_without_t_that_is_repeated_through_another_node_ends_the_session(
    redis: RedisProcess, tmp_path: Path
) -> None:
    """The first node owns the session. Nothing on the first way shows that a proxy gave the response up."""
    with running_nodes(redis, tmp_path, "a", "b") as (owner, relay), Emitter(redis.url) as emitter:
        sid = connect(owner.port, token("7", "orders:*"), "orders:frozen")
        with socket.create_connection(("127.0.0.1", owner.port)) as given_up:
            given_up.sendall(request("GET", f"{POLL}&sid={sid}"))
            emitter.emit("updated", {"n": 1}, channel="orders:frozen")
            assert status_of(given_up) == 200
            emitter.emit("updated", {"n": 2}, channel="orders:frozen")
            status, body, _ = exchange(relay.port, "GET", f"{POLL}&sid={sid}")
        assert (status, b"Session ID unknown" in body) == (400, True)
