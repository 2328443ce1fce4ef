"""Connect and disconnect handlers, on a connection that records what is written to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidings_hub.metrics import Metrics
from tidings_hub.socketio.server import HubServer


class Recorder:
    """A connection that records the packets written to it."""

    transport = "websocket"

    def __init__(self) -> None:
        self.sid = "engine-1"
        self.remote = "here"
        self.client: Any = None
        self.sent: list[str | bytes] = []
        self.code: str | None = None

    @property
    def closed(self) -> bool:
        return self.code is not None

    def send(self, packet: str | bytes) -> None:
        self.sent.append(packet)

    def close(self, code: str) -> None:
        self.code = self.code or code

    def cork(self) -> None:
        """Do nothing: all packets are recorded."""

    uncork = establish = refund = cork


class FakeRequest:
    """The first request of a connection."""

    def __init__(self) -> None:
        self.path = "/socket.io/"
        self.query: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.remote = "here"


class InlinePool:
    """A pool that runs each call immediately."""

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        fn(*args)
        return True


@pytest.fixture
def server() -> HubServer:
    return HubServer(pool=InlinePool(), spawn=lambda fn, *args: fn(*args), metrics=Metrics(), max_attachment_bytes=1000)


def test_packets_of_a_connect_handler_follow_the_connect_packet(server: HubServer) -> None:
    def connect(sid: str, _environ: object, auth: object) -> None:
        server.emit("auth", auth, to=sid)
        server.emit("picture", b"\x01", to=sid)

    server.on("connect", connect)
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, '0{"token":"123"}')
    connect_packet, *later_packets = connection.sent
    assert str(connect_packet).startswith('0{"sid":"')
    assert later_packets == ['2["auth",{"token":"123"}]', '51-["picture",{"_placeholder":true,"num":0}]', b"\x01"]
    assert not connection.closed


def test_session_has_its_own_public_id(server: HubServer) -> None:
    sids = []

    def connect(sid: str, _environ: object, _auth: object) -> None:
        sids.append(sid)
        server.client(sid).pending.answer = {"sid": "the-session", "pid": "its-secret"}

    server.on("connect", connect)
    server.on("hello", sids.append)
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, "0")
    server.on_message(connection, '2["hello"]')
    assert connection.sent == ['0{"sid":"the-session","pid":"its-secret"}']
    assert sids[0] == sids[1] != "the-session"


def test_disconnect_followed_by_close_is_a_client_disconnect(server: HubServer) -> None:
    reasons: list[object] = []
    server.on("connect", lambda *_: None)
    server.on("disconnect", lambda _sid, reason: reasons.append(reason))
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, "0")
    connection.close("transport close")
    server.on_message(connection, "1")
    server.on_close(connection, "transport close")
    assert reasons == ["client disconnect"]


def test_transport_close_alone_is_not_a_client_disconnect(server: HubServer) -> None:
    reasons: list[object] = []
    server.on("connect", lambda *_: None)
    server.on("disconnect", lambda _sid, reason: reasons.append(reason))
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, "0")
    server.on_close(connection, "client disconnect")
    assert reasons == ["transport close"]
