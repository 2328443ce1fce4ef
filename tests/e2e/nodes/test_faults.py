"""Faults under load, told or repaired: recorded histories of backends and stock clients, held against the promise.

While a backend publishes without pause: clients are cut off for a while, single messages disappear between Redis and
the node, the node's link is cut, Redis is killed and comes back empty, with its file, and with an older file. No client
may miss an acknowledged publication without being told, see one twice, or out of order (tests/support/history.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.history import Recorder, check
from support.network.proxy import Proxy
from support.processes.client import ClientProcess
from support.processes.hub import HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter
from tidings.errors import TidingsError

CHANNELS = ["orders:a", "orders:b", "orders:c"]
KINDS = ["js-websocket", "js-polling", "python-websocket", "sse"]
SETTLED_S = 30.0


class Backend(threading.Thread):
    """Publishes numbers to all channels in turn until it is told to stop, and notes every answer."""

    def __init__(self, url: str, recorder: Recorder) -> None:
        super().__init__(daemon=True)
        self._emitter = Emitter(url, timeout_s=0.3)
        self._recorder = recorder
        self._done = threading.Event()
        self.acked = 0
        self.refused = 0

    def run(self) -> None:
        number = 0
        while not self._done.is_set():
            number += 1
            self.publish(CHANNELS[number % len(CHANNELS)], f"n{number}")
            time.sleep(0.005)

    def publish(self, channel: str, id: str) -> bool:
        self._recorder.note("backend", "sending", channel, id=id)
        try:
            receipt = self._emitter.emit("n", {"id": id}, channel=channel, id=id)
        except TidingsError as error:
            self.refused += 1
            self._recorder.acked("backend", channel, id, error)
            return False
        self.acked += 1
        self._recorder.acked("backend", channel, id, receipt)
        return True

    def stop(self) -> None:
        self._done.set()
        self.join(20)

    def mark(self, name: str) -> None:
        """Publish a last publication in every channel, however long it takes."""
        for channel in CHANNELS:
            wait_until(
                lambda channel=channel: self.publish(channel, f"{name}-{time.monotonic_ns()}"), within_s=SETTLED_S
            )

    def close(self) -> None:
        self._emitter.close()


def note_client(recorder: Recorder, name: str, client: ClientProcess) -> None:
    """Write what a client was told into the history, in its order."""
    known: set[str] = set()
    for record in list(client.records):
        if record["kind"] == "publication":
            recorder.note(name, "got", record["channel"], id=record["data"]["id"], cursor=record["cursor"])
        elif record["kind"] in ("ready", "gap"):
            for channel, answer in record["channels"].items():
                if channel not in CHANNELS:
                    continue
                if channel not in known:
                    recorder.note(name, "subscribed", channel, cursor=record["cursor"])
                    known.add(channel)
                elif not answer["recovered"]:
                    recorder.note(name, "lost", channel, cursor=record["cursor"])


class Scene:
    """Redis, a proxy before it, a hub, a proxy before that, clients, and a backend that never stops."""

    def __init__(self, folder: Path) -> None:
        (folder / "redis").mkdir()
        (folder / "hub").mkdir()
        self.redis = RedisProcess(folder / "redis").start()
        self.link = Proxy(self.redis.port)
        self.hub = HubProcess(folder / "hub", "--broker", self.link.url).start()
        self.door = Proxy(self.hub.port, plain=True)
        self.backend_file = folder / "backend.jsonl"
        self.recorder = Recorder(self.backend_file)
        self.backend = Backend(self.redis.url, self.recorder)
        self.clients = [
            ClientProcess(
                kind, f"http://127.0.0.1:{self.door.port}", token=token(f"u-{kind}", "orders:*"), channels=CHANNELS
            )
            for kind in KINDS
        ]
        for client in self.clients:
            client.wait_ready()
        self.backend.start()
        self.flow()

    def flow(self, count: int = 40) -> None:
        """Let so many more be published."""
        goal = self.backend.acked + count
        wait_until(lambda: self.backend.acked >= goal, within_s=SETTLED_S, why="the backend publishes")

    def settle(self) -> None:
        """Stop publishing, mark the end, wait until every client has it, and check the history."""
        self.backend.stop()
        wait_until(self._mark, within_s=SETTLED_S, why=f"the last publications: {self._missing()}")
        for number, client in enumerate(self.clients):
            note_client(self.recorder, f"client {number} {client.kind}", client)
        problems = check(self.backend_file)
        assert problems == []

    def _mark(self) -> bool:
        """Whether every client has an end of every channel; else it gets another one.

        Who comes back after the end and is told `recovered: false` gets none of the past, as it should be.
        """
        self.backend.mark("end")
        time.sleep(0.5)
        return not self._missing()

    def _missing(self) -> list[str]:
        return [
            f"{client.kind} in {channel}"
            for client in self.clients
            for channel in CHANNELS
            if not any(str(data["id"]).startswith("end-") for data in client.data(channel))
        ]

    def told(self) -> bool:
        """Whether every client was told at some time that something is missing."""
        return all(
            any(
                not answer["recovered"]
                for record in [*client.records_of("ready")[1:], *client.records_of("gap")]
                for channel, answer in record["channels"].items()
                if channel in CHANNELS
            )
            for client in self.clients
        )

    def recovered(self) -> bool:
        """Whether no client was ever told so."""
        return not any(
            not answer["recovered"]
            for client in self.clients
            for record in [*client.records_of("ready")[1:], *client.records_of("gap")]
            for channel, answer in record["channels"].items()
            if channel in CHANNELS
        )

    def close(self) -> None:
        self.backend.stop()
        self.backend.close()
        for client in self.clients:
            client.stop()
        self.door.close()
        self.hub.stop()
        self.link.close()
        self.redis.stop()
        self.recorder.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with closing(Scene(tmp_path)) as made:
        yield made


def test_clients_that_are_cut_off_again_and_again(scene: Scene) -> None:
    for _ in range(4):
        scene.door.cut()
        scene.flow(20)
        scene.door.refuse()
        scene.flow(40)
        scene.door.accept_again()
        scene.flow(40)
    scene.settle()
    assert scene.recovered()


def test_single_messages_that_disappear_before_the_node(scene: Scene) -> None:
    for channel in CHANNELS:
        scene.link.drop(channel, skip=5, times=1)
        scene.flow(30)
        scene.door.cut()
        scene.link.drop(channel, skip=3, times=3)
        scene.flow(40)
    scene.settle()
    assert scene.link.dropped == 12


def test_the_link_of_the_node_is_cut_and_refused_for_a_while(scene: Scene) -> None:
    scene.link.cut()
    scene.flow(20)
    scene.link.refuse()
    scene.flow(60)
    scene.link.accept_again()
    wait_until(lambda: scene.hub.get("/readyz")[0] == 200, why="ready again")
    scene.flow(20)
    scene.settle()
    assert scene.recovered()


@contextmanager
def outage(scene: Scene, change: Callable[[], Any]) -> Iterator[None]:
    """Redis goes, `change` happens, and it comes back."""
    scene.redis.kill()
    change()
    time.sleep(0.5)
    scene.redis.launch()
    back_s = time.monotonic()
    yield
    wait_until(lambda: scene.hub.get("/readyz")[0] == 200, why="ready again")
    # Two seconds are promised for subscriptions; the canary's interval comes on top here.
    assert time.monotonic() - back_s < 2.0 + 3.0


@pytest.mark.parametrize("file", ["none", "current", "older"])
def test_redis_is_killed_and_comes_back(scene: Scene, file: str) -> None:
    older = scene.redis.save()
    scene.flow(30)
    kept = {"none": None, "older": older, "current": scene.redis.save()}[file]
    scene.flow(10)
    with outage(scene, lambda: scene.redis.replace_file(kept)):
        pass
    scene.flow(30)
    scene.door.cut()
    scene.flow(30)
    scene.settle()
    assert scene.told()
    assert scene.backend.refused > 0


def test_redis_is_frozen_for_a_while(scene: Scene) -> None:
    scene.redis.pause()
    time.sleep(3.0)
    scene.redis.resume()
    scene.flow(30)
    scene.settle()


def test_redis_cuts_the_node_off(scene: Scene) -> None:
    with scene.redis.client() as client:
        for _ in range(3):
            client.client_kill_filter(_type="pubsub")
            scene.flow(20)
    scene.settle()
    assert scene.recovered()
