"""`/readyz` of a node whose broker rejects every publication, serves only a part, or may delete what it stores."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.cluster import ClusterProcess
from support.processes.hub import API_KEY, CONFIG, SECRET, HubProcess, environment, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.redis_client.buckets import bucket_of
from tidings.redis_client.topology import open_buckets

PASSWORD = "a84f2c19be6d07353c1e9f4b"
RIGHTS = f"on >{PASSWORD} ~tidings:* &tidings:* -@all +@read +@write +@connection +@transaction +@scripting +@pubsub"
RIGHTS += " -@dangerous +info +time"

# For each fault: the command that begins it, the command that ends it, and the cause that Redis gives.
FAULTS = {
    "out of memory": ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "maxmemory"),
    "too few replicas": ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"),
    "a replica": (f"REPLICAOF 127.0.0.1 {free_port()}", "REPLICAOF NO ONE", "replica|READONLY"),
    "scripts forbidden": ("ACL SETUSER hub -evalsha", "ACL SETUSER hub +evalsha", "NOPERM|permission"),
    "publishing forbidden": ("ACL SETUSER hub -publish", "ACL SETUSER hub +publish", "user executing the script"),
    "streams forbidden": ("ACL SETUSER hub -xadd", "ACL SETUSER hub +xadd", "user executing the script"),
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    with process.client() as client:
        client.execute_command(f"ACL SETUSER hub {RIGHTS}")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def hub(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    url = f"redis://hub:{PASSWORD}@127.0.0.1:{redis.port}/0"
    process = HubProcess(tmp_path_factory.mktemp("hub"), "--broker", url).start()
    yield process
    process.stop()


def readiness(hub: HubProcess) -> tuple[int, dict[str, Any]]:
    status, body, _ = hub.get("/readyz")
    return status, body["checks"]


def wait_status(hub: HubProcess, status: int) -> dict[str, Any]:
    """Wait for a status of `/readyz`; return the checks."""
    wait_until(lambda: readiness(hub)[0] == status, within_s=30, why=f"/readyz answers {status}")
    return readiness(hub)[1]


@pytest.mark.parametrize("fault", FAULTS)
def test_node_is_not_ready_while_redis_rejects_every_publication(
    redis: RedisProcess, hub: HubProcess, clients: list[ClientProcess], fault: str
) -> None:
    begin, end, cause = FAULTS[fault]
    wait_status(hub, 200)
    client = ClientProcess("js-websocket", hub.url, token=token("u", "orders:*"), channels=["orders:1"])
    clients.append(client)
    client.wait_ready()
    failed = hub.metric("tidings_canaries_lost_total")
    with redis.client() as administrator:
        administrator.execute_command(begin)
        try:
            checks = wait_status(hub, 503)
            assert checks["canary"] is False
            assert re.search(cause, checks["canary_error"], re.IGNORECASE), checks
            assert PASSWORD not in str(checks)
            assert hub.metric("tidings_canaries_lost_total") > failed
            assert hub.get("/healthz")[0] == 200
        finally:
            administrator.execute_command(end)
    assert "canary_error" not in wait_status(hub, 200)
    # Clients stay connected, and publishing works again.
    hub.publish("orders:1", "updated", 1)
    client.wait(lambda client: client.data("orders:1") == [1], why="the publication")
    assert client.records_of("disconnect") == []


@pytest.mark.parametrize("right", ["xrange", "xrevrange"])
def test_node_is_not_ready_while_redis_returns_no_history(redis: RedisProcess, hub: HubProcess, right: str) -> None:
    """Publishing works, but each client that returns would have to reload, without end and without a cause."""
    wait_status(hub, 200)
    with redis.client() as administrator:
        administrator.execute_command(f"ACL SETUSER hub -{right}")
        try:
            checks = wait_status(hub, 503)
            assert "XRANGE" in checks["canary_error"], checks
            hub.publish("orders:1", "updated", 1)
        finally:
            administrator.execute_command(f"ACL SETUSER hub +{right}")
    wait_status(hub, 200)


def test_node_is_not_ready_while_redis_rejects_every_lookup(redis: RedisProcess, hub: HubProcess) -> None:
    wait_status(hub, 200)
    with redis.client() as client:
        client.set("tidings:{0}:doubts", "not a hash")
        try:
            assert "WRONGTYPE" in wait_status(hub, 503)["canary_error"]
        finally:
            client.delete("tidings:{0}:doubts")
    wait_status(hub, 200)


def test_rules_that_redis_lost_are_written_again(redis: RedisProcess, hub: HubProcess) -> None:
    wait_status(hub, 200)
    with redis.client() as client:
        client.delete("tidings:{0}:rules")
        wait_until(lambda: client.exists("tidings:{0}:rules"), within_s=30, why="the rules")
    hub.publish("orders:1", "updated", 1)


def test_reloaded_rules_that_redis_did_not_take_are_written_later(redis: RedisProcess, hub: HubProcess) -> None:
    wait_status(hub, 200)
    settings, reloads = hub.config.read_text(), hub.metric("tidings_reloads_total")
    hub.config.write_text(settings.replace("history = 1000\n", "history = 77\n"))
    with redis.client() as client:
        stored = client.hget("tidings:{0}:rules", "orders")
        assert stored is not None
        assert stored.startswith(b"1000 ")
        client.execute_command("ACL SETUSER hub -del -hset")
        try:
            hub.reload()
            wait_until(lambda: hub.metric("tidings_reloads_total") == reloads + 1, why="the rules are in force")
            assert client.hget("tidings:{0}:rules", "orders") == stored
        finally:
            client.execute_command("ACL SETUSER hub +del +hset")
        wait_until(lambda: client.hget("tidings:{0}:rules", "orders").startswith(b"77 "), why="Redis has the rules")
    assert hub.metric("tidings_reload_errors_total") == 0


def test_canaries_use_bounded_memory_that_expires(redis: RedisProcess, hub: HubProcess) -> None:
    before = hub.metric("tidings_canaries_total")
    wait_until(lambda: hub.metric("tidings_canaries_total") > before + 2, within_s=30, why="canaries")
    with redis.client() as client:
        keys = client.keys("*canary:*")
        assert 0 < len(keys) <= 2
        assert all(client.ttl(key) > 0 for key in keys)
        stream = next(key for key in keys if client.type(key) == b"stream")
        assert client.ttl(stream) <= 60


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_eviction_policy_is_reported(tmp_path: Path, policy: str) -> None:
    redis = RedisProcess(tmp_path / "redis", "--maxmemory-policy", policy)
    redis.folder.mkdir()
    redis.start()
    hub = HubProcess(tmp_path, "--broker", redis.url)
    try:
        hub.start()
        is_evicting = policy != "noeviction"
        wait_until(lambda: ("eviction" in readiness(hub)[1]) is is_evicting, why="the policy was read")
        assert readiness(hub)[0] == 200
        assert hub.metric("tidings_broker_evicts") == is_evicting
        assert (f"maxmemory-policy {policy}" in hub.log.read_text()) is is_evicting
        command = [sys.executable, "-m", "tidings_hub", "doctor", "--url", hub.url]
        env = environment() | {"TIDINGS_API_KEY": API_KEY, "TIDINGS_SECRET": SECRET}
        result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (f"FAIL  Redis has maxmemory-policy {policy}" in result.stdout) is is_evicting, result.stdout
        assert result.returncode == is_evicting
    finally:
        hub.stop()
        redis.stop()


def test_one_bucket_away_leaves_the_node_ready(tmp_path: Path) -> None:
    for name in ("cluster", "hub"):
        (tmp_path / name).mkdir()
    cluster = ClusterProcess(tmp_path / "cluster", replicas=False).start()
    # Far less than broker_timeout_s, so that a canary that takes more than its own time is noticed.
    config = CONFIG.replace("canary_timeout_s = 2.0", "canary_timeout_s = 1.0")
    hub = HubProcess(tmp_path / "hub", "--broker", cluster.url(), config=config)
    try:
        hub.start()
        buckets = open_buckets(cluster.url(), "tidings:")
        owners = [cluster.owner(bucket.address.slot) for bucket in buckets]
        frozen = owners[3]
        statuses: list[int] = []
        canaries = hub.metric("tidings_canaries_total")
        frozen.pause()
        try:
            frozen_parts = {f"bucket {n}" for n, owner in enumerate(owners) if owner is frozen}

            def away() -> set[str]:
                status, checks = readiness(hub)
                statuses.append(status)
                return {name for name, state in checks["parts"].items() if state != "served"}

            # Other parts can be late for a moment while the client of the cluster finds out what is away.
            wait_until(lambda: away() == frozen_parts, within_s=30, why="only the parts of the frozen master are away")
            # The gauge follows with the next canary.
            wait_until(
                lambda: away() == frozen_parts and hub.metric("tidings_broker_parts_unserved") == len(frozen_parts),
                within_s=30,
                why="the gauge",
            )
            wait_until(
                lambda: away() == frozen_parts and hub.metric("tidings_canaries_total") > canaries + 2,
                within_s=30,
                why="canaries of the others",
            )
            # The canaries of the frozen master have held up no canary of the others for too long.
            assert set(statuses) == {200}
            status, checks = readiness(hub)
            assert status == 200
            assert all(checks["parts"].values())
            served = next(f"orders:{n}" for n in range(99) if owners[bucket_of(f"orders:{n}", 4)] is not frozen)
            hub.publish(served, "updated", 1)
            for node in cluster.nodes:
                node.pause()
            assert "served" not in wait_status(hub, 503)["parts"].values()
        finally:
            for node in cluster.nodes:
                node.resume()
        wait_status(hub, 200)
        wait_until(lambda: hub.metric("tidings_broker_parts_unserved") == 0, within_s=60, why="all parts are served")
    finally:
        hub.stop()
        cluster.stop()


def test_address_at_which_nobody_listens_is_reported(shared_redis: RedisProcess, prefix: str, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = f'prefix = "{prefix}"\nadvertise = "{address}"\n'
    hub = HubProcess(tmp_path, "--broker", shared_redis.url, extra=settings).start()
    try:
        wait_until(lambda: "advertise" in hub.get("/readyz")[1]["checks"], why="the check of the address")
        status, body, _ = hub.get("/readyz")
        assert status == 200, "the node can serve; other nodes cannot reach it"
        assert body["checks"]["advertise"].startswith(f"nothing accepts connections at {address}")
        assert f"nothing accepts connections at {address}" in hub.log.read_text()
    finally:
        hub.stop()


def test_address_of_the_node_itself_is_reachable(shared_redis: RedisProcess, prefix: str, tmp_path: Path) -> None:
    port = free_port()
    settings = f'prefix = "{prefix}"\nadvertise = "127.0.0.1:{port}"\n'
    hub = HubProcess(tmp_path, "--broker", shared_redis.url, extra=settings)
    hub.port = port
    hub.start()
    try:
        wait_until(lambda: hub.metric("tidings_canaries_total") > 1, why="the checks have run")
        assert "advertise" not in hub.get("/readyz")[1]["checks"]
    finally:
        hub.stop()


def test_address_of_another_node_is_reported(shared_redis: RedisProcess, prefix: str, tmp_path: Path) -> None:
    """Two nodes with one configuration: each has the address of the first."""
    port = free_port()
    settings = f'prefix = "{prefix}"\nadvertise = "127.0.0.1:{port}"\n'
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    first, second = (HubProcess(folder, "--broker", shared_redis.url, extra=settings) for folder in folders)
    first.port = port
    try:
        first.start()
        second.start()
        wait_until(lambda: "advertise" in second.get("/readyz")[1]["checks"], why="the check of the address")
        report = f"another server responds at 127.0.0.1:{port}"
        assert second.get("/readyz")[1]["checks"]["advertise"].startswith(report)
        assert report in second.log.read_text()
        wait_until(lambda: first.metric("tidings_canaries_total") > 1, why="the checks have run")
        assert "advertise" not in first.get("/readyz")[1]["checks"]
    finally:
        second.stop()
        first.stop()
