"""The case `web-push`: pushes per second of one sender, to push services that answer after 50 ms."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.case import Column, Row
from bench.systems import System
from support.network.certificates import Authority
from tidings_notifications.web_push.vapid import VapidKey

_PEERS = machine.HERE / "peers"
WEB_PUSH = (
    Column("pushes_per_s", "pushes/s"),
    Column("cpu_us", "CPU of the sender (µs per push)"),
    Column("sent_pct", "accepted (%)", 2),
    Column("grown_mib", "memory grown (MiB)", 1),
)


@dataclass(frozen=True, slots=True)
class WebPushLoad:
    """One sender on the core of the server; four push services on the core of the load."""

    count: int
    services: int = 4
    delay_s: float = 0.05

    def __call__(self, system: System, *, quick: bool) -> Row:
        count = self.count // 50 if quick else self.count
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority.make(Path(folder) / "authority")
            key_file = Path(folder) / "vapid.pem"
            VapidKey.create(key_file)
            with self._services(authority, system) as ports:
                script = [sys.executable, str(_PEERS / "push_rate.py"), str(key_file), str(count), *map(str, ports)]
                # The variable of OpenSSL: the sender trusts what the system trusts.
                command = ["env", f"SSL_CERT_FILE={authority.file}", *script]
                sender = machine.spawn(command, core=machine.SERVER_CORE, log=system.log)
                try:
                    row: Row = machine.read_reply(sender)
                finally:
                    machine.stop(sender)
        return row

    @contextmanager
    def _services(self, authority: Authority, system: System) -> Iterator[list[int]]:
        files = [str(file) for file in authority.issue("push")]
        command = [sys.executable, str(_PEERS / "push_sink.py"), *files, str(self.services), str(self.delay_s)]
        sink = machine.spawn(command, core=machine.LOAD_CORE, log=system.log)
        try:
            yield machine.read_reply(sink)["ports"]
        finally:
            machine.stop(sink)
