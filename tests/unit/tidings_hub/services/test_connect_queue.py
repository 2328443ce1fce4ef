from __future__ import annotations

from tidings_hub.metrics import Metrics
from tidings_hub.services.connect_queue import ConnectQueue


class ConnectingRecorder:
    """A client's connection: the rest of its connect timeout, and the code that it was closed with."""

    def __init__(self) -> None:
        self.left_s = 7.0
        self.code = ""

    def establish(self) -> float:
        left_s, self.left_s = self.left_s, 0.0
        return left_s

    def await_connect(self, left_s: float) -> None:
        self.left_s = left_s

    def close(self, code: str) -> None:
        self.code = code


class Scene:
    """A queue with a clock that the test sets."""

    def __init__(self, waits_max: int = 10) -> None:
        self.at_s = 50.0
        self.metrics = Metrics()
        self.queue = ConnectQueue(
            waits_max=waits_max,
            timeout_s=6.0,
            pause_max_s=20.0,
            metrics=self.metrics,
            now_s=lambda: self.at_s,
            draw=lambda: 0.0,
        )


def test_own_timeout_of_a_client_continues_only_if_it_is_not_connected() -> None:
    queue = Scene().queue
    connected, refused = ConnectingRecorder(), ConnectingRecorder()
    for client in (connected, refused):
        assert queue.begin(client)
        assert client.left_s == 0
    queue.end(connected, connected=True)
    queue.end(refused, connected=False)
    assert (connected.left_s, refused.left_s) == (0, 7.0)


def test_overdue_clients_are_closed_as_full_and_counted() -> None:
    scene = Scene()
    waiting, answered = ConnectingRecorder(), ConnectingRecorder()
    for client in (waiting, answered):
        scene.queue.begin(client)
    assert scene.metrics.connects_waiting == 2
    scene.queue.end(answered, connected=True)
    scene.at_s += 6.0
    scene.queue.tick()
    assert (waiting.code, answered.code) == ("full", "")
    assert (scene.metrics.connects_expired, scene.metrics.connects_waiting) == (1, 0)


def test_clients_beyond_the_bound_are_counted() -> None:
    scene = Scene(waits_max=1)
    first = ConnectingRecorder()
    assert [scene.queue.begin(client) for client in (first, ConnectingRecorder())] == [True, False]
    assert scene.metrics.connects_refused == 1
    scene.queue.discard(first)
    assert scene.queue.begin(ConnectingRecorder())


def test_held_client_is_closed_with_its_code_and_has_no_connect_timeout() -> None:
    scene = Scene()
    client = ConnectingRecorder()
    scene.queue.begin(client)
    scene.queue.hold(client, "unavailable")
    scene.queue.end(client, connected=False)
    assert (client.left_s, client.code, scene.metrics.connects_held) == (0, "", 1)
    scene.queue.tick()
    assert (client.code, scene.metrics.connects_held) == ("unavailable", 0)


def test_held_client_is_closed_after_its_pause_unless_it_closes_itself() -> None:
    """Its first CONNECT has no answer, so it must not stay open, also if another namespace is connected."""
    scene = Scene()
    closed, refused, connected = ConnectingRecorder(), ConnectingRecorder(), ConnectingRecorder()
    for client in (closed, refused, connected):
        scene.queue.begin(client)
        scene.queue.hold(client, "unavailable")
        scene.queue.end(client, connected=False)
    scene.queue.discard(closed)
    for client, is_connected in ((refused, False), (connected, True)):
        scene.queue.begin(client)
        scene.queue.end(client, connected=is_connected)
    scene.queue.tick()
    assert (closed.code, refused.code, connected.code) == ("", "unavailable", "unavailable")
