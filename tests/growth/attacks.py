"""What a hostile client does to make a hub grow: each act uses new names."""

from __future__ import annotations

import base64
import json
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.network.raw_client import RawClient, RawWebSocket
from support.processes.hub import token

_WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
_POLLING = "/socket.io/?EIO=4&transport=polling"
_CHANNELS = 20
ATTACKER = "attacker"
# Publishes much, so that the other one still has bytes left.
FLOODER = "flooder"
_FLOODED_CHANNELS = 20
_FLOOD_BYTES = 60_000

Attack = Callable[[int, int], None]
"""Act so many times on the hub at this port. Returns when the hub has answered every act."""


class AttackerSocket(RawWebSocket):
    """A Socket.IO client over a raw WebSocket."""

    def __init__(self, port: int, user: str = ATTACKER, **auth: Any) -> None:
        super().__init__(port, _WEBSOCKET)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.receive_text()
        self.send_text("40" + json.dumps({"token": token(user, "chat:*", "room:*", "orders:*"), **auth}))
        self.accepted = self.receive_text()
        assert self.accepted.startswith("40"), self.accepted
        self._number = 0

    def call(self, event: str, *arguments: object) -> Any:
        """Send an event and return its acknowledgement."""
        self._number += 1
        self.send_text(f"42{self._number}{json.dumps([event, *arguments])}")
        while not (text := self.receive_text()).startswith(f"43{self._number}["):
            assert text.startswith("4"), text
        return json.loads(text[len(f"43{self._number}") :])[0]


def fresh() -> str:
    """A name that was never used before."""
    return secrets.token_hex(8)


@contextmanager
def attacker(port: int, user: str = ATTACKER, **auth: Any) -> Iterator[AttackerSocket]:
    """A connected client that leaves with DISCONNECT."""
    with AttackerSocket(port, user, **auth) as client:
        yield client
        client.send_text("41")


def subscribe(port: int, count: int) -> None:
    """Subscribe to fresh channels and leave them."""
    with attacker(port, pid=None) as client:
        for _ in range(max(1, count // _CHANNELS)):
            names = [f"chat:{fresh()}" for _ in range(_CHANNELS)]
            client.call("tidings:subscribe", {"channels": names})
            client.call("tidings:unsubscribe", {"channels": names})


def subscribe_with_presence(port: int, count: int) -> None:
    """Join fresh channels, with joins and leaves, and leave them."""
    with attacker(port, pid=None) as client:
        for _ in range(max(1, count // _CHANNELS)):
            names = [f"room:{fresh()}" for _ in range(_CHANNELS)]
            client.call("tidings:subscribe", {"channels": names, "presence": names})
            client.call("tidings:unsubscribe", {"channels": names, "presence": names})


def publish(port: int, count: int) -> None:
    """Publish in fresh channels."""
    with attacker(port, pid=None) as client:
        for _ in range(count):
            client.call("tidings:publish", {"channel": f"chat:{fresh()}", "event": fresh(), "data": fresh()})


def publish_with_fresh_ids(port: int, count: int) -> None:
    """Publish in one channel, with fresh ids and events."""
    with attacker(port, pid=None) as client:
        for _ in range(count):
            client.call("tidings:publish", {"channel": "chat:one", "event": fresh(), "data": 1, "id": fresh()})


def flood(port: int, count: int) -> None:
    """Publish as much as a publication can hold, in a few channels, over two connections of one user."""
    with attacker(port, FLOODER, pid=None) as first, attacker(port, FLOODER, pid=None) as second:
        for number in range(count):
            channel = f"chat:flooded-{number % _FLOODED_CHANNELS}"
            client = (first, second)[number % 2]
            answer = client.call("tidings:publish", {"channel": channel, "event": "e", "data": "x" * _FLOOD_BYTES})
            assert answer.get("error", {"code": "too_fast"})["code"] == "too_fast", answer


def connect_with_fresh_pids(port: int, count: int) -> None:
    """Connect with unknown pids, get one, and break the connection."""
    for number in range(count):
        AttackerSocket(port, pid=fresh(), offset=f"{fresh()}.{number}", since=f"{fresh()}.{number}").socket.close()


def connect_as_fresh_users(port: int, count: int) -> None:
    """Connect as a new user each time."""
    for _ in range(count):
        with attacker(port, user=fresh(), channels=["chat:one"]):
            pass


def odd_events(port: int, count: int) -> None:
    """Send events, acknowledgements and requests that the hub does not expect."""
    with attacker(port, pid=None) as client:
        for number in range(count):
            client.call(fresh(), {fresh(): fresh()})
            client.send_text(f"43{number}[]")
            client.call(f"tidings:{('history', 'presence', 'refresh')[number % 3]}", {"channel": f"chat:{fresh()}"})
            client.call("tidings:subscribe", {"channels": [fresh(), f"{fresh()}:1", f"orders:{fresh()}"]})


def fresh_tokens(port: int, count: int) -> None:
    """Refresh a session with one new token after the other."""
    with attacker(port, pid=None) as client:
        for _ in range(count):
            client.call("tidings:refresh", {"token": token(ATTACKER, f"chat:{fresh()}")})


def bad_tokens(port: int, count: int) -> None:
    """Connect with tokens of unknown keys, issuers and users."""
    for _ in range(count):
        parts = ({"alg": "HS256", "kid": fresh()}, {"sub": fresh(), "iss": fresh()})
        forged = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        with RawWebSocket(port, _WEBSOCKET) as client:
            client.receive_text()
            client.send_text("40" + json.dumps({"token": f"{forged}.{fresh()}"}))
            while client.frame()[0] not in (-1, 8):
                pass


def event_streams(port: int, count: int) -> None:
    """Open event streams with fresh channels and cursors, and break them."""
    signed = token(ATTACKER, "chat:*")
    for number in range(count):
        with RawClient(port) as client:
            path = f"/sse?channels=chat:{fresh()}&{fresh()}={fresh()}"
            client.send_request("GET", path, b"", Authorization=f"Bearer {signed}", Last_Event_ID=f"{fresh()}.{number}")
            received = b""
            # Beyond the rate of new channels the response is 429, and the connection closes.
            while b"tidings:ready" not in received and (data := client.read()):
                received += data
            assert b" 200 " in received or b" 429 " in received, received


def polling_sessions(port: int, count: int) -> None:
    """Open Engine.IO sessions and use ids of sessions that do not exist."""
    for _ in range(count):
        with RawClient(port) as client:
            client.send_request("GET", f"{_POLLING}&sid={fresh()}&t={fresh()}")
            client.response()
            client.send_request("GET", f"{_POLLING}&t={fresh()}")
            sid = json.loads(client.response().body.split(b"\x1e")[0][1:])["sid"]
            client.send_request("POST", f"{_POLLING}&sid={sid}", b"1")
            client.response()


def http_requests(port: int, count: int) -> None:
    """Fresh paths, queries, hosts, headers, origins and API keys."""
    for number in range(count):
        with RawClient(port) as client:
            path = ("/api/channels/chat:{}/history", "/{}", "/api/{}", "/socket.io/{}")[number % 4].format(fresh())
            client.send(
                f"GET {path}?{fresh()}={fresh()} HTTP/1.1\r\nHost: {fresh()}.example\r\n{fresh()}: {fresh()}\r\n"
                f"Origin: https://{fresh()}.example\r\nAuthorization: Bearer {fresh()}\r\n"
                f"X-Forwarded-For: 10.0.0.{number % 250}\r\nConnection: close\r\n\r\n".encode()
            )
            client.response()


ATTACKS: tuple[Attack, ...] = (
    subscribe,
    subscribe_with_presence,
    publish,
    publish_with_fresh_ids,
    flood,
    connect_with_fresh_pids,
    connect_as_fresh_users,
    odd_events,
    fresh_tokens,
    bad_tokens,
    event_streams,
    polling_sessions,
    http_requests,
)
