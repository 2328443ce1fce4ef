"""A hub for a test: the command `tidings serve` in a process, with a free port and its own configuration."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.waiting import wait_until

SECRET = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"
API_KEY = "tests-api-key-0123456789"
ROOT = Path(__file__).parents[3]
CONFIG = f"""
secret = "{SECRET}"
api_keys = ["{API_KEY}"]
canary_interval_s = 0.5
canary_timeout_s = 2.0
position_check_s = 0.5
[namespaces.orders]
subscribe = "token"
history = 1000
history_ttl_s = 600
[namespaces.chat]
subscribe = "public"
publish = "subscribers"
history = 100
[namespaces.ticks]
subscribe = "public"
history = 0
"""


def environment() -> dict[str, str]:
    """The environment of this process, with the source roots of the project and without `TIDINGS_…` settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    env["PYTHONPATH"] = f"{ROOT / 'hub'}:{ROOT / 'adapters'}"
    return env


class HubProcess:
    """One hub. `extra` is TOML put before the tests' usual configuration; flags go to `tidings serve`."""

    def __init__(self, folder: Path, *flags: str, extra: str = "", config: str = CONFIG) -> None:
        self._folder = folder
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        # More environment variables for the process.
        self.environment: dict[str, str] = {}
        self.log = folder / "hub.log"
        self.config = folder / "tidings.toml"
        self.config.write_text(extra + config)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, ready: bool = True) -> HubProcess:
        """Start it, or restart it on the same port, and wait until it listens or is ready."""
        command = [sys.executable, "-m", "tidings_hub", "serve", "--port", str(self.port), *self._flags]
        if "--dev" not in self._flags:
            command += ["--config", str(self.config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment() | self.environment,
                cwd=self._folder,
            )
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            line = stdout.readline().decode()
        match = re.search(r":(\d+)/", line)
        if match is None:
            raise AssertionError(f"the hub did not start: {line!r} {self.log.read_text()}")
        self.port = int(match[1])
        if ready:
            wait_until(lambda: self.get("/readyz")[0] == 200, why="the hub is ready")
        return self

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """One HTTP request with the API key: status, body (parsed if JSON), headers in lower case."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            sent = {"Authorization": f"Bearer {API_KEY}", **(headers or {})}
            data = None
            if body is not None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            content = answer.read()
            names = {name.lower(): value for name, value in answer.getheaders()}
            is_json = names.get("content-type", "").startswith("application/json")
            return answer.status, json.loads(content) if is_json else content, names
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, Any, dict[str, str]]:
        """A GET."""
        return self.request("GET", path)

    def publish(self, channel: str, event: str, data: object, **more: object) -> Any:
        """Publish over HTTP; returns the receipt."""
        status, answer, _ = self.request(
            "POST", "/api/publish", {"channel": channel, "event": event, "data": data, **more}
        )
        assert status == 200, answer
        return answer

    def metric(self, name: str) -> float:
        """The sum over all labels of one metric."""
        text = self.get("/metrics")[1].decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=30)

    def reload(self) -> None:
        """Send SIGHUP: it reads its settings again."""
        os.kill(self.pid, signal.SIGHUP)

    def kill(self) -> None:
        """Send SIGKILL, also while it is stopped."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=20)

    def pause(self) -> None:
        """Send SIGSTOP: it does not respond, its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill it if necessary. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(timeout=20)


def token(sub: str, *channels: str, **claims: Any) -> str:
    """A token that the tests' hubs accept."""
    from tidings.tokens import issue

    return issue(sub, key=SECRET, channels=channels, **claims)
