"""Hostile messages, alarms of RabbitMQ and deleted queues, with a real hub and clients, while a backend publishes.

The names of the tests are those of the fault suite: `hostile-queue-messages`, `rabbitmq-alarm` and `queue-deleted`. Its
scene has no queues, so they are here.
"""

from __future__ import annotations

import pickle
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.test_hostile_queue import UNDECODABLE, letters
from e2e.backends.test_ingress import CHANNELS, Backend, check, hub_with, listen
from support.processes.client import ClientProcess
from support.processes.hub import HubProcess
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitProcess]:
    process = RabbitProcess(tmp_path_factory.mktemp("rabbit") / "server").start()
    yield process
    process.stop()


@pytest.fixture
def url(rabbit: RabbitProcess, queue: str) -> str:
    return f"{rabbit.url}?queue={queue}"


class HealthProbe(threading.Thread):
    """Asks for `/healthz` ten times a second. `slowest_s`: the longest time of a response."""

    def __init__(self, hub: HubProcess) -> None:
        super().__init__(daemon=True)
        self._hub = hub
        self._done = threading.Event()
        self.slowest_s = 0.0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._done.wait(0.1):
            start_s = time.monotonic()
            try:
                status = self._hub.get("/healthz")[0]
            except OSError as error:
                self.failures.append(str(error))
                continue
            self.slowest_s = max(self.slowest_s, time.monotonic() - start_s)
            if status != 200:
                self.failures.append(str(status))

    def stop(self) -> None:
        self._done.set()
        self.join(20)


def peak_bytes(hub: HubProcess) -> int:
    """The most memory that the hub's process has used."""
    status = Path(f"/proc/{hub.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def hostile_messages() -> list[tuple[bytes, dict[str, Any]]]:
    """Bodies and their properties. None of them can be published."""
    bomb = zlib.compress(b"0" * 1_000_000_000)
    deep = b't1 orders:a x 0 - 3 "e",' + b"[" * 30_000 + b"]" * 30_000
    return [
        *[(bomb, {"headers": {"compression": "zlib"}})] * 3,
        (pickle.dumps(ValueError()), {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
        (b"t1 orders:a", {"content_type": "application/x-yaml", "content_encoding": "rot13"}),
        (bomb, {"content_encoding": "zip"}),
        (deep, {}),
        (b't1 orders:a x 0 - 3 "e",NaN', {}),
        (b"y" * 60_000_000, {}),
        (b"", {"headers": {"text": "x" * 100_000}}),
    ]


def test_hostile_queue_messages(
    rabbit: RabbitProcess,
    redis: RedisProcess,
    hubs: list[HubProcess],
    clients: list[ClientProcess],
    tmp_path: Path,
    url: str,
    queue: str,
) -> None:
    hub = hub_with(tmp_path / "hub", redis.url, main=url)
    hubs.append(hub)
    listen(hub, clients, "js-websocket")
    before_bytes, backend, probe = peak_bytes(hub), Backend(url), HealthProbe(hub)
    backend.start()
    probe.start()
    hostile = hostile_messages()
    channel = rabbit.channel()
    for body, options in hostile:
        message = channel.prepare_message(body, **({"content_type": "text/plain"} | options))
        channel.basic_publish(message, exchange="", routing_key=queue)
        backend.wait_accepted(10)
    for properties in UNDECODABLE.values():
        message = channel.prepare_message(b"hello")
        message._serialize_properties = lambda properties=properties: properties
        channel.basic_publish(message, exchange="", routing_key=queue)
    channel.connection.client.close()
    count = len(hostile) + len(UNDECODABLE)
    wait_until(lambda: hub.metric("tidings_ingress_dead_total") == count, within_s=30)
    backend.wait_accepted()
    probe.stop()
    check(backend, clients, hub)
    assert hub.metric("tidings_ingress_reconnects_total") == 0
    assert probe.failures == []
    assert probe.slowest_s < 1.0
    # The largest message, its copies in py-amqp and kombu, and its copy on the way to the dead-letter queue.
    assert peak_bytes(hub) - before_bytes < 300_000_000
    assert len(letters(rabbit, queue)) == count


def test_rabbitmq_alarm(
    rabbit: RabbitProcess,
    redis: RedisProcess,
    hubs: list[HubProcess],
    clients: list[ClientProcess],
    tmp_path: Path,
    url: str,
    queue: str,
) -> None:
    hubs += [hub_with(tmp_path / name, redis.url, main=url) for name in ("first", "second")]
    listen(hubs[1], clients, "js-websocket", "python-websocket")
    backend = Backend(url)
    backend.start()
    backend.wait_accepted()
    channel = rabbit.channel()
    for number in range(3):
        rabbit.set_alarm(on=True)
        try:
            # RabbitMQ accepts what a connection sends first, and then blocks it.
            message = channel.prepare_message(b"poison %d" % number)
            channel.basic_publish(message, exchange="", routing_key=queue)
            refused = backend.refused
            wait_until(lambda refused=refused: backend.refused >= refused + 2, why="publishers are blocked")
            time.sleep(3.0)
        finally:
            rabbit.set_alarm(on=False)
        backend.wait_accepted()
    channel.connection.client.close()
    wait_until(lambda: sum(hub.metric("tidings_ingress_dead_total") for hub in hubs) == 3)
    check(backend, clients, hubs[1])
    assert sum(hub.metric("tidings_ingress_reconnects_total") for hub in hubs) == 0
    assert sorted(body for body, _, _ in letters(rabbit, queue)) == [b"poison 0", b"poison 1", b"poison 2"]


def test_queue_deleted(
    rabbit: RabbitProcess,
    redis: RedisProcess,
    hubs: list[HubProcess],
    clients: list[ClientProcess],
    tmp_path: Path,
    url: str,
    queue: str,
) -> None:
    hub = hub_with(tmp_path / "hub", redis.url, main=url)
    hubs.append(hub)
    listen(hub, clients, "js-websocket")
    backend = Backend(url)
    backend.start()
    may_be_lost: set[int] = set()
    for number in range(3):
        backend.wait_accepted()
        accepted_before = len(backend.acked)
        rabbit.delete(queue)
        # Those that RabbitMQ confirmed and the hub had not acknowledged: at most `prefetch`, and one in flight.
        may_be_lost |= set(range(max(0, accepted_before - 110), len(backend.acked) + 1))
        wait_until(lambda number=number: hub.metric("tidings_ingress_deleted_total") == number + 1)
    backend.wait_accepted()
    backend.stop()
    (client,) = clients
    last = backend.acked[-1]
    client.wait(lambda client: last in client.data()[-2:], why="the last publication")
    received = [client.data(name) for name in CHANNELS]
    for data in received:
        assert data == sorted(set(data))
    lost = set(backend.acked) - {number for data in received for number in data}
    assert lost <= may_be_lost
    assert "was deleted" in hub.log.read_text()
