"""From a queue to stock clients, while RabbitMQ, nodes and Redis fail: nothing is lost or delivered twice.

A backend emits numbers without pause. It retries a number without a receipt, with the same id, until it has one. At the
end each client must have received each number once, in order.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.network.certificates import Authority
from support.network.proxy import Proxy
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, environment, token
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.emitter import Emitter
from tidings.errors import Unavailable

CHANNELS = ["orders:a", "orders:b"]
# Short enough for a test that waits until the broker accepts nothing.
QUICK = "broker_timeout_s = 0.5\ndrain_notice_s = 0.2\ndrain_s = 0.5\n"


class Backend(threading.Thread):
    """Emits numbers to the channels in turn until it is stopped; `acked` are those with a receipt."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._emitter = Emitter(url, timeout_s=0.5)
        self._done = threading.Event()
        self.acked: list[int] = []
        self.refused = 0

    def run(self) -> None:
        number = 0
        while not self._done.is_set():
            try:
                self._emitter.emit("n", number, channel=CHANNELS[number % 2], id=f"n{number}")
            except Unavailable:
                self.refused += 1
                continue
            self.acked.append(number)
            number += 1
            time.sleep(0.003)

    def wait_accepted(self, count: int = 60) -> None:
        """Wait until the queue has accepted this many more messages."""
        goal = len(self.acked) + count
        wait_until(lambda: len(self.acked) >= goal, within_s=40, why=lambda: f"{goal} emitted, not {len(self.acked)}")

    def stop(self) -> None:
        self._done.set()
        self.join(20)
        self._emitter.close()


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitProcess]:
    folder = tmp_path_factory.mktemp("rabbit")
    process = RabbitProcess(folder / "server", authority=Authority.make(folder / "authority")).start()
    yield process
    process.stop()


def hub_with(folder: Path, broker: str, *flags: str, **urls: str) -> HubProcess:
    """Start a hub that consumes publications from these queues."""
    folder.mkdir()
    tables = "".join(f'[ingress.{name}]\nurl = "{url}"\nheartbeat_s = 2\n' for name, url in urls.items())
    hub = HubProcess(folder, "--broker", broker, *flags, extra=QUICK, config=CONFIG + tables).start()
    wait_until(lambda: hub.metric("tidings_ingress_connected") >= len(urls), why=f"{hub.log} is connected")
    return hub


@pytest.fixture
def url(rabbit: RabbitProcess, queue: str) -> str:
    return f"{rabbit.url}?queue={queue}"


def listen(hub: HubProcess, clients: list[ClientProcess], *kinds: str) -> None:
    for kind in kinds:
        client = ClientProcess(kind, hub.url, token=token(f"u-{kind}", "orders:*"), channels=CHANNELS)
        clients.append(client)
    for client in clients:
        client.wait_ready()


def dead_of(redis: RedisProcess, queue: str) -> int:
    """Return the number of messages in the dead-letter list of database 1."""
    with redis.client() as client:
        client.select(1)
        return int(client.llen(f"{queue}.dead"))


def check(backend: Backend, clients: list[ClientProcess], hub: HubProcess) -> None:
    """Check that each client has received each number once, in order per channel."""
    backend.stop()
    expected = {name: backend.acked[place::2] for place, name in enumerate(CHANNELS)}
    for client in clients:
        client.wait(
            lambda client: len(client.data()) >= len(backend.acked),
            within_s=30,
            why=lambda: f"{len(backend.acked)} numbers; {hub.log.read_text()[-2000:]}",
        )
        assert {name: client.data(name) for name in CHANNELS} == expected, client.kind


def test_rabbitmq_and_a_redis_list_reach_every_client(
    rabbit: RabbitProcess,
    redis: RedisProcess,
    hubs: list[HubProcess],
    clients: list[ClientProcess],
    tmp_path: Path,
    queue: str,
) -> None:
    assert rabbit.authority is not None
    places = {
        "rabbit": f"{rabbit.url}?queue={queue}",
        "list": f"kombu+redis://127.0.0.1:{redis.port}/1?queue={queue}",
        "tls": f"amqps://guest:guest@127.0.0.1:{rabbit.tls_port}//?queue={queue}-tls&ca_certs={rabbit.authority.file}",
    }
    hub = hub_with(tmp_path / "hub", redis.url, **places)
    hubs.append(hub)
    listen(hub, clients, "js-websocket", "js-polling", "python-websocket", "sse")
    for name, place in places.items():
        with Emitter(place) as emitter, emitter.batch() as batch:
            batch.emit("n", name, channel="orders:a")
            batch.emit("n", "nowhere", channel="unknown:1")
            for number in range(200):
                batch.emit("n", {"of": name, "n": number, "text": "ä 🙂 \n"}, channel="orders:a")
        expected = [name, *({"of": name, "n": number, "text": "ä 🙂 \n"} for number in range(200))]
        for client in clients:
            client.wait(lambda client, last=expected[-1]: last in client.data()[-1:], why=name)
            assert client.data()[-201:] == expected
    wait_until(lambda: hub.metric("tidings_ingress_dead_total") == 3)
    assert hub.metric("tidings_ingress_acked_total") == 603
    assert rabbit.take(f"{queue}.dead").headers["tidings-code"] == "unknown_namespace"
    assert dead_of(redis, queue) == 1
    assert hub.get("/readyz")[1]["checks"]["ingress"] == dict.fromkeys(places, "connected")
    doctor = subprocess.run(
        [sys.executable, "-m", "tidings_hub", "doctor", "--config", str(hub.config), "--url", places["rabbit"]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment() | {"TIDINGS_PORT": str(hub.port)},
    )
    assert "ok    ingress rabbit: connected" in doctor.stdout, doctor.stderr
    assert "stored in a queue" in doctor.stdout
    assert "all checks passed" in doctor.stdout
    assert "guest:guest" not in hub.log.read_text() + doctor.stdout


def test_publications_survive_a_killed_rabbitmq(
    rabbit: RabbitProcess,
    redis: RedisProcess,
    hubs: list[HubProcess],
    clients: list[ClientProcess],
    tmp_path: Path,
    url: str,
) -> None:
    hub = hub_with(tmp_path / "hub", redis.url, main=url)
    hubs.append(hub)
    listen(hub, clients, "js-websocket", "python-websocket")
    backend = Backend(url)
    backend.start()
    backend.wait_accepted()
    rabbit.kill()
    wait_until(
        lambda: backend.refused and hub.metric("tidings_ingress_connected") == 0,
        why="backend and hub notice the outage",
    )
    assert hub.get("/readyz")[0] == 200
    rabbit.start()
    backend.wait_accepted()
    wait_until(lambda: hub.metric("tidings_ingress_connected") == 1, why="the hub is connected again")
    check(backend, clients, hub)
    assert hub.metric("tidings_ingress_reconnects_total") >= 1
    assert hub.metric("tidings_ingress_dead_total") == 0


def test_publications_survive_a_killed_node_and_a_stopped_one(
    redis: RedisProcess, hubs: list[HubProcess], clients: list[ClientProcess], tmp_path: Path, url: str
) -> None:
    hubs += [hub_with(tmp_path / name, redis.url, main=url) for name in ("first", "second", "third")]
    first, second, third = hubs
    listen(third, clients, "js-websocket", "python-websocket")
    backend = Backend(url)
    backend.start()
    backend.wait_accepted()
    # One node at a time consumes messages, which keeps their order.
    assert second.metric("tidings_ingress_consumed_total") == 0
    first.pause()
    backend.wait_accepted()
    first.kill()
    backend.wait_accepted()
    wait_until(lambda: second.metric("tidings_ingress_acked_total") >= 60, why="the second node took over")
    assert third.metric("tidings_ingress_consumed_total") == 0
    assert second.terminate() == 0
    backend.wait_accepted()
    wait_until(lambda: third.metric("tidings_ingress_acked_total") > 0, why="the third node took over")
    check(backend, clients, third)


def test_publications_survive_a_redis_outage(
    redis: RedisProcess, hubs: list[HubProcess], clients: list[ClientProcess], tmp_path: Path, url: str
) -> None:
    link = Proxy(redis.port)
    with closing(link):
        hub = hub_with(tmp_path / "hub", link.url, main=url)
        hubs.append(hub)
        listen(hub, clients, "js-websocket", "python-websocket")
        backend = Backend(url)
        backend.start()
        backend.wait_accepted()
        link.refuse()
        link.cut()
        backend.wait_accepted(150)
        wait_until(lambda: hub.metric("tidings_ingress_held") > 0, why="the hub holds some messages")
        # It holds at most its prefetch limit, and the queue holds the rest.
        assert hub.metric("tidings_ingress_held") <= 100
        link.accept_again()
        backend.wait_accepted()
        check(backend, clients, hub)
        wait_until(lambda: hub.metric("tidings_ingress_held") == 0)
        assert hub.metric("tidings_ingress_reconnects_total") == 0
        assert hub.metric("tidings_ingress_dead_total") == 0


def test_suspended_queue_does_not_delay_others(
    rabbit: RabbitProcess,
    redis: RedisProcess,
    hubs: list[HubProcess],
    clients: list[ClientProcess],
    tmp_path: Path,
    url: str,
) -> None:
    link = Proxy(rabbit.port, plain=True)
    with closing(link):
        hub = hub_with(tmp_path / "hub", redis.url, main=url.replace(f":{rabbit.port}/", f":{link.port}/"))
        hubs.append(hub)
        listen(hub, clients, "js-websocket")
        backend = Backend(url)
        backend.start()
        backend.wait_accepted()
        link.pause()
        waits_s = []
        while hub.metric("tidings_ingress_reconnects_total") == 0:
            start_s = time.monotonic()
            hub.publish("chat:1", "n", 1)
            waits_s.append(time.monotonic() - start_s)
            assert len(waits_s) < 500
            time.sleep(0.05)
        # Two heartbeats of two seconds. Everything else continued in the meantime.
        assert len(waits_s) > 20
        assert max(waits_s) < 1
        link.resume()
        backend.wait_accepted()
        check(backend, clients, hub)


def test_workers_share_the_work_where_order_does_not_matter(
    rabbit: RabbitProcess,
    redis: RedisProcess,
    hubs: list[HubProcess],
    clients: list[ClientProcess],
    tmp_path: Path,
    queue: str,
) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    place = f"{rabbit.url}?queue={queue}"
    table = f'[ingress.main]\nurl = "{place}"\nordered = false\nprefetch = 5\n'
    hub = HubProcess(folder, "--broker", redis.url, "--workers", "2", extra=QUICK, config=CONFIG + table).start()
    hubs.append(hub)
    wait_until(lambda: hub.metric("tidings_ingress_connected") == 2, why="both workers are connected")
    listen(hub, clients, "python-websocket")
    with Emitter(place) as emitter, emitter.batch() as batch:
        for number in range(300):
            batch.emit("n", number, channel="orders:a")
    clients[0].wait(lambda client: len(client.data()) >= 300)
    assert sorted(clients[0].data()) == list(range(300))
    wait_until(lambda: hub.metric("tidings_ingress_acked_total") == 300)
    acked_counts = re.findall(
        r"^tidings_ingress_acked_total\{.*\} (\S+)$", hub.get("/metrics")[1].decode(), re.MULTILINE
    )
    assert len([float(count) for count in acked_counts if float(count) > 0]) == 2
