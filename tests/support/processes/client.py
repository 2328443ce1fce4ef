"""Clients in processes of their own: socket.io-client and the SDK on Node, python-socketio, and a reader of SSE."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.processes.hub import ROOT, environment
from support.waiting import WAIT_MAX_S, wait_until

FOLDER = Path(__file__).parents[1] / "clients"
COMMANDS = {
    "js": ["node", str(FOLDER / "client.mjs")],
    # Stock clients that reconnect and resume by themselves: the current version, and the first one that can.
    "stock": ["node", str(FOLDER / "client_stock.mjs"), "socket.io-client"],
    "stock4.6": ["node", str(FOLDER / "client_stock.mjs"), "socket.io-client-4-6"],
    # The code of docs/stock-clients.md as a program.
    "page": ["node", str(FOLDER / "client_page.mjs"), str(ROOT / "docs" / "stock-clients.md")],
    # The code of README.md as a program.
    "readme": ["node", str(FOLDER / "client_readme.mjs"), str(ROOT / "README.md")],
    "sdk": ["node", str(FOLDER / "client_sdk.mjs")],
    "hostile": ["node", str(FOLDER / "client_hostile.mjs")],
    # They print every code that reaches them.
    "codes.js": ["node", str(FOLDER / "client_codes.mjs")],
    "codes.python": [sys.executable, str(FOLDER / "client_codes.py")],
    "python": [sys.executable, str(FOLDER / "client.py")],
    "sse": [sys.executable, str(FOLDER / "client_sse.py")],
}
# Every transport of a stock client.
KINDS = ["js-websocket", "js-polling", "js-upgrade", "python-websocket", "python-polling", "sse"]
_TRANSPORTS = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": ["polling", "websocket"]}


class ClientProcess:
    """One client; `records` is what it has printed so far. `source`: the address that a Python client comes from."""

    def __init__(
        self,
        kind: str,
        url: str,
        *,
        token: str | None = None,
        channels: list[str],
        since: str | None = None,
        source: str | None = None,
        **more: object,
    ) -> None:
        self.kind = kind
        self.records: list[dict[str, Any]] = []
        program, _, transport = kind.partition("-")
        options: dict[str, object] = {"url": url, "token": token, "channels": channels, **more}
        if since:
            options["since"] = since
        if source:
            options["source"] = source
        if transport:
            options["transports"] = _TRANSPORTS[transport]
        self._process = subprocess.Popen(
            [*COMMANDS[program], json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.records.append(json.loads(line))

    def records_of(self, kind: str) -> list[dict[str, Any]]:
        """The records of one kind so far."""
        return [record for record in list(self.records) if record["kind"] == kind]

    def data(self, channel: str | None = None) -> list[Any]:
        """The data of all publications so far (of one channel), in order of arrival."""
        return [record["data"] for record in self.records_of("publication") if channel in (None, record["channel"])]

    def wait(
        self,
        condition: Callable[[ClientProcess], object],
        *,
        within_s: float = WAIT_MAX_S,
        why: str | Callable[[], str] = "",
    ) -> None:
        """Wait until `condition(self)` is true."""

        def reason() -> str:
            return f"{why() if callable(why) else why} ({self.kind}, last: {self.records[-3:]})"

        wait_until(lambda: condition(self), within_s=within_s, why=reason)

    def wait_ready(self, times: int = 1) -> ClientProcess:
        """Wait until `tidings:ready` has arrived `times` times."""
        self.wait(lambda self: len(self.records_of("ready")) >= times, why=f"ready {times} times")
        return self

    def request(self, event: str, data: object) -> Any:
        """Emit an event and wait for its acknowledgement."""
        before = len(self.records_of("ack"))
        self.send_command({"emit": event, "data": data})
        self.wait(lambda self: len(self.records_of("ack")) > before, why=f"an answer to {event}")
        return self.records_of("ack")[before]["answer"]

    def send_command(self, command: object) -> None:
        """Write a command to its input as one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def pause(self) -> None:
        """Send SIGSTOP, as if its machine slept."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=20)
        # Closing what is just being read is an error of the reader's.
        self._reader.join(timeout=20)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
