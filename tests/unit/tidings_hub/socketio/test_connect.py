"""Connect and disconnect handlers, on a connection that records what is written to it."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import eventlet
import pytest
from socketio.exceptions import ConnectionRefusedError as Refused

import tidings_hub.log
from tidings.errors import BadConfig
from tidings_hub.core.herd.held_refusals import BASE_S
from tidings_hub.metrics import Metrics
from tidings_hub.services.connect_queue import ConnectQueue
from tidings_hub.socketio.packet_inbox import InboxBounds
from tidings_hub.socketio.refused_work import Pool
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
        # The rest of the connect timeout; 0: it does not run.
        self.left_s = 9.0
        self.is_stranger = True

    @property
    def closed(self) -> bool:
        return self.code is not None

    def send(self, packet: str | bytes) -> None:
        self.sent.append(packet)

    def close(self, code: str, message: str | None = None) -> None:
        self.code = self.code or code

    def cork(self) -> None:
        """Do nothing: all packets are recorded."""

    uncork = refund = cork

    def establish(self) -> float:
        left_s, self.left_s = self.left_s, 0.0
        return left_s

    def trust(self) -> None:
        self.is_stranger = False

    def await_connect(self, left_s: float) -> None:
        self.left_s = left_s


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


class HeldPool:
    """A pool whose calls run when `run` is called."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        self.calls.append(lambda: fn(*args))
        return True

    def run(self) -> None:
        """Run the submitted calls."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class FullPool:
    """A pool without room."""

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        return False


INBOX_MAX = 1000
INBOX_MAX_BYTES = 16_777_216


def connect_queue(*, waits_max: int = 100, now_s: Callable[[], float] = lambda: 0.0) -> ConnectQueue:
    return ConnectQueue(
        waits_max=waits_max, timeout_s=30.0, pause_max_s=20.0, metrics=Metrics(), now_s=now_s, draw=lambda: 0.0
    )


def inbox_bounds(*, total_max_bytes: int = 64_000_000) -> InboxBounds:
    return InboxBounds(
        packets_max=INBOX_MAX, max_bytes=INBOX_MAX_BYTES, total_max_bytes=total_max_bytes, metrics=Metrics()
    )


def new_server(pool: Pool, connects: ConnectQueue, inboxes: InboxBounds | None = None) -> HubServer:
    return HubServer(
        pool=pool,
        spawn=lambda fn, *args: fn(*args),
        metrics=Metrics(),
        max_attachment_bytes=1000,
        connects=connects,
        inboxes=inboxes or inbox_bounds(),
    )


@pytest.fixture
def server() -> HubServer:
    return new_server(InlinePool(), connect_queue())


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


def test_refusal_that_is_held_has_no_answer_and_closes_later() -> None:
    connects = connect_queue()
    server = new_server(InlinePool(), connects)

    def connect(sid: str, _environ: object, _auth: object) -> None:
        server.hold(server.client(sid), "unavailable")
        raise Refused("the broker is away")

    server.on("connect", connect)
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, "0")
    assert (connection.sent, connection.code, connection.left_s) == ([], None, 0)
    connects.tick()
    assert (connection.sent, connection.code) == ([], "unavailable")


@pytest.mark.parametrize(
    ("data", "is_named"),
    [("text", True), ((1, "text"), True), (None, True), ((), True), (("text", None), False), ({"a": "text"}, False)],
)
def test_emit_that_overwrites_the_offset_of_stock_clients_is_logged(
    server: HubServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, data: object, is_named: bool
) -> None:
    monkeypatch.setattr(tidings_hub.log, "_LIMIT", tidings_hub.log.RateLimit())
    server.on("connect", lambda *_: None)
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, "0")
    server.emit("news", data)
    assert [str(packet).startswith('2["news"') for packet in connection.sent] == [False, True]
    assert ("app.sio.emit('news')" in caplog.text) is is_named


def test_emit_with_a_callback_or_in_a_namespace_of_the_app_is_not_logged(
    server: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    sids: list[str] = []
    server.on("connect", lambda sid, *_: sids.append(sid))
    server.on("connect", lambda *_: None, namespace="/own")
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, "0")
    server.on_message(connection, "0/own,")
    server.emit("news", "text", to=sids[0], callback=lambda: None)
    server.emit("news", "text", namespace="/own")
    assert len(connection.sent) == 4
    assert "app.sio.emit" not in caplog.text


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


@pytest.mark.parametrize("error", [ValueError(), eventlet.Timeout(None)], ids=["error", "timeout of eventlet"])
def test_handler_that_raises_does_not_leave_the_inbox_stuck(server: HubServer, error: BaseException) -> None:
    def fail(_sid: str) -> None:
        raise error

    reasons: list[object] = []
    server.on("connect", lambda *_: None)
    server.on("fail", fail)
    server.on("disconnect", lambda _sid, reason: reasons.append(reason))
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, "0")
    server.on_message(connection, '2["fail"]')
    assert connection.code == "internal"
    server.on_close(connection, "transport close")
    assert reasons == ["transport close"]


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


class TestConnectThatWaits:
    def test_connect_timeout_stops_when_connect_arrives(self) -> None:
        pool = HeldPool()
        server = new_server(pool, connect_queue())
        server.on("connect", lambda *_: None)
        connection = Recorder()
        server.on_open(connection, FakeRequest())
        assert connection.left_s == 9.0
        server.on_message(connection, "0")
        assert connection.left_s == 0
        pool.run()
        assert (connection.left_s, connection.closed) == (0, False)

    def test_connect_timeout_continues_after_a_connect_to_an_unknown_namespace(self) -> None:
        pool = HeldPool()
        server = new_server(pool, connect_queue())
        connection = Recorder()
        server.on_open(connection, FakeRequest())
        server.on_message(connection, "0/unknown,")
        server.on_message(connection, "0/another,")
        assert connection.left_s == 0
        pool.run()
        assert (connection.left_s, connection.closed) == (9.0, False)

    def test_overdue_connect_is_closed_as_full(self) -> None:
        times = [0.0]
        pool, connects = HeldPool(), connect_queue(now_s=lambda: times[0])
        server = new_server(pool, connects)
        connection = Recorder()
        server.on_open(connection, FakeRequest())
        server.on_message(connection, "0")
        times[0] = 29.9
        connects.tick()
        assert not connection.closed
        times[0] = 30.0
        connects.tick()
        assert connection.code == "full"

    def test_connect_beyond_the_bound_is_closed_as_full_after_a_pause(self) -> None:
        times = [0.0]
        pool, connects = HeldPool(), connect_queue(waits_max=1, now_s=lambda: times[0])
        server = new_server(pool, connects)
        server.on("connect", lambda *_: None)
        first, second, third = Recorder(), Recorder(), Recorder()
        for number, connection in enumerate((first, second, third)):
            connection.sid = f"engine-{number}"
            server.on_open(connection, FakeRequest())
        server.on_message(first, "0")
        server.on_message(second, "0")
        # A stock client would return every second, and the connect timeout must not end the pause.
        assert (first.code, second.code, second.left_s) == (None, None, 0)
        times[0] = BASE_S
        connects.tick()
        assert (first.code, second.code) == (None, "full")
        pool.run()
        server.on_message(third, "0")
        assert third.code is None

    def test_client_with_its_own_pauses_is_closed_as_full_at_once(self) -> None:
        pool, connects = HeldPool(), connect_queue(waits_max=1)
        server = new_server(pool, connects)
        connections = [Recorder(), Recorder()]
        for number, connection in enumerate(connections):
            connection.sid = f"engine-{number}"
            server.on_open(connection, FakeRequest())
            server.on_message(connection, '0{"pid":null}')
        assert [connection.code for connection in connections] == [None, "full"]

    def test_connect_without_a_worker_is_closed_as_full_after_a_pause(self) -> None:
        times = [0.0]
        connects = connect_queue(now_s=lambda: times[0])
        server = new_server(FullPool(), connects)
        connection = Recorder()
        server.on_open(connection, FakeRequest())
        server.on_message(connection, "0")
        assert (connection.code, connection.left_s) == (None, 0)
        times[0] = BASE_S
        connects.tick()
        assert connection.code == "full"

    def test_connect_that_raises_in_the_hub_is_closed_after_a_pause(self) -> None:
        times = [0.0]
        pool, connects = HeldPool(), connect_queue(now_s=lambda: times[0])
        server = new_server(pool, connects)
        server.on("connect", lambda *_: 1 / 0)
        connection = Recorder()
        server.on_open(connection, FakeRequest())
        server.on_message(connection, "0")
        pool.run()
        assert (connection.code, connection.left_s) == (None, 0)
        times[0] = BASE_S
        connects.tick()
        assert connection.code == "internal"

    def test_client_that_left_makes_room(self) -> None:
        pool, connects = HeldPool(), connect_queue(waits_max=1)
        server = new_server(pool, connects)
        connection = Recorder()
        server.on_open(connection, FakeRequest())
        server.on_message(connection, "0")
        assert connection in connects
        connection.close("transport close")
        server.on_close(connection, "transport close")
        assert connection not in connects

    def test_events_that_wait_for_this_node_are_not_the_fault_of_the_client(self) -> None:
        pool = HeldPool()
        server = new_server(pool, connect_queue())
        connection = Recorder()
        server.on_open(connection, FakeRequest())
        server.on_message(connection, "0")
        for _ in range(INBOX_MAX):
            server.on_message(connection, '2["hello"]')
        assert connection.code == "full"

    def test_data_of_waiting_events_takes_bounded_memory(self) -> None:
        pool = HeldPool()
        server, connection = new_server(pool, connect_queue()), Recorder()
        server.on_open(connection, FakeRequest())
        server.on_message(connection, "0")
        connection.trust()
        # 60 KB that become more than a megabyte.
        message = f'2["hello",{json.dumps([[]] * 15_000)}]'
        tracemalloc.start()
        for _ in range(200):
            if connection.code is None:
                server.on_message(connection, message)
        held_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert connection.code == "full"
        assert INBOX_MAX_BYTES / 4 < held_bytes < 2 * INBOX_MAX_BYTES


class LeavingRecorder(Recorder):
    """A connection that reports its end to the server, as the engine does."""

    def __init__(self, server: HubServer, sid: str) -> None:
        super().__init__()
        self.server, self.sid = server, sid

    def close(self, code: str) -> None:
        if self.code is None:
            super().close(code)
            self.server.on_close(self, code)


def test_data_of_all_waiting_events_takes_bounded_memory() -> None:
    """Each client sends one event, which waits for a handler: no client is above its own bound."""
    pool, metrics = HeldPool(), Metrics()
    inboxes = InboxBounds(packets_max=INBOX_MAX, max_bytes=INBOX_MAX_BYTES, total_max_bytes=1_000_000, metrics=metrics)
    server = new_server(pool, connect_queue(), inboxes)
    server.on("connect", lambda *_: None)
    server.on("disconnect", lambda *_: None)
    connections = [LeavingRecorder(server, f"engine-{number}") for number in range(100)]
    for connection in connections:
        server.on_open(connection, FakeRequest())
        server.on_message(connection, "0")
    pool.run()
    for connection in connections:
        server.on_message(connection, f'2["hello","{"x" * 50_000}"]')
        assert inboxes.total_bytes <= 1_000_000
    closed = [connection for connection in connections if connection.code == "full"]
    assert metrics.inboxes_shed == len(closed) > 50
    pool.run()
    assert inboxes.total_bytes == 0
    assert len(server.eio.clients) == len(connections) - len(closed)


def test_events_that_waited_let_other_greenlets_run(server: HubServer) -> None:
    """Each of them is short, and none waits."""
    order: list[str] = []

    def burn(_sid: str) -> None:
        end_s = time.perf_counter() + 0.006
        while time.perf_counter() < end_s:
            pass
        order.append("event")

    server.on("connect", lambda *_: None)
    server.on("first", lambda _sid: eventlet.sleep(0.01))
    server.on("burn", burn)
    connection = Recorder()
    server.on_open(connection, FakeRequest())
    server.on_message(connection, "0")
    worker = eventlet.spawn(server.on_message, connection, '2["first"]')
    eventlet.sleep(0)
    for _ in range(5):
        server.on_message(connection, '2["burn"]')
    eventlet.spawn_after(0.012, order.append, "other")
    worker.wait()
    assert order.count("event") == 5
    assert order.index("other") < 4


@pytest.mark.parametrize("has_app_namespace", [False, True])
def test_environ_has_the_first_request_if_an_app_has_a_namespace(server: HubServer, *, has_app_namespace: bool) -> None:
    environs: list[Mapping[str, object]] = []
    server.on("connect", lambda _sid, environ, _auth: environs.append(environ))
    if has_app_namespace:
        server.on("connect", lambda _sid, _environ: None, namespace="/shop")
    connection, request = Recorder(), FakeRequest()
    request.query = {"EIO": "4", "shop": "a b"}
    request.headers = {"cookie": "id=7", "x-app": "1", "x-forwarded-for": "6.6.6.6", "forwarded": "for=6.6.6.6"}
    server.on_open(connection, request)
    server.on_message(connection, "0")
    expected = {"REMOTE_ADDR": "here"}
    if has_app_namespace:
        expected |= {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/socket.io/",
            "QUERY_STRING": "EIO=4&shop=a+b",
            "HTTP_COOKIE": "id=7",
            "HTTP_X_APP": "1",
        }
    assert environs == [expected]
    assert server.environ["engine-1"] == expected


def test_admin_ui_is_refused_with_a_reason(server: HubServer) -> None:
    with pytest.raises(BadConfig, match="/metrics"):
        server.instrument(auth=False)
