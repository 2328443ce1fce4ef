"""The notification service, `tidings notifications`, as a process, with the settings of a hub."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.ports import free_port
from support.processes.hub import SECRET, environment
from support.waiting import wait_until
from tidings_hub.config.notifications import service_key

CATEGORIES = """
[notifications.categories.order_shipped]
label = "Shipping"
[notifications.categories.mention]
[notifications.categories.security]
required = true
"""


class HubSecret:
    """The secret of the tests' hubs."""

    def relay_secrets(self, *, env: object = None) -> list[str]:
        """See `Settings.relay_secrets`."""
        return [SECRET]


KEY = service_key(HubSecret())


class NotificationsProcess:
    """One service. `config`: the settings file of its hub. The port stays the same when it is restarted."""

    def __init__(self, config: Path, database_url: str, *flags: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._config = config
        self.database_url = database_url
        self._flags = ("--database", database_url, *flags)
        self._process: subprocess.Popen[bytes] | None = None
        self.log = config.parent / f"notifications-{self.port}.log"

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, ready: bool = True) -> NotificationsProcess:
        """Start it, and wait until it is ready."""
        command = [*(sys.executable, "-m", "tidings_hub", "notifications", "--config", str(self._config))]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--listen", f"127.0.0.1:{self.port}", *self._flags],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                cwd=self._config.parent,
            )
        if ready:
            assert self._process.stdout is not None
            with self._process.stdout as stdout:
                line = stdout.readline().decode()
            assert re.search(rf":{self.port}/", line), self.log.read_text()
            wait_until(self.is_ready, why=lambda: f"the service is ready: {self.log.read_text()[-2000:]}")
        return self

    def is_ready(self) -> bool:
        """Whether it is ready and reads Redis, if there is one."""
        status, body = self.request("GET", "/readyz")
        return status == 200 and all(state == "ok" for state in body["checks"].get("intake", {}).values())

    def request(
        self, method: str, path: str, body: object = None, *, key: str | None = KEY, kind: str = "application/json"
    ) -> tuple[int, Any]:
        """One HTTP request: status and body, parsed if it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            headers = {"Content-Type": kind} | ({} if key is None else {"Authorization": f"Bearer {key}"})
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            text = answer.read()
            is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
            return answer.status, json.loads(text) if is_json else text
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """The sum over all labels of one metric."""
        text = self.request("GET", "/metrics")[1].decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    def wait(self) -> int:
        """Wait until it has ended; return the exit code."""
        assert self._process is not None
        return self._process.wait(timeout=40)

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill it if necessary. Idempotent."""
        if self._process is not None:
            if self._process.poll() is None:
                self.signal(signal.SIGCONT)
                self.kill()
            assert self._process.stdout is not None
            self._process.stdout.close()
