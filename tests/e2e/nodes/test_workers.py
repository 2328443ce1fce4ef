"""`tidings serve --workers N`: several nodes on one port, without a proxy in front of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.raw_polling import POLL, connect, exchange
from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, CONFIG, SECRET, HubProcess, environment, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter
from tidings.tokens import issue

WORKERS = 3
QUICK = "drain_s = 0.5\ndrain_notice_s = 0.2\n"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def hub(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    flags = ("--broker", redis.url, "--workers", str(WORKERS), "--node-id", "w")
    process = HubProcess(tmp_path_factory.mktemp("hub"), *flags, extra=QUICK)
    yield process.start()
    end(process)


def end(hub: HubProcess) -> None:
    """End a hub and its workers in any state."""
    pids = workers_of(hub)
    hub.stop()
    wait_until(
        lambda: not any(is_running(pid) for pid in pids), within_s=40, why="the workers end with their supervisor"
    )


def workers_of(hub: HubProcess) -> list[int]:
    """Return the process ids of a hub's workers."""
    path = Path(f"/proc/{hub.pid}/task/{hub.pid}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def is_running(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def emit(redis: RedisProcess, channel: str, first: int, last: int) -> None:
    with Emitter(redis.url) as emitter:
        for number in range(first, last):
            emitter.emit("updated", {"n": number}, channel=channel)


def numbers(first: int, last: int) -> list[dict[str, int]]:
    return [{"n": number} for number in range(first, last)]


def by_node(hub: HubProcess, name: str) -> dict[str, float]:
    text = hub.get("/metrics")[1].decode()
    return {node: float(value) for node, value in re.findall(rf'^{name}{{node="([^"]*)"}} (\S+)$', text, re.MULTILINE)}


def test_any_worker_serves_a_session_of_another_worker(hub: HubProcess) -> None:
    sid = connect(hub.port, token("raw"))
    for _ in range(30):
        assert exchange(hub.port, "POST", f"{POLL}&sid={sid}", body=b"3")[:2] == (200, b"ok")
    relayed, used_ports = by_node(hub, "tidings_relayed_total"), by_node(hub, "tidings_relay_taken_total")
    assert set(relayed) == {f"w-{index}" for index in range(WORKERS)}
    assert sum(relayed.values()) > 0
    assert sum(used_ports.values()) >= sum(relayed.values())
    # The kernel has distributed the connections of this test over all workers.
    assert all(count > 0 for count in by_node(hub, "tidings_accepted_total").values())


def test_every_kind_of_client_receives_all_publications(
    redis: RedisProcess, hub: HubProcess, clients: list[ClientProcess]
) -> None:
    clients += [
        ClientProcess(kind, hub.url, token=token(f"u-{kind}", "orders:*"), channels=["orders:w"])
        for kind in ("python-polling", "js-polling", "js-upgrade", "js-websocket", "sse")
    ]
    for client in clients:
        client.wait_ready()
    emit(redis, "orders:w", 0, 200)
    for client in clients:
        client.wait(lambda client: len(client.data("orders:w")) >= 200, why="200 publications")
        assert client.data("orders:w") == numbers(0, 200)
        assert client.records_of("connect_error") + client.records_of("disconnect") + client.records_of("gap") == []


def test_metrics_and_readiness_cover_all_workers(hub: HubProcess) -> None:
    status, text, _ = hub.get("/metrics")
    assert status == 200
    lines = text.decode().splitlines()
    about = [line for line in lines if line.startswith("# TYPE")]
    assert len(about) == len(set(about))
    assert set(by_node(hub, "tidings_sessions")) == {"w-0", "w-1", "w-2"}
    all_ready = {"w-0": True, "w-1": True, "w-2": True}
    wait_until(lambda: hub.get("/readyz")[1]["checks"]["workers"] == all_ready, why="all workers are ready")
    assert hub.request("GET", "/metrics", headers={"Authorization": "Bearer no"})[0] == 401
    # A client that claims to be a worker gets the same response.
    assert exchange(hub.port, "GET", "/metrics", "Tidings-Relayed: 1")[0] == 401


def test_crashed_worker_is_restarted_and_its_clients_reconnect(
    redis: RedisProcess, hub: HubProcess, clients: list[ClientProcess]
) -> None:
    for number in range(6):
        kind = ("js-polling", "js-websocket")[number % 2]
        clients.append(ClientProcess(kind, hub.url, token=token(f"c{number}", "orders:*"), channels=["orders:crash"]))
    for client in clients:
        client.wait_ready()
    emit(redis, "orders:crash", 0, 20)
    before = workers_of(hub)
    os.kill(before[0], signal.SIGKILL)
    emit(redis, "orders:crash", 20, 60)
    wait_until(lambda: len([pid for pid in workers_of(hub) if pid not in before]) == 1, why="a new worker")
    # The machine is ready while one worker is.
    wait_until(lambda: all(hub.get("/readyz")[1]["checks"]["workers"].values()), why="all are ready", within_s=60)
    emit(redis, "orders:crash", 60, 80)
    for client in clients:
        client.wait(lambda client: len(client.data("orders:crash")) >= 80, why="all publications", within_s=40)
        assert client.data("orders:crash") == numbers(0, 80)
    assert set(workers_of(hub)) - set(before)
    assert len(workers_of(hub)) == WORKERS


def test_sighup_reloads_all_workers_and_keeps_connections(hub: HubProcess, clients: list[ClientProcess]) -> None:
    check_reload(hub, clients, nodes=WORKERS)


def test_sighup_reloads_a_single_node(redis: RedisProcess, tmp_path: Path, clients: list[ClientProcess]) -> None:
    single = HubProcess(tmp_path, "--broker", redis.url, extra=QUICK).start()
    try:
        check_reload(single, clients, nodes=1)
    finally:
        single.stop()


def check_reload(hub: HubProcess, clients: list[ClientProcess], *, nodes: int) -> None:
    other_secret, other_key = "Zq8Nf2XwT5rY9bLm3sVd7gHk1jPc6eUa", "another-key-0123456789"
    for number, kind in enumerate(["js-websocket", "js-polling", "python-polling"]):
        clients.append(ClientProcess(kind, hub.url, token=token(f"h{number}"), channels=[]))
    for client in clients:
        client.wait_ready()
        refused = client.request("tidings:subscribe", {"channels": ["fresh:1"]})["channels"]["fresh:1"]
        assert refused["error"]["code"] == "unknown_namespace"
    config = CONFIG.replace(SECRET, other_secret).replace(f'"{API_KEY}"', f'"{API_KEY}", "{other_key}"')
    fresh = '[namespaces.fresh]\nsubscribe = "public"\npublish = "subscribers"\n'
    reloads = hub.metric("tidings_reloads_total")
    hub.config.write_text(QUICK + config + fresh)
    os.kill(hub.pid, signal.SIGHUP)
    wait_until(lambda: hub.metric("tidings_reloads_total") == reloads + nodes, why="all nodes have reloaded")
    for client in clients:
        answer = client.request("tidings:subscribe", {"channels": ["fresh:1"]})
        assert answer["channels"]["fresh:1"] == {"recovered": False}
        assert client.records_of("disconnect") + client.records_of("connect_error") == []
    clients[0].request("tidings:publish", {"channel": "fresh:1", "event": "x", "data": 1})
    for client in clients:
        client.wait(lambda client: client.data("fresh:1") == [1], why="a publication in the new namespace")
    new = ClientProcess("js-websocket", hub.url, token=issue("n", key=other_secret, channels=[]), channels=[])
    old = ClientProcess("js-websocket", hub.url, token=token("o"), channels=[])
    clients += [new, old]
    new.wait_ready()
    old.wait(lambda client: client.records_of("connect_error"), why="the old secret is rejected")
    assert hub.request("GET", "/api/channels", headers={"Authorization": f"Bearer {other_key}"})[0] == 200
    # An invalid file changes nothing.
    failed = hub.metric("tidings_reload_errors_total")
    hub.config.write_text("secret = 7\n")
    os.kill(hub.pid, signal.SIGHUP)
    wait_until(
        lambda: hub.metric("tidings_reload_errors_total") == failed + nodes, why="all nodes have rejected the file"
    )
    assert clients[0].request("tidings:subscribe", {"channels": ["fresh:2"]})["channels"]["fresh:2"] == {
        "recovered": False
    }
    hub.config.write_text(QUICK + CONFIG)
    os.kill(hub.pid, signal.SIGHUP)
    wait_until(lambda: hub.metric("tidings_reloads_total") == reloads + 2 * nodes, why="all nodes have reloaded again")


def test_sigterm_drains_all_workers_and_exits_with_zero(
    redis: RedisProcess, tmp_path: Path, clients: list[ClientProcess]
) -> None:
    hub = HubProcess(tmp_path, "--broker", redis.url, "--workers", "2", extra=QUICK).start()
    pids = workers_of(hub)
    try:
        for kind in ("js-websocket", "js-polling", "js-websocket", "sse"):
            clients.append(
                ClientProcess(kind, hub.url, token=token(f"e{len(clients)}", "orders:*"), channels=["orders:e"])
            )
        for client in clients:
            client.wait_ready()
        assert len(pids) == 2
        assert hub.terminate() == 0
        assert not any(is_running(pid) for pid in pids)
        for client in clients:
            client.wait(lambda client: client.records_of("disconnect"), why="the disconnect")
        assert {clients[0].records_of("close")[0]["code"], clients[2].records_of("close")[0]["code"]} == {"draining"}
    finally:
        end(hub)


def test_readiness_fails_before_anything_else_and_waiting_polls_are_answered(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, extra="drain_s = 0.2\ndrain_notice_s = 5\n").start()
    try:
        sid = connect(hub.port, token("raw"))
        os.kill(hub.pid, signal.SIGTERM)
        wait_until(lambda: hub.get("/readyz")[0] == 503, why="readiness fails")
        assert hub.get("/readyz")[1]["checks"]["accepting"] is False
        # Clients that the balancer still sends here are served as before.
        assert connect(hub.port, token("late"))
        hub.publish("chat:room", "said", 1)
        status, body, _ = exchange(hub.port, "GET", f"{POLL}&sid={sid}")
        assert status == 200
        assert b"draining" in body
        assert hub.terminate() == 0
    finally:
        hub.stop()


def test_workers_end_when_their_supervisor_is_killed(redis: RedisProcess, tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, "--broker", redis.url, extra=QUICK + "workers = 2\n").start()
    pids = workers_of(hub)
    assert len(pids) == 2
    end(hub)


def test_port_in_use_is_refused(redis: RedisProcess, hub: HubProcess, tmp_path: Path) -> None:
    (tmp_path / "tidings.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "tidings_hub", "serve", "--port", str(hub.port), "--broker", redis.url]
    for flags in (["--workers", "2"], []):
        result = subprocess.run(
            [*command, *flags], cwd=tmp_path, env=environment(), capture_output=True, timeout=60, check=False
        )
        assert result.returncode == 2
        assert b"cannot listen" in result.stderr
