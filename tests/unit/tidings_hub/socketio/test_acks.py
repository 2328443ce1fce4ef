"""Acknowledgements of clients: counted immediately, and limited whatever a client sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidings_hub.metrics import Metrics
from tidings_hub.socketio.client import Client
from tidings_hub.socketio.server import HubServer
from unit.tidings_hub.socketio.test_connect import FakeRequest, Recorder, connect_queue, inbox_bounds

EXPECTED_ID = 5_000_000


class CountingPool:
    """A pool that runs each call immediately and counts it."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        self.calls += 1
        fn(*args)
        return True


class RefundRecorder(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.refunds = 0

    def refund(self) -> None:
        self.refunds += 1


class Scene:
    """A server with one client. The node waits for an acknowledgement with the id EXPECTED_ID."""

    def __init__(self) -> None:
        self.pool, self.metrics, self.connection = CountingPool(), Metrics(), RefundRecorder()
        self.acked: list[int] = []
        self.server = HubServer(
            pool=self.pool,
            spawn=lambda fn, *args: fn(*args),
            metrics=self.metrics,
            max_attachment_bytes=1000,
            connects=connect_queue(),
            inboxes=inbox_bounds(),
        )
        self.server.on_ack = self._on_ack
        self.server.on("connect", self._connect)
        self.server.on_open(self.connection, FakeRequest())
        self.receive("0")
        self.pool.calls = 0

    def _connect(self, sid: str, _environ: object, _auth: object) -> None:
        self.sid = sid
        self.server.client(sid).session = "a session"

    def _on_ack(self, client: Client, number: int) -> bool:
        assert client.connection is self.connection
        self.acked.append(number)
        return number == EXPECTED_ID

    def receive(self, *messages: str | bytes) -> None:
        for message in messages:
            self.server.on_message(self.connection, message)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_requested_ack_needs_no_worker_and_is_refunded(scene: Scene) -> None:
    scene.receive(f"3{EXPECTED_ID}[]", f'3{EXPECTED_ID}[{{"any":"answer"}}]', f"3/,{EXPECTED_ID}[]")
    assert scene.acked == [EXPECTED_ID] * 3
    assert (scene.connection.refunds, scene.pool.calls, scene.metrics.acks_unknown) == (3, 0, 0)


def test_ack_with_an_attachment_counts_when_it_is_complete(scene: Scene) -> None:
    scene.receive(f'61-{EXPECTED_ID}[{{"_placeholder":true,"num":0}}]')
    assert scene.acked == []
    scene.receive(b"\x01")
    assert scene.acked == [EXPECTED_ID]


def test_an_unrequested_ack_is_dropped_and_counted(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.receive("37[]", "38[]")
    assert (scene.metrics.acks_unknown, scene.connection.refunds, scene.pool.calls) == (2, 0, 0)
    assert not scene.connection.closed
    assert caplog.records == []


def test_ack_in_another_namespace_closes_the_connection(scene: Scene) -> None:
    scene.receive(f"3/other,{EXPECTED_ID}[]")
    assert (scene.acked, scene.connection.code) == ([], "bad_packet")


def test_ack_before_connect_closes_the_connection(scene: Scene) -> None:
    newcomer = RefundRecorder()
    newcomer.sid = "engine-2"
    scene.server.on_open(newcomer, FakeRequest())
    scene.server.on_message(newcomer, f"3{EXPECTED_ID}[]")
    assert (scene.acked, newcomer.code) == ([], "bad_packet")


@pytest.mark.parametrize(
    "message", ["3[]", f"3{EXPECTED_ID}", f"3{EXPECTED_ID}{{}}", f"3{EXPECTED_ID}[", "3" + "1" * 16 + "[]"]
)
def test_a_malformed_ack_closes_the_connection(scene: Scene, message: str) -> None:
    scene.receive(message)
    assert (scene.acked, scene.connection.code) == ([], "bad_packet")


def test_callback_of_an_app_is_still_called(scene: Scene) -> None:
    """`app.sio.emit(…, callback=…)` is python-socketio's, which counts from 1."""
    answers: list[Any] = []
    scene.server.emit("question", "?", to=scene.sid, callback=answers.append)
    assert scene.connection.sent[-1] == '21["question","?"]'
    scene.receive('31["yes"]', f"3{EXPECTED_ID}[]")
    assert (answers, scene.acked) == (["yes"], [1, EXPECTED_ID])
