"""A real redis-server of a test's own: free port, own folder, ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.ports import free_port
from support.waiting import wait_until


class RedisProcess:
    """One redis-server. `folder` is empty and belongs to it; `program` is another command line to start it with."""

    def __init__(
        self, folder: Path, *options: str, port: int | None = None, program: Sequence[str] = ("redis-server",)
    ) -> None:
        if shutil.which("redis-server") is None:
            if os.environ.get("CI"):
                raise AssertionError("redis-server is not installed")
            pytest.skip("redis-server is not installed")
        self.folder = folder
        self.port = port or free_port()
        self._options = options
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> RedisProcess:
        """Start it and wait until it answers."""
        self.launch()
        wait_until(self.answers, why="redis-server answers")
        return self

    def launch(self) -> None:
        """Start it without waiting."""
        self._process = subprocess.Popen(
            [
                *(*self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--save", "", "--appendonly", "no", "--dbfilename", "dump.rdb", *self._options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def answers(self) -> bool:
        """Whether it answers a PING, without a login."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.poll() is not None

    def client(self) -> Any:
        """A redis-py client."""
        import redis

        return redis.Redis(port=self.port, socket_timeout=10)

    def kill(self) -> None:
        """SIGKILL: nothing is saved."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Resume it if it is paused, and end it. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=20)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def save(self) -> bytes:
        """Write the file now and return it."""
        with self.client() as client:
            client.save()
        return (self.folder / "dump.rdb").read_bytes()

    def restart(self, file: bytes | None) -> None:
        """Kill it and start it with this file (None: empty)."""
        self.kill()
        self.replace_file(file)
        self.start()

    def replace_file(self, file: bytes | None) -> None:
        """Replace the file that the next start reads."""
        path = self.folder / "dump.rdb"
        path.unlink(missing_ok=True)
        if file is not None:
            path.write_bytes(file)
