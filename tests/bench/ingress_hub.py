"""One node with all publishing APIs enabled, and an emitter process for each API."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine
from bench.systems import Rig, Tidings, install_node_peers
from support.processes.database import Postgresql
from support.processes.rabbit import RabbitProcess
from support.waiting import wait_until

_PEERS = machine.HERE / "peers"
_QUEUE = "bench"
_SETTINGS = """
[ingress.rabbit]
url = "{rabbit}"
[ingress.list]
url = "{list}"
[ingress.socketio_emitter]
[ingress.flask_socketio]
[ingress.pusher]
app_id = "42"
key = "bench"
secret = "{secret}"
prefixes = {{ "bench-" = "bench:" }}
"""


class DurablePostgresql(Postgresql):
    """PostgreSQL as in production: a commit is on disk."""

    fsync = "on"


@dataclass(frozen=True, slots=True)
class Servers:
    """URLs of the servers that backends publish through, besides Redis and the hub.

    `poll_s`: how often the relay polls a database that cannot notify it. PostgreSQL can.
    """

    rabbit: str
    database: str
    poll_s: float = 1.0


@contextmanager
def open_servers() -> Iterator[Servers]:
    """Start a RabbitMQ and a PostgreSQL, on the caller's core."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-ways-")))
        rabbit, database = RabbitProcess(folder / "rabbit"), DurablePostgresql()
        stack.callback(database.stop)
        database.start()
        stack.callback(rabbit.stop)
        rabbit.start()
        yield Servers(rabbit.url, database.url)


class IngressHub(Tidings):
    """A hub that accepts every ingress and compatibility format, and an outbox relay on the core of the load."""

    def __init__(self, rig: Rig, servers: Servers) -> None:
        super().__init__(rig)
        self.queues = {
            "rabbit": f"{servers.rabbit}?queue={_QUEUE}",
            "list": f"kombu+{rig.redis_url.removesuffix('/0')}/1?queue={_QUEUE}",
        }
        self._database, self._poll_s = servers.database, servers.poll_s
        self._secret = secrets.token_hex(16)
        self.settings = _SETTINGS.format(**self.queues, secret=self._secret)

    def start(self) -> None:
        super().start()
        relay = [*self.command, "outbox", self._database, "--to", self.rig.redis_url, "--create"]
        self._spawn(*relay, "--interval", str(self._poll_s), core=machine.LOAD_CORE)
        wait_until(self._listens, why="tidings listens to every ingress")

    def _listens(self) -> bool:
        metrics = self.metrics()
        return metrics.get("tidings_ingress_connected") == 2 and metrics.get("tidings_wires_listening") == 2

    def options(self, kind: str) -> Mapping[str, Any]:
        """The options of the emitter of one API (peers/emit_ways.py)."""
        pusher = {"app_id": "42", "key": "bench", "secret": self._secret, "host": "127.0.0.1", "ssl": False}
        return {
            "redis": {"url": self.rig.redis_url},
            "http": {"url": f"http://127.0.0.1:{self.port}", "api_key": self.rig.api_key},
            "rabbit": {"url": self.queues["rabbit"]},
            "list": {"url": self.queues["list"]},
            "outbox": {"url": self._database},
            "pusher": pusher | {"port": self.port},
            "manager": {"url": self.rig.redis_url},
        }[kind]

    @contextmanager
    def emitter(self, kind: str) -> Iterator[subprocess.Popen[str]]:
        """Run the emitter of one API, ready for jobs (peers/emit.py)."""
        if kind == "npm":
            install_node_peers()
            command = ["node", str(_PEERS / "node_emitter.js"), self.rig.redis_url]
        else:
            library = {"outbox": "outbox", "pusher": "pusher", "manager": "socketio"}.get(kind, "tidings")
            command = [sys.executable, str(_PEERS / "emit_ways.py"), library, json.dumps(self.options(kind))]
        process = machine.spawn(command, core=machine.LOAD_CORE, log=self.log)
        try:
            machine.read_reply(process)
            yield process
        finally:
            machine.stop(process)
