"""Revocations outlive what stores them: Redis restarts empty, nodes restart, a disk is full."""

from __future__ import annotations

import http.client
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.nodes.test_workers import end, is_running, workers_of
from support.network.proxy import Proxy
from support.processes.client import ClientProcess
from support.processes.hub import HubProcess, environment, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter
from tidings.redis_client.keys import RedisKeys

REVOKED = RedisKeys().revoked
StartHub = Callable[..., HubProcess]


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[StartHub]:
    hubs: list[HubProcess] = []

    def start(name: str, *flags: str, extra: str = "") -> HubProcess:
        folder = tmp_path / name
        folder.mkdir()
        hubs.append(HubProcess(folder, "--node-id", name, *flags, extra=extra))
        return hubs[-1].start()

    yield start
    for hub in hubs:
        hub.stop()
    assert not [hub for hub in hubs if "Traceback" in hub.log.read_text()]


def outcome(hub: HubProcess, user: str, clients: list[ClientProcess]) -> str:
    """The code that the user's CONNECT is rejected with; `ready`: it is accepted."""
    client = ClientProcess("js-websocket", hub.url, token=token(user, "chat:*"), channels=["chat:x"])
    clients.append(client)
    client.wait(lambda client: client.records_of("ready") or client.records_of("connect_error"), why="an answer")
    errors = client.records_of("connect_error")
    return str(errors[0]["data"]["code"]) if errors else "ready"


def test_revocation_outlives_an_empty_redis_and_a_restarted_node(
    redis: RedisProcess, start_hub: StartHub, clients: list[ClientProcess]
) -> None:
    first, second = (start_hub(name, "--broker", redis.url) for name in ("one", "two"))
    with Emitter(redis.url, timeout_s=20) as emitter:
        assert emitter.revoke(user="7", for_s=3600).nodes == 2
    redis.restart(None)
    second.kill()
    second.start()
    wait_until(lambda: first.metric("tidings_revocations_restored_total") >= 1, why="the first node writes it back")
    with redis.client() as client:
        assert [float(end) > time.time() + 3000 for end in client.hvals(REVOKED)] == [True]
    wait_until(lambda: second.metric("tidings_revocations") == 1, why="the second node has read it")
    assert [outcome(hub, "7", clients) for hub in (first, second)] == ["revoked", "revoked"]
    assert outcome(second, "8", clients) == "ready"


def test_revocation_that_vanishes_from_a_running_redis_is_written_back(
    redis: RedisProcess, start_hub: StartHub
) -> None:
    start_hub("one", "--broker", redis.url)
    with Emitter(redis.url, timeout_s=20) as emitter, redis.client() as client:
        emitter.revoke(jti="x", for_s=3600)
        for lose in (lambda: client.delete(REVOKED), client.flushall):
            lose()
            wait_until(lambda: client.hlen(REVOKED) == 1, why="the node writes it back")


def test_file_remembers_when_redis_and_all_nodes_have_forgotten(
    redis: RedisProcess, start_hub: StartHub, clients: list[ClientProcess], tmp_path: Path
) -> None:
    # Two nodes of one machine share the file.
    extra = f'revocations_file = "{tmp_path / "revocations"}"\n'
    hubs = [start_hub(name, "--broker", redis.url, extra=extra) for name in ("one", "two")]
    with Emitter(redis.url, timeout_s=20) as emitter:
        assert emitter.revoke(user="7", for_s=3600).nodes == 2
    for hub in hubs:
        hub.kill()
    redis.restart(None)
    for hub in hubs:
        hub.start()
    assert [outcome(hub, "7", clients) for hub in hubs] == ["revoked", "revoked"]
    with redis.client() as client:
        wait_until(lambda: client.hlen(REVOKED) == 1, why="it is in Redis again")


def test_single_node_without_redis_remembers_with_a_file(
    start_hub: StartHub, clients: list[ClientProcess], tmp_path: Path
) -> None:
    hub = start_hub("one", extra=f'revocations_file = "{tmp_path / "revocations"}"\n')
    status, answer, _ = hub.request("POST", "/api/revocations", {"user": "7", "for_s": 3600})
    assert (status, answer["nodes"]) == (201, 1)
    hub.kill()
    hub.start()
    assert [outcome(hub, user, clients) for user in ("7", "8")] == ["revoked", "ready"]


def test_file_that_was_deleted_is_written_again(
    redis: RedisProcess, start_hub: StartHub, clients: list[ClientProcess], tmp_path: Path
) -> None:
    path = tmp_path / "revocations"
    hub = start_hub("one", "--broker", redis.url, extra=f'revocations_file = "{path}"\n')
    hub.request("POST", "/api/revocations", {"user": "7", "for_s": 3600})
    path.unlink()
    wait_until(lambda: path.exists() and '"user:7"' in path.read_text(), why="the node writes it again")
    wait_until(lambda: "was deleted or replaced" in hub.log.read_text(), why="the log says so")
    assert "do not fit" not in hub.log.read_text()
    hub.kill()
    redis.restart(None)
    hub.start()
    assert outcome(hub, "7", clients) == "revoked"


def test_node_that_starts_without_redis_lets_nobody_in(redis: RedisProcess, tmp_path: Path) -> None:
    bearer = {"Authorization": f"Bearer {token('7', 'chat:*')}"}
    redis.kill()
    folder = tmp_path / "late"
    folder.mkdir()
    hub = HubProcess(folder, "--broker", redis.url).start(ready=False)
    try:
        status, body, _ = hub.get("/readyz")
        assert (status, body["checks"]["revocations"]) == (503, False)
        status, body, _ = hub.request("GET", "/sse?channels=chat:x", headers=bearer)
        assert (status, body["error"]["code"]) == (503, "unavailable")
        redis.start()
        with redis.client() as client:
            client.hset(REVOKED, "user:7", time.time() + 3600)
        wait_until(lambda: hub.get("/readyz")[0] == 200, why="the node is ready")
        wait_until(lambda: hub.metric("tidings_revocations") == 1, why="it has read the revocation")
        status, body, _ = hub.request("GET", "/sse?channels=chat:x", headers=bearer)
        assert (status, body["error"]["code"]) == (403, "revoked")
    finally:
        hub.stop()


def sse_status(hub: HubProcess) -> int:
    """The status of the response to a new SSE client."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=20)
    try:
        bearer = {"Authorization": f"Bearer {token('7', 'chat:*')}"}
        connection.request("GET", "/sse?channels=chat:x", headers=bearer)
        return connection.getresponse().status
    finally:
        connection.close()


def test_worker_that_starts_refuses_no_client(redis: RedisProcess, tmp_path: Path) -> None:
    proxy = Proxy(redis.port)
    # A worker needs several replies before it has read the revocations.
    proxy.delay_s = 0.1
    hub = HubProcess(tmp_path, "--node-id", "n", "--broker", proxy.url, "--workers", "2").start(ready=False)
    try:
        assert {sse_status(hub) for _ in range(4)} == {200}
        killed = workers_of(hub)[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_running(killed), why="its sockets are closed")
        statuses = set()
        while hub.log.read_text().count(" listens on ") < 3:
            statuses.add(sse_status(hub))
        assert statuses | {sse_status(hub) for _ in range(8)} == {200}
    finally:
        end(hub)
        proxy.close()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("content", ["something else\n", '{"tidings":"revocations","version":1}\n{"key":1}\n', None])
def test_unusable_file_stops_the_start(redis: RedisProcess, tmp_path: Path, workers: str, content: str | None) -> None:
    path = tmp_path / "revocations"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    config = tmp_path / "tidings.toml"
    config.write_text(f'secret = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"\nrevocations_file = "{path}"\n')
    program = subprocess.run(
        [
            *(sys.executable, "-m", "tidings_hub", "serve", "--port", "0", "--workers", workers),
            *("--config", str(config), "--broker", redis.url),
        ],
        capture_output=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    log = program.stderr.decode()
    assert program.returncode == 2, log
    assert f"revocations_file {path}" in log
    assert "Traceback" not in log


def test_revocation_holds_while_the_disk_is_full(
    start_hub: StartHub, clients: list[ClientProcess], tmp_path: Path
) -> None:
    path = tmp_path / "revocations"
    hub = start_hub("one", extra=f'revocations_file = "{path}"\n')
    hub.request("POST", "/api/revocations", {"user": "1", "for_s": 3600})
    before = path.read_text()
    resource.prlimit(hub.pid, resource.RLIMIT_FSIZE, (len(before), resource.RLIM_INFINITY))
    status, _, _ = hub.request("POST", "/api/revocations", {"user": "7", "for_s": 3600})
    assert status == 201
    assert outcome(hub, "7", clients) == "revoked"
    wait_until(lambda: hub.metric("tidings_revocations_file_errors_total") >= 1, why="the failure is counted")
    assert hub.metric("tidings_revocations_unsaved") == 1
    assert path.read_text() == before
    resource.prlimit(hub.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_until(lambda: '"user:7"' in path.read_text(), why="the write is repeated")
    wait_until(lambda: hub.metric("tidings_revocations_unsaved") == 0, why="nothing is unsaved")


def test_nodes_with_the_same_name_say_so(redis: RedisProcess, start_hub: StartHub) -> None:
    """Their replies count as one: a revocation is reported as complete although one of them has not replied."""
    both = [
        start_hub(folder, "--broker", redis.url, "--node-id", "shared", extra="node_record_s = 0.2\n")
        for folder in ("one", "two")
    ]
    other = start_hub("three", "--broker", redis.url, extra="node_record_s = 0.2\n")
    for hub, twin in (both, both[::-1]):
        complaint = f"another node, which listens on 127.0.0.1:{twin.port}, has the node_id shared as well"
        wait_until(lambda hub=hub, text=complaint: text in hub.log.read_text(), why="the node names its twin")
    assert "another node" not in other.log.read_text()
