"""Workers of `tidings serve --workers N` that end or hang, while the others serve."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.nodes.test_workers import by_node, end, workers_of
from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

WORKERS = 2
SETTINGS = """
worker_timeout_s = 4
drain_s = 0.5
drain_notice_s = 0.2
app = "realtime"
app_timeout_s = 60
"""
# A handler that blocks the event loop, and a worker that always crashes.
MODULE = """
import json
import os
import pathlib
import time
from tidings_hub import App

app = App()
STARTING = pathlib.Path("starting")
if "WAITS" in os.environ and json.loads(os.environ["TIDINGS_WORKER"])["restarts"]:
    STARTING.touch()
    while STARTING.exists():
        time.sleep(0.05)
if json.loads(os.environ["TIDINGS_WORKER"])["index"] == 1 and "CRASHES" in os.environ:
    os._exit(3)


@app.on("block")
def block(session, data):
    while True:
        pass
"""
# Less than the usual time limit of a probe, 1 s. A probe that a hanging worker got has no response.
PROBE_S = 0.95


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield process
    process.stop()


@pytest.fixture
def hub(redis: RedisProcess, tmp_path: Path) -> Iterator[HubProcess]:
    """A hub with two workers, not started yet."""
    (tmp_path / "realtime.py").write_text(MODULE)
    flags = ("--broker", redis.url, "--workers", str(WORKERS), "--node-id", "w")
    process = HubProcess(tmp_path, *flags, extra=SETTINGS)
    try:
        yield process
    finally:
        end(process)


def probe(hub: HubProcess, path: str, within_s: float = PROBE_S) -> list[tuple[int, str]]:
    """Send eight requests at once, and return the status and body of each response within the time limit.

    The kernel chooses the worker of each connection, so it is unlikely that all eight go to the worker that hangs.
    """

    def request(_: int) -> tuple[int, str] | None:
        connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=within_s)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {API_KEY}"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        return [response for response in pool.map(request, range(8)) if response is not None]


def start(hub: HubProcess) -> list[int]:
    """Start a hub; return the process ids of its workers, once all are ready."""
    hub.start()
    wait_all_ready(hub)
    return workers_of(hub)


def readiness(hub: HubProcess) -> tuple[int, dict[str, bool]] | None:
    """Status of `/readyz` and the state of each worker; None: a worker that hangs got the request."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=PROBE_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.loads(response.read())["checks"]["workers"]
    except OSError:
        return None
    finally:
        connection.close()


def wait_all_ready(hub: HubProcess) -> None:
    expected = (200, dict.fromkeys([f"w-{index}" for index in range(WORKERS)], True))
    wait_until(lambda: readiness(hub) == expected, within_s=60, why="all workers are ready")


def test_machine_stays_ready_while_a_worker_is_restarted(hub: HubProcess) -> None:
    pids = start(hub)
    os.kill(pids[0], signal.SIGKILL)
    results = [readiness(hub) for _ in range(40)]
    assert {result[0] for result in results if result is not None} == {200}
    wait_all_ready(hub)
    assert sum(by_node(hub, "tidings_worker_restarts_total").values()) == 1
    assert sum(by_node(hub, "tidings_worker_hangs_total").values()) == 0
    wait_until(lambda: set(by_node(hub, "tidings_node_ready").values()) == {1.0}, why="the metric shows it")
    assert set(by_node(hub, "tidings_workers").values()) == {WORKERS}


def test_stopped_worker_is_killed_and_restarted(hub: HubProcess) -> None:
    pids = start(hub)
    os.kill(pids[1], signal.SIGSTOP)
    seen: list[tuple[int, dict[str, bool]]] = []
    while pids[1] in workers_of(hub):
        for status, body in probe(hub, "/readyz"):
            seen.append((status, json.loads(body)["checks"]["workers"]))
    # The other workers respond within the time limit of a probe, and name the worker that hangs.
    assert (200, {"w-0": True, "w-1": False}) in seen
    assert {status for status, _ in seen} == {200}
    wait_all_ready(hub)
    assert by_node(hub, "tidings_worker_hangs_total") == {"w-0": 0.0, "w-1": 1.0}
    assert by_node(hub, "tidings_worker_restarts_total") == {"w-0": 0.0, "w-1": 1.0}
    assert "node w-1 hangs" in hub.log.read_text()
    assert set(pids) - set(workers_of(hub)) == {pids[1]}


def test_metrics_do_not_wait_long_for_a_worker_that_hangs(hub: HubProcess) -> None:
    pids = start(hub)
    os.kill(pids[1], signal.SIGSTOP)
    nodes: set[frozenset[str]] = set()
    while pids[1] in workers_of(hub):
        for _, body in probe(hub, "/metrics", within_s=3):
            nodes.add(frozenset(re.findall(r'^tidings_sessions{node="([^"]*)"}', body, re.MULTILINE)))
    assert frozenset({"w-0"}) in nodes


def test_worker_with_a_blocked_event_loop_is_killed_and_its_clients_reconnect(
    hub: HubProcess, clients: list[ClientProcess]
) -> None:
    pids = start(hub)
    for number in range(4):
        client = ClientProcess("js-websocket", hub.url, token=token(f"u{number}", "orders:*"), channels=["orders:1"])
        clients.append(client.wait_ready())
    clients[0].send_command({"emit": "block", "data": None})
    wait_until(lambda: "hangs" in hub.log.read_text(), within_s=40, why="the blocked worker is noticed")
    wait_all_ready(hub)
    assert len(set(pids) - set(workers_of(hub))) == 1
    clients[0].wait_ready(2)
    hub.publish("orders:1", "updated", 1)
    for client in clients:
        client.wait(lambda client: client.data("orders:1") == [1], why="the publication", within_s=40)


def test_worker_that_always_crashes_backs_off_while_the_others_serve(hub: HubProcess) -> None:
    hub.environment["CRASHES"] = "1"
    hub.start()
    wait_until(lambda: readiness(hub) == (200, {"w-0": True, "w-1": False}), why="the other worker serves")
    pattern = r"node w-1 ended with 3; restarting it in (\S+) s"
    wait_until(lambda: len(re.findall(pattern, hub.log.read_text())) >= 4, within_s=60, why="several restarts")
    waits_s = [float(wait_s) for wait_s in re.findall(pattern, hub.log.read_text())]
    assert waits_s == sorted(waits_s)
    assert waits_s[3] > 4 * waits_s[0]
    hub.publish("orders:1", "updated", 1)


def test_worker_that_starts_misses_no_reload(hub: HubProcess, tmp_path: Path) -> None:
    hub.environment["WAITS"] = "1"
    pids = start(hub)
    os.kill(pids[0], signal.SIGKILL)
    starting = tmp_path / "starting"
    wait_until(starting.exists, why="the new worker has loaded the settings, and imports its module")
    hub.config.write_text(hub.config.read_text().replace(API_KEY, "another-key-0123456789"))
    hub.reload()
    removed, added = API_KEY, "another-key-0123456789"

    def statuses(key: str) -> set[int]:
        """The kernel chooses the worker of each request."""
        return {hub.request("GET", "/api/nodes", headers={"Authorization": f"Bearer {key}"})[0] for _ in range(20)}

    wait_until(lambda: statuses(added) == {200}, why="the other worker has reloaded")
    starting.unlink()
    wait_all_ready(hub)
    wait_until(lambda: statuses(added) == {200}, why="both workers have the new key")
    assert statuses(removed) == {401}


def test_machine_that_stands_still_loses_no_worker(hub: HubProcess) -> None:
    """As for a snapshot of a virtual machine, for almost as long as a worker may be silent."""
    pids = start(hub)
    for pid in (hub.pid, *pids):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3.9)
    for pid in (hub.pid, *pids):
        os.kill(pid, signal.SIGCONT)
    wait_all_ready(hub)
    time.sleep(1)
    assert workers_of(hub) == pids
    assert "hangs" not in hub.log.read_text()


def test_stopped_supervisor_kills_no_worker_when_it_continues(hub: HubProcess) -> None:
    pids = start(hub)
    hub.pause()
    time.sleep(6)
    assert readiness(hub) is not None
    hub.resume()
    time.sleep(1)
    assert workers_of(hub) == pids
    assert "hangs" not in hub.log.read_text()
