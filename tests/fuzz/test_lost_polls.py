"""Long polling over a path that loses responses at random: each packet arrives once, in order, or the session ends.

The seeds fix what is sent and lost. Proxies and browsers repeat a poll on any of their connections.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from support.network.raw_client import POLLING, RawClient, RawResponse, post, request
from support.processes.engine import EngineProcess
from support.waiting import wait_until

STEPS = 12
CONNECTIONS_MAX = 3
LOSSES_MAX = 3
# Longer than the engine waits for a pong.
ANSWER_S = 0.3
RESET = struct.pack("ii", 1, 0)
PROXY = {"X_Forwarded_For": "192.0.2.7"}
PYTHON = {"User_Agent": "python-requests/2.32"}


@dataclass
class Hub:
    """The engine, and how many publications it has sent."""

    port: int
    published: int = 0


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    options = ("--ping_interval_ms=60000", "--ping_timeout_ms=100", "--poll_pace_ms=0", "--out_buffer_bytes=4000000")
    with EngineProcess(*options, "--inbound_rate_per_s=100000", "--inbound_burst=100000") as engine:
        yield Hub(engine.port)


@dataclass
class LossyClient:
    """A polling client behind a lossy path.

    `t`: the query field of its requests, with `{}` for a number that rises. `loss`: the share of responses that are
    lost. `expected`: the beginning of each packet that the engine sent.
    """

    hub: Hub
    random: Random
    t: str
    loss: float
    headers: dict[str, str]
    expected: list[bytes] = field(default_factory=list)
    received: int = 0
    requests: int = 0
    messages: int = 0
    connections: list[RawClient] = field(default_factory=list)
    sid: str = ""

    def run(self) -> bool:
        """Send, poll and lose. Return whether the session is open and has delivered everything."""
        body = self.exchange("GET").body
        self.sid = body.split(b'"sid":"')[1].split(b'"')[0].decode()
        for _ in range(STEPS):
            if self.random.random() < 0.6:
                self.send()
            if not self.poll():
                return False
        while self.received < len(self.expected):
            if not self.poll():
                return False
        return True

    def send(self) -> None:
        """Let the engine send packets: replies to a POST, or publications. With ids, the POST may be repeated."""
        count, size = self.random.choice([1, 2, 20]), self.random.choice([3, 3, 30_000])
        if self.random.random() < 0.5:
            packets = [b"4m%d " % (self.messages + index) for index in range(count)]
            self.messages += count
            self.expected += packets
            body = b"\x1e".join(packet + b"x" * size for packet in packets)
        else:
            numbers = range(self.hub.published + 1, self.hub.published + count + 1)
            self.hub.published += count
            self.expected += [b'42["ev",{"n":%d,' % number for number in numbers]
            body = b"4flood %d %d" % (count, size)
        self.exchange("POST", body, repeats=1 if self.t == "x{}" and self.random.random() < 0.3 else 0)

    def poll(self) -> bool:
        """Poll, and repeat the poll for each response that is lost. Return False if the session ended."""
        path, connection = self.path(), self.connection()
        connection.send_request("GET", path, b"", **self.headers)
        if self.received == len(self.expected):
            self.connections.remove(connection)
            self.send()
            self.connections.append(connection)
        for _ in range(LOSSES_MAX):
            if self.random.random() >= self.loss:
                break
            lost, connection = connection, self.connection(other_than=connection)
            self.lose(lost)
            connection.send_request("GET", path, b"", **self.headers)
        try:
            response = connection.response()
        except (AssertionError, OSError):
            # The connection broke earlier, and the client notices it now.
            return False
        return response.status == 200 and self.receive(response.body.split(b"\x1e"))

    def lose(self, connection: RawClient) -> None:
        """Lose the response of a poll: break its connection, or as a proxy whose client's connection broke."""
        assert select.select([connection.socket], [], [], ANSWER_S)
        has_proof = self.t == "x{}" or PROXY.items() <= self.headers.items()
        kind = self.random.choice(["close", "reset", "half", *(["proxy"] * 3 if has_proof else [])])
        if kind == "proxy":
            connection.response()
            return
        if kind == "half":
            with contextlib.suppress(BlockingIOError):
                connection.socket.recv(100, socket.MSG_DONTWAIT)
        elif kind == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.socket.close()
        self.connections.remove(connection)

    def receive(self, packets: list[bytes]) -> bool:
        """Check packets, and reply to pings. Return False if the session ended."""
        assert "User_Agent" not in self.headers or len(packets) <= 16
        pings = 0
        for packet in packets:
            if packet == b"2":
                pings += 1
            else:
                assert packet.startswith(self.expected[self.received])
                self.received += 1
        return not pings or self.exchange("POST", b"\x1e".join([b"3"] * pings)).status == 200

    def exchange(self, method: str, body: bytes = b"", *, repeats: int = 0) -> RawResponse:
        """Send a request, and repeat it on any connection."""
        path = self.path()
        for _ in range(repeats + 1):
            connection = self.connection()
            connection.send_request(method, path, body, **self.headers)
            response = connection.response()
        return response

    def path(self) -> str:
        """The target of the next request."""
        self.requests += 1
        sid = f"&sid={self.sid}" if self.sid else ""
        return f"{POLLING}&t={self.t.format(self.requests)}{sid}"

    def connection(self, other_than: RawClient | None = None) -> RawClient:
        """A new connection or one that is open."""
        available = [connection for connection in self.connections if connection is not other_than]
        if available and (len(available) >= CONNECTIONS_MAX or self.random.random() < 0.6):
            return self.random.choice(available)
        connection = RawClient(self.hub.port)
        self.connections.append(connection)
        return connection


KINDS = {
    "t": ("x{}", {}),
    "t, python-engineio": ("x{}", PYTHON),
    "t, through a proxy": ("x{}", PROXY),
    "no t": ("", {}),
    "no t, through a proxy": ("", PROXY),
    "no t, python-engineio, through a proxy": ("", PROXY | PYTHON),
    "t is a counter, through a proxy": ("{}", PROXY),
    "t never changes": ("same", {}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_each_packet_arrives_once_and_in_order_or_the_session_ends(hub: Hub, kind: str, seed: int) -> None:
    t, headers = KINDS[kind]
    # The first seed loses nothing: then no kind of client may lose its session.
    loss = 0.0 if seed == 0 else 0.3 if t == "x{}" else 0.1
    client = LossyClient(hub, Random(f"{seed} {kind}"), t, loss, headers)
    is_complete = client.run()
    if seed == 0 or t == "x{}":
        assert is_complete
    if not is_complete:
        wait_until(lambda: post(hub.port, client.sid, b"4x").status == 400, why="the session ended")
    request(hub.port, "POST", f"{POLLING}&sid={client.sid}", b"1")
