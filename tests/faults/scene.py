"""Redis, hub nodes behind nginx, clients and backends: all processes of their own, and the history that they write."""

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
from support.network.proxy import Proxy
from support.processes.cluster import ClusterProcess
from support.processes.hub import API_KEY, ROOT, SECRET, HubProcess, environment
from support.processes.redis import RedisProcess
from support.processes.sentinels import SentinelGroup
from support.waiting import wait_until

# Longer than anything should take, on a machine that is busy with other things.
SETTLED_S = 90.0
_MARK_AGAIN_S = 8.0
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
    """A process that prints its state as lines of JSON; `state` is what it said last."""

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
        """Its process id."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.state = {**self.state, **json.loads(line)}

    def say(self, line: str) -> None:
        """One line on its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def finish(self) -> None:
        """Close its input and wait until it has ended."""
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
    """What a fault needs of the scene.

    `proxied`: a proxy between each node and Redis.
    `sentinel`: a replica, and sentinels that decide. `cluster`: a Redis Cluster instead of one Redis. `clocks`: clocks
    of Redis and the first node that can be made to jump.
    """

    proxied: bool = False
    redis_options: tuple[str, ...] = ()
    sentinel: bool = False
    cluster: bool = False
    clocks: bool = False


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    problems: list[str]
    figures: Figures
    acked: int
    refused: int
    duplicates: int
    load_s: float
    cpu_s: dict[str, float] = field(default_factory=dict)


class Scene:
    """Everything that one fault is done to. `folder` is empty and belongs to it."""

    def __init__(self, folder: Path, load: Load, setting: Setting | None = None) -> None:
        self.folder = folder
        self.load = load
        self.setting = setting or Setting()
        self.proxies: list[Proxy] = []
        self.nodes: list[HubProcess] = []
        self.clients: list[Program] = []
        self.clocks = {name: Clock(folder / f"{name}.clock") for name in CLOCKS} if self.setting.clocks else {}
        program = self.clocks["redis"].program("redis-server") if self.clocks else ("redis-server",)
        self.redis = RedisProcess(self._sub("redis"), *self.setting.redis_options, program=program)
        self.guarded: SentinelGroup | None = None
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
            self.guarded = SentinelGroup(self._sub("guarded"))
            self.redis = self.guarded.redises[0]
        elif self.setting.cluster:
            self.cluster = ClusterProcess(self._sub("cluster"))
            self.redis = self.cluster.start().nodes[0]
        else:
            self.redis.start()
        for number, name in enumerate(NODES):
            broker = self.broker
            if self.setting.proxied:
                self.proxies.append(Proxy(self.redis.port))
                broker = self.proxies[-1].url
            node = HubProcess(self._sub(name), "--broker", broker, "--node-id", name, config=_HUB + CONFIG)
            if self.clocks and number == 0:
                node.environment = self.clocks["node"].environment()
            self.nodes.append(node.start())
        ports = {name: node.port for name, node in zip(NODES, self.nodes, strict=True)}
        self.nginx = Nginx(self._sub("nginx"), ports).start()
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
        self.backends.say("start")
        wait_until(lambda: self.state("acked") > 0, why="the backends publish")

    @property
    def broker(self) -> str:
        """Where the backends publish, and the nodes listen if nothing is between."""
        if self.cluster is not None:
            return self.cluster.url()
        return self.guarded.url if self.guarded else self.redis.url

    def count(self, name: str) -> int:
        """The sum over all clients."""
        return sum(int(process.state.get(name, 0)) for process in self.clients)

    def state(self, name: str) -> int:
        """What the backends say."""
        return int(self.backends.state.get(name, 0))

    def last(self, full_s: float) -> None:
        """Let the load go on for so long, in a short run for a part of it."""
        time.sleep(full_s * self.load.length)

    def flows(self) -> None:
        """Wait until publications are acknowledged and arrive again."""
        acked, got = self.state("acked"), self.count("got")
        wait_until(
            lambda: self.state("acked") > acked and self.count("got") > got + self.load.clients,
            within_s=SETTLED_S,
            why="publications flow",
        )

    def all_ready(self) -> None:
        """Wait until every node is ready."""
        for node in self.nodes:
            wait_until(lambda node=node: node.get("/readyz")[0] == 200, within_s=SETTLED_S, why="the node is ready")

    def all_back(self) -> None:
        """Wait until every client is connected."""
        wait_until(lambda: self.count("ready") == self.load.clients, within_s=SETTLED_S, why="all clients are back")

    def pause(self, node: HubProcess) -> None:
        """SIGSTOP."""
        os.kill(node.pid, signal.SIGSTOP)

    def resume(self, node: HubProcess) -> None:
        """SIGCONT."""
        os.kill(node.pid, signal.SIGCONT)

    def settle(self) -> Outcome:
        """End the load, wait until everybody has the last publications, and hold the history against the promise."""
        after = self._cpu()
        load_s = time.monotonic() - self._began_s
        self.backends.say("stop")
        wait_until(lambda: self.backends.state.get("stopped"), within_s=SETTLED_S, why="the backends stop")
        spent = {
            name: after[name][1] - used_s
            for name, (pids, used_s) in self._cpu_before.items()
            if name in after and after[name][0] == pids
        }
        unsettled = self._mark()
        for process in [self.backends, *self.clients]:
            process.finish()
        figures = Figures()
        problems = Checker(figures.watch(lines_of(*self.files)), is_complete=True).problems()
        problems += unsettled + figures.refused
        if self.count("gone"):
            problems.append(f"{self.count('gone')} clients were told not to come back")
        return Outcome(
            problems, figures, self.state("acked"), self.state("refused"), self.state("duplicates"), load_s, spent
        )

    def _mark(self) -> list[str]:
        """Who was told of a gap just now may not get a mark that came before: then there is another."""
        end_s = time.monotonic() + SETTLED_S
        number = 0
        while time.monotonic() < end_s:
            number += 1
            self.backends.say("mark")
            again_s = time.monotonic() + _MARK_AGAIN_S
            while time.monotonic() < again_s or self.state("mark") < number:
                if self.count("marked") == self.load.clients:
                    return []
                time.sleep(0.05)
        return [f"{self.load.clients - self.count('marked')} clients never got the last publications"]

    def _cpu(self) -> dict[str, tuple[list[int], float]]:
        """The processes of each kind, and their CPU seconds so far."""
        pids = {f"node {number + 1}": [node.pid] for number, node in enumerate(self.nodes)}
        pids["backends"] = [self.backends.pid]
        pids["clients"] = [process.pid for process in self.clients]
        pids["nginx"] = self.nginx.pids()
        pids["redis"] = [process.pid for process in (self.cluster.nodes if self.cluster else [self.redis])]
        return {
            name: (group, sum(cpu_s(pid) for pid in group))
            for name, group in pids.items()
            if all(Path(f"/proc/{pid}").exists() for pid in group)
        }

    def close(self) -> None:
        """End everything. Idempotent."""
        for process in [*([self.backends] if hasattr(self, "backends") else []), *self.clients]:
            process.finish()
        if hasattr(self, "nginx"):
            self.nginx.stop()
        for node in self.nodes:
            node.stop()
        for proxy in self.proxies:
            proxy.close()
        if self.guarded is not None:
            self.guarded.stop()
        if self.cluster is not None:
            self.cluster.stop()
        self.redis.stop()
