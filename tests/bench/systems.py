"""The servers under test, behind one interface."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import jwt
import redis

from bench import machine
from bench.generator import Generator, Transport

_START_S = 20.0
_TOKEN_S = 7200
_PEERS = machine.HERE / "peers"
# The history of the benchmark's namespace: enough for the case `recover`.
HISTORY = 200


@dataclass(slots=True)
class Rig:
    """What all systems of one run share: a scratch folder, a Redis, the compiled programs, the secrets."""

    folder: Path
    load: Path
    floor: Path
    redis_url: str
    redis_pid: int
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    api_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def auth(self, clients: int, channels: Sequence[Sequence[str]]) -> Path:
        """Write a file with a CONNECT payload per client: a token (each client is another user) and its channels.

        Client i requests `channels[i % len(channels)]`. No client requests a pid: the SDK does not need one because it
        keeps a cursor, and the peers cannot recover sessions through Redis pub/sub.
        """
        path = self.folder / f"auth-{clients}-{abs(hash(tuple(map(tuple, channels))))}"
        if not path.exists():
            expires = int(time.time()) + _TOKEN_S
            with path.open("w") as file:
                for index in range(clients):
                    claims = {"sub": f"u{index}", "exp": expires, "channels": ["bench:*"]}
                    token = jwt.encode(claims, self.secret, algorithm="HS256")
                    payload = {"token": token, "channels": list(channels[index % len(channels)]), "pid": None}
                    file.write(json.dumps(payload, separators=(",", ":")) + "\n")
        return path

    def fifo(self) -> Path:
        """Create a named pipe for one round."""
        path = self.folder / f"fifo-{secrets.token_hex(4)}"
        os.mkfifo(path)
        return path


class System(ABC):
    """One kind of server; a context manager that runs one instance on the server's core."""

    name: ClassVar[str]
    ready_event: ClassVar[str] = ""
    clients_expected = 0

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.port = 0
        self.log = (rig.folder / f"{self.name}-{secrets.token_hex(3)}.log").open("w")
        self._processes: list[subprocess.Popen[str]] = []

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._processes[0].pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            machine.stop(process)
        self._processes.clear()
        self.log.close()

    def _spawn(self, *command: str, core: int) -> subprocess.Popen[str]:
        process = machine.spawn(command, core=core, log=self.log)
        self._processes.append(process)
        return process

    @abstractmethod
    def start(self) -> None:
        """Start the server, then its emitter; return when both are ready."""

    def settle(self) -> None:
        """Wait until the server has subscribed at Redis to the channels of its clients."""
        time.sleep(0.3)

    def emit(self, job: dict[str, Any]) -> None:
        """Send a job to the emitter process (peers/emit.py) and return immediately."""
        machine.send_line(self._processes[1], json.dumps(job))

    def emit_result(self) -> dict[str, Any]:
        """Wait for the emitter's last job and return its reply."""
        return machine.read_reply(self._processes[1])

    @property
    def emitter_pid(self) -> int | None:
        """Process id of the emitter, if it runs in a separate process."""
        return self._processes[1].pid if len(self._processes) > 1 else None

    def clients(
        self,
        count: int,
        channels: Sequence[Sequence[str]],
        *,
        transport: Transport = "websocket",
        sample: int = 1,
        sources: int = 0,
        keep_cursor: bool = False,
    ) -> Generator:
        """A generator with `count` clients of this server; see `Rig.auth` for `channels`."""
        return Generator(
            self.rig.load,
            self.port,
            count,
            self.rig.auth(count, channels),
            ready=self.ready_event,
            transport=transport,
            sample=sample,
            sources=sources,
            keep_cursor=keep_cursor,
        )


class Tidings(System):
    """The hub of this repository, with default settings and a namespace with history."""

    name = "tidings"
    ready_event = "tidings:ready"
    command = (sys.executable, "-m", "tidings_hub")
    # TOML in front of the namespaces.
    settings: str = ""

    def start(self) -> None:
        config = self.rig.folder / "tidings.toml"
        keys = f'secret = "{self.rig.secret}"\napi_keys = ["{self.rig.api_key}"]\ndrain_s = 0\n{self.settings}'
        config.write_text(f"{keys}\n[namespaces.bench]\nhistory = {HISTORY}\n")
        self.port = machine.free_port()
        arguments = ["--config", str(config), "--port", str(self.port), "--broker", self.rig.redis_url]
        server = self._spawn(*self.command, "serve", *arguments, core=machine.SERVER_CORE)
        deadline_s = time.monotonic() + _START_S
        while not self._is_ready():
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise machine.BenchError(f"tidings did not start: {_last_line(self.log.name)}")
            time.sleep(0.05)
        emitter = [sys.executable, str(_PEERS / "emit.py"), "tidings", self.rig.redis_url]
        machine.read_reply(self._spawn(*emitter, core=machine.LOAD_CORE))

    def _is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == http.client.OK
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the hub."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.rig.api_key}"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics whose only label is `node`, by name."""
        status, page = self.get("/metrics")
        if status != http.client.OK:
            raise machine.BenchError(f"/metrics returned status {status}")
        samples = re.findall(r'^(\w+)\{node="[^"]*"\} (\S+)', page, re.MULTILINE)
        return {name: float(value) for name, value in samples}


class FastCleanup(Tidings):
    """A hub that detects cut connections and leaves empty channels within seconds instead of a minute."""

    settings = "ping_interval_s = 3\nping_timeout_s = 2\nlinger_s = 1\n"


class ManyChannels(Tidings):
    """A hub whose clients may subscribe to as many new channels as they like."""

    settings = "new_channels_per_minute = 0\n"


class PythonSocketIO(System):
    """python-socketio with default settings, on eventlet, with its RedisManager."""

    name = "python-socketio"

    def start(self) -> None:
        script = [sys.executable, str(_PEERS / "socketio_server.py"), self.rig.redis_url, self.rig.secret]
        self.port = machine.read_reply(self._spawn(*script, core=machine.SERVER_CORE))["port"]
        emitter = [sys.executable, str(_PEERS / "emit.py"), "socketio", self.rig.redis_url]
        machine.read_reply(self._spawn(*emitter, core=machine.LOAD_CORE))

    def settle(self) -> None:
        """Wait for the subscription at Redis: python-socketio makes it after its first client has connected."""
        deadline_s = time.monotonic() + _START_S
        with redis.Redis.from_url(self.rig.redis_url) as client:
            while not client.pubsub_numsub("socketio")[0][1]:
                if time.monotonic() > deadline_s:
                    raise machine.BenchError("python-socketio did not subscribe")
                time.sleep(0.05)
        time.sleep(0.3)


class Node(System):
    """socket.io on Node with @socket.io/redis-adapter."""

    name = "node"

    def start(self) -> None:
        install_node_peers()
        script = ["node", str(_PEERS / "node_server.js"), self.rig.redis_url, self.rig.secret]
        self.port = machine.read_reply(self._spawn(*script, core=machine.SERVER_CORE))["port"]
        machine.read_reply(
            self._spawn("node", str(_PEERS / "node_emitter.js"), self.rig.redis_url, core=machine.LOAD_CORE)
        )


class Floor(System):
    """floor.c: prepared bytes, one write(2) per recipient and message. It generates its messages without Redis."""

    name = "floor"

    def start(self) -> None:
        server = self._spawn(str(self.rig.floor), str(self.clients_expected), core=machine.SERVER_CORE)
        self.port = machine.read_reply(server)["port"]

    def emit(self, job: dict[str, Any]) -> None:
        machine.send_line(self._processes[0], f"flat {len(job['order'])}")

    def emit_result(self) -> dict[str, Any]:
        return {}


SYSTEMS: dict[str, type[System]] = {kind.name: kind for kind in (Tidings, Node, PythonSocketIO, Floor)}


def _last_line(path: str) -> str:
    return (Path(path).read_text().strip().splitlines() or ["it printed nothing"])[-1]


def install_node_peers() -> None:
    """Install the npm packages of package-lock.json, unless they are installed.

    Raises:
        machine.BenchError: npm is not installed, or it failed.
    """
    if (machine.HERE / "node_modules").exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise machine.BenchError("the Node peer needs node and npm")
    completed = subprocess.run([npm, "ci"], cwd=machine.HERE, check=False, capture_output=True, text=True)
    if completed.returncode:
        raise machine.BenchError(f"npm ci failed: {completed.stderr[-500:]}")
