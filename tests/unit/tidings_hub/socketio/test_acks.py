"""Acknowledgements of clients: counted at once, and bounded whatever a client sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidings_hub.metrics import Metrics
from tidings_hub.socketio.client import Client
from tidings_hub.socketio.server import HubServer
from unit.tidings_hub.socketio.test_connect import FakeOpening, Recorder

OURS = 5_000_000


class CountingPool:
    """A pool that calls at once, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        self.calls += 1
        fn(*args)
        return True


class Excusing(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.excused = 0

    def refund(self) -> None:
        self.excused += 1


class Scene:
    """A server with one client, which is asked to acknowledge OURS."""

    def __init__(self) -> None:
        self.pool, self.metrics, self.connection = CountingPool(), Metrics(), Excusing()
        self.acked: list[int] = []
        self.server = HubServer(
            pool=self.pool, spawn=lambda fn, *args: fn(*args), metrics=self.metrics, max_attachment_bytes=1000
        )
        self.server.on_ack = self._take
        self.server.on("connect", self._connect)
        self.server.on_open(self.connection, FakeOpening())
        self.say("0")
        self.pool.calls = 0

    def _connect(self, sid: str, _environ: object, _auth: object) -> None:
        self.sid = sid
        self.server.client(sid).session = "a session"

    def _take(self, client: Client, number: int) -> bool:
        assert client.connection is self.connection
        self.acked.append(number)
        return number == OURS

    def say(self, *messages: str | bytes) -> None:
        for message in messages:
            self.server.on_message(self.connection, message)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_requested_ack_needs_no_worker_and_is_refunded(scene: Scene) -> None:
    scene.say(f"3{OURS}[]", f'3{OURS}[{{"any":"answer"}}]', f"3/,{OURS}[]")
    assert scene.acked == [OURS] * 3
    assert (scene.connection.excused, scene.pool.calls, scene.metrics.acks_unknown) == (3, 0, 0)


def test_one_with_an_attachment_counts_once_it_is_complete(scene: Scene) -> None:
    scene.say(f'61-{OURS}[{{"_placeholder":true,"num":0}}]')
    assert scene.acked == []
    scene.say(b"\x01")
    assert scene.acked == [OURS]


def test_an_unrequested_ack_is_dropped_and_counted(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.say("37[]", "38[]")
    assert (scene.metrics.acks_unknown, scene.connection.excused, scene.pool.calls) == (2, 0, 0)
    assert not scene.connection.closed
    assert caplog.records == []


def test_in_a_namespace_that_was_not_joined_it_ends_the_connection(scene: Scene) -> None:
    scene.say(f"3/other,{OURS}[]")
    assert (scene.acked, scene.connection.code) == ([], "bad_packet")


def test_before_connecting_it_ends_the_connection(scene: Scene) -> None:
    newcomer = Excusing()
    newcomer.sid = "engine-2"
    scene.server.on_open(newcomer, FakeOpening())
    scene.server.on_message(newcomer, f"3{OURS}[]")
    assert (scene.acked, newcomer.code) == ([], "bad_packet")


@pytest.mark.parametrize("message", ["3[]", f"3{OURS}", f"3{OURS}{{}}", f"3{OURS}[", "3" + "1" * 16 + "[]"])
def test_a_malformed_ack_closes_the_connection(scene: Scene, message: str) -> None:
    scene.say(message)
    assert (scene.acked, scene.connection.code) == ([], "bad_packet")


def test_an_apps_own_callback_is_still_called(scene: Scene) -> None:
    """`app.sio.emit(…, callback=…)` is python-socketio's, which counts from 1."""
    heard: list[Any] = []
    scene.server.emit("question", "?", to=scene.sid, callback=heard.append)
    assert scene.connection.sent[-1] == '21["question","?"]'
    scene.say('31["yes"]', f"3{OURS}[]")
    assert (heard, scene.acked) == (["yes"], [1, OURS])
