"""Redis, hub nodes behind nginx, clients and backends: separate processes, and the history that they write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import cpu_s
from faults.clock import Clock
from faults.figures import Figures
from faults.load import CONFIG, Load
from faults.sticky import Nginx
from support.history import Checker, lines_of
from support.network.issuer import ISSUER, publishing
from support.network.proxy import Proxy
from support.processes.cluster import ClusterProcess
from support.processes.hub import API_KEY, ROOT, SECRET, HubProcess, environment
from support.processes.redis import RedisProcess
from support.processes.sentinels import SentinelGroup
from support.waiting import wait_until

# Longer than every step takes, also on a busy machine.
SETTLED_S = 90.0
_MARK_INTERVAL_S = 8.0
NODES = ("one-", "two-")
CLOCKS = ("redis", "node")
_HUB = f"""
secret = "{SECRET}"
api_keys = ["{API_KEY}"]
canary_interval_s = 0.5
canary_timeout_s = 2.0
position_check_s = 1.0
ping_interval_s = 5.0
ping_timeout_s = 4.0
drain_s = 3.0
trusted_proxies = ["127.0.0.0/8"]
"""


class Program:
    """A process that prints its state as lines of JSON; `state` has the latest values."""

    def __init__(self, module: str, options: dict[str, Any]) -> None:
        env = environment()
        env["PYTHONPATH"] += f":{ROOT / 'tests'}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )
        self.state: dict[str, Any] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.state = {**self.state, **json.loads(line)}

    def send_line(self, line: str) -> None:
        """Write one line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def finish(self) -> None:
        """Close its stdin and wait until it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
        if not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Setting:
    """What a fault requires of the scene.

    Attributes:
        proxied: A proxy between each node and Redis.
        sentinel: A replica, and sentinels that decide on a fail-over.
        cluster: A Redis Cluster instead of one Redis.
        clocks: Wall clocks of Redis and of the first node that a test can set.
        issuer: An issuer whose key set the nodes fetch, with the key `k1`.
        loses_responses: A proxy between nginx and each node.
        node_options: More settings of the nodes, as TOML. `{room}` is room for the sessions of all
            clients, and for those that a client began and gave up: they end with their ping timeout.
    """

    proxied: bool = False
    redis_options: tuple[str, ...] = ()
    sentinel: bool = False
    cluster: bool = False
    clocks: bool = False
    issuer: bool = False
    loses_responses: bool = False
    node_options: str = ""


@dataclass(slots=True)
class Outcome:
    """The result of one run."""

    problems: list[str]
    figures: Figures
    acked: int
    refused: int
    duplicates: int
    load_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)


class Scene:
    """All processes that one fault is injected into. `folder` must be empty."""

    def __init__(self, folder: Path, load: Load, setting: Setting | None = None) -> None:
        self.folder = folder
        self.load = load
        self.setting = setting or Setting()
        self.proxies: list[Proxy] = []
        self.http_proxies: list[Proxy] = []
        self.nodes: list[HubProcess] = []
        self.clients: list[Program] = []
        self.clocks = {name: Clock(folder / f"{name}.clock") for name in CLOCKS} if self.setting.clocks else {}
        program = self.clocks["redis"].program("redis-server") if self.clocks else ("redis-server",)
        self.redis = RedisProcess(self._sub("redis"), *self.setting.redis_options, program=program)
        self.issuer = publishing("k1")
        self.sentinels: SentinelGroup | None = None
        self.cluster: ClusterProcess | None = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _sub(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir()
        return path

    def _start(self) -> None:
        if self.setting.sentinel:
            self.sentinels = SentinelGroup(self._sub("guarded"))
            self.redis = self.sentinels.redises[0]
        elif self.setting.cluster:
            self.cluster = ClusterProcess(self._sub("cluster"))
            self.redis = self.cluster.start().nodes[0]
        else:
            self.redis.start()
        config = _HUB + self.setting.node_options.replace("{room}", str(self.load.clients * 5 // 4)) + CONFIG
        if self.setting.issuer:
            self.issuer.start()
            config += f'[[jwks]]\nissuer = "{ISSUER}"\nurl = "{self.issuer.url}/jwks"\ncache_s = 30\n'
        for number, name in enumerate(NODES):
            broker = self.broker
            if self.setting.proxied:
                self.proxies.append(Proxy(self.redis.port))
                broker = self.proxies[-1].url
            node = HubProcess(self._sub(name), "--broker", broker, "--node-id", name, config=config)
            if self.clocks and number == 0:
                node.environment = self.clocks["node"].environment()
            self.nodes.append(node.start())
        ports = [node.port for node in self.nodes]
        if self.setting.loses_responses:
            self.http_proxies = [Proxy(port, plain=True) for port in ports]
            ports = [proxy.port for proxy in self.http_proxies]
        self.nginx = Nginx(self._sub("nginx"), dict(zip(NODES, ports, strict=True))).start()
        options = {"load": self.load.as_options(), "port": self.nginx.port, "broker": self.broker}
        self.files = [self.folder / "backends.jsonl"]
        self.backends = Program("faults.backends", {**options, "file": str(self.files[0])})
        for process in range(self.load.processes):
            file = self.folder / f"clients-{process}.jsonl"
            self.files.append(file)
            self.clients.append(Program("faults.clients", {**options, "process": process, "file": str(file)}))
        wait_until(lambda: self.count("ready") == self.load.clients, within_s=SETTLED_S, why="all clients are ready")
        self._cpu_before = self._cpu()
        self._began_s = time.monotonic()
        self.backends.send_line("start")
        wait_until(lambda: self.state("acked") > 0, why="the backends publish")

    @property
    def broker(self) -> str:
        """The URL for the backends, and for the nodes unless they have a proxy."""
        if self.cluster is not None:
            return self.cluster.url()
        return self.sentinels.url if self.sentinels else self.redis.url

    def count(self, name: str) -> int:
        """A counter of the clients, as the sum over all processes."""
        return sum(int(clients.state.get(name, 0)) for clients in self.clients)

    def state(self, name: str) -> int:
        """A counter of the backends."""
        return int(self.backends.state.get(name, 0))

    def run_load(self, full_s: float) -> None:
        """Let the load run for `full_s`, or for a part of it in a short run."""
        time.sleep(full_s * self.load.length)

    def wait_for_deliveries(self) -> None:
        """Wait until new publications have been acknowledged and delivered."""
        acked, received = self.state("acked"), self.count("received")
        wait_until(
            lambda: self.state("acked") > acked and self.count("received") > received + self.load.clients,
            within_s=SETTLED_S,
            why="clients receive new publications",
        )

    def wait_for_nodes(self) -> None:
        """Wait until every node is ready."""
        for node in self.nodes:
            wait_until(lambda node=node: node.get("/readyz")[0] == 200, within_s=SETTLED_S, why="the node is ready")

    def wait_for_clients(self) -> None:
        """Wait until every client is connected."""
        wait_until(
            lambda: self.count("ready") == self.load.clients, within_s=SETTLED_S, why="all clients are connected"
        )

    def pause(self, node: HubProcess) -> None:
        """Send SIGSTOP."""
        os.kill(node.pid, signal.SIGSTOP)

    def resume(self, node: HubProcess) -> None:
        """Send SIGCONT."""
        os.kill(node.pid, signal.SIGCONT)

    def finish(self) -> Outcome:
        """Stop the load, wait until all clients have the last publications, and check the history."""
        after = self._cpu()
        load_s = time.monotonic() - self._began_s
        self.backends.send_line("stop")
        wait_until(lambda: self.backends.state.get("stopped"), within_s=SETTLED_S, why="the backends stop")
        spent = {
            name: after[name][1] - used_s
            for name, (pids, used_s) in self._cpu_before.items()
            if name in after and after[name][0] == pids
        }
        unmarked = self._mark()
        for program in [self.backends, *self.clients]:
            program.finish()
        figures = Figures()
        problems = Checker(figures.watch(lines_of(*self.files)), is_complete=True).problems()
        problems += unmarked + figures.refused
        if self.count("gone"):
            problems.append(f"{self.count('gone')} clients were not allowed to reconnect")
        return Outcome(
            problems, figures, self.state("acked"), self.state("refused"), self.state("duplicates"), load_s, spent
        )

    def _mark(self) -> list[str]:
        """Publish marks until every client has one in each channel.

        A client that has just received a gap may miss the current mark, so there are several.
        """
        end_s = time.monotonic() + SETTLED_S
        number = 0
        while time.monotonic() < end_s:
            number += 1
            self.backends.send_line("mark")
            next_mark_s = time.monotonic() + _MARK_INTERVAL_S
            while time.monotonic() < next_mark_s or self.state("mark") < number:
                if self.count("marked") == self.load.clients:
                    return []
                time.sleep(0.05)
        return [f"{self.load.clients - self.count('marked')} clients did not receive the last publications"]

    def _cpu(self) -> dict[str, tuple[list[int], float]]:
        """The processes of each kind, and their CPU seconds so far."""
        pids = {f"node {number + 1}": [node.pid] for number, node in enumerate(self.nodes)}
        pids["backends"] = [self.backends.pid]
        pids["clients"] = [program.pid for program in self.clients]
        pids["nginx"] = self.nginx.pids()
        pids["redis"] = [redis.pid for redis in (self.cluster.nodes if self.cluster else [self.redis])]
        return {
            name: (ids, sum(cpu_s(pid) for pid in ids))
            for name, ids in pids.items()
            if all(Path(f"/proc/{pid}").exists() for pid in ids)
        }

    def close(self) -> None:
        """Stop everything. Idempotent."""
        for program in [*([self.backends] if hasattr(self, "backends") else []), *self.clients]:
            program.finish()
        if hasattr(self, "nginx"):
            self.nginx.stop()
        for node in self.nodes:
            node.stop()
        self.issuer.close()
        for proxy in (*self.proxies, *self.http_proxies):
            proxy.close()
        if self.sentinels is not None:
            self.sentinels.stop()
        if self.cluster is not None:
            self.cluster.stop()
        self.redis.stop()
