"""`tidings serve --workers N`: starts N nodes on one port, restarts those that crash, and forwards signals.

The supervisor is a plain process without an event loop, and no client can reach it. Each node listens on the port
itself (SO_REUSEPORT), and on a unix socket for requests that the kernel gave to a sibling. The standard input of each
node is a pipe from the supervisor. When it ends, for whatever reason the supervisor ended, the node drains.
"""

from __future__ import annotations

import logging
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tidings.errors import BadConfig
from tidings_hub.config.settings import Settings
from tidings_hub.node.restart_backoff import RestartBackoff
from tidings_hub.node.worker import VARIABLE, Worker

logger = logging.getLogger("tidings.supervisor")

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_HANDLED = (*sorted(_STOP_SIGNALS), signal.SIGHUP, signal.SIGCHLD)
# Seconds that a drain may take longer than its settings allow, before the worker is killed.
_KILL_AFTER_S = 15.0
_NODE_ID_MAX = 32
_USAGE_ERROR = 2


class _Process:
    """One worker: its process, if it runs, and whether it listens yet."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self.environment = environment
        self.restarts = RestartBackoff()
        self.running: subprocess.Popen[bytes] | None = None
        self.restart_at_s: float | None = 0.0
        self.listened = False
        self.code = 0

    @property
    def output(self) -> IO[bytes]:
        """The pipe to which the worker writes one line when it listens."""
        if self.running is None or self.running.stdout is None:
            raise RuntimeError(f"{self.name} does not run")
        return self.running.stdout


class Supervisor:
    """Runs until a stop signal arrived and all workers have ended.

    `arguments` are those of `tidings serve` that all workers share.
    """

    def __init__(self, settings: Settings, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._arguments = list(arguments)
        self._environment = environment
        self._selector = selectors.DefaultSelector()
        self._is_stopping = False
        self._kill_at_s: float | None = None
        self._has_announced = False
        self._code = 0
        self._workers: list[_Process] = []
        self._port = settings.port

    def run(self) -> int:
        """Run; returns the exit code.

        0: all workers have drained. 1: one of them ended otherwise. 2: a worker reported wrong usage.
        """
        reserved = _reserve(self._settings.host, self._settings.port)
        self._port = reserved.getsockname()[1]
        folder = Path(tempfile.mkdtemp(prefix="tidings-"))
        try:
            self._workers = self._build_workers(folder)
            self._listen_to_signals()
            while not self._is_stopping or any(worker.running for worker in self._workers):
                self._step()
        finally:
            for worker in self._workers:
                if worker.running is not None:
                    worker.running.kill()
                    worker.running.wait()
            shutil.rmtree(folder, ignore_errors=True)
            reserved.close()
        return self._code

    def _build_workers(self, folder: Path) -> list[_Process]:
        settings = self._settings
        names = [f"{settings.node_id}-{index}" for index in range(settings.workers)]
        if len(names[-1]) > _NODE_ID_MAX:
            raise BadConfig(f"node_id {settings.node_id} is too long: workers append a number to it")
        addresses = {name: f"unix:{folder / name}" for name in names}
        shared = dict(self._environment)
        if not settings.relay_secrets():
            # Under --dev, or with public keys only: only these workers need the secret.
            shared["TIDINGS_RELAY_SECRET"] = secrets.token_urlsafe(32)
        return [
            _Process(name, {**shared, VARIABLE: Worker(index, addresses).to_text()}) for index, name in enumerate(names)
        ]

    def _listen_to_signals(self) -> None:
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)  # noqa: FBT003 - the method has no name for it
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, _ignore)
        # Both stay open for as long as this process runs.
        self._selector.register(reader, selectors.EVENT_READ, (reader, writer))

    def _step(self) -> None:
        now_s = time.monotonic()
        if not self._is_stopping:
            for worker in self._workers:
                if worker.restart_at_s is not None and worker.restart_at_s <= now_s:
                    self._start(worker, now_s)
        elif self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._kill()
        for key, _ in self._selector.select(self._wait_s(now_s)):
            if isinstance(key.data, _Process):
                self._on_output(key.data)
            else:
                self._on_signals(key.data[0].recv(4096))
        self._reap()

    def _wait_s(self, now_s: float) -> float | None:
        times = [
            worker.restart_at_s for worker in self._workers if worker.restart_at_s is not None and not self._is_stopping
        ]
        if self._kill_at_s is not None:
            times.append(self._kill_at_s)
        return max(0.0, min(times) - now_s) if times else None

    def _start(self, worker: _Process, now_s: float) -> None:
        command = [sys.executable, "-m", "tidings_hub", "serve", *self._arguments]
        command += ["--node-id", worker.name, "--port", str(self._port), "--workers", str(self._settings.workers)]
        worker.restart_at_s = None
        worker.restarts.on_started(now_s=now_s)
        try:
            worker.running = subprocess.Popen(  # noqa: S603 - this program itself
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=worker.environment
            )
        except OSError as error:
            worker.restart_at_s = worker.restarts.on_exited(now_s=now_s)
            logger.error("node %s could not be started: %s", worker.name, error)  # noqa: TRY400 - the system's, not ours
            return
        self._selector.register(worker.output, selectors.EVENT_READ, worker)

    def _on_output(self, worker: _Process) -> None:
        """Handle the line that a worker writes when it listens; end of file: it has ended."""
        if os.read(worker.output.fileno(), 4096):
            worker.listened = True
        self._selector.unregister(worker.output)
        if not self._has_announced and all(worker.listened for worker in self._workers):
            self._has_announced = True
            host = self._settings.host
            logger.info("%d nodes listen on http://%s:%d/", len(self._workers), host, self._port)
            sys.stdout.write(f"tidings: http://{host}:{self._port}/\n")
            sys.stdout.flush()

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in _STOP_SIGNALS:
                self._stop()
            elif number == signal.SIGHUP:
                self._send_signal(signal.SIGHUP)

    def _send_signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            # A SIGHUP would end a worker that does not listen yet. It loads the current settings anyway.
            if worker.running is not None and (worker.listened or number != signal.SIGHUP):
                worker.running.send_signal(number)

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        settings = self._settings
        self._kill_at_s = time.monotonic() + settings.drain_notice_s + settings.drain_s + _KILL_AFTER_S
        logger.info("draining %d nodes", len(self._workers))
        self._send_signal(signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at_s = None
        for worker in self._workers:
            if worker.running is not None:
                logger.error("node %s did not drain in time and is killed", worker.name)
                worker.running.kill()

    def _reap(self) -> None:
        for worker in self._workers:
            running = worker.running
            if running is None or (code := running.poll()) is None:
                continue
            self._forget(worker)
            now_s = time.monotonic()
            if self._is_stopping:
                self._code = self._code or int(code not in {0, -signal.SIGTERM})
            elif code == _USAGE_ERROR and not self._has_announced:
                # The worker has logged the reason.
                self._code = code
                self._stop()
            else:
                worker.restart_at_s = worker.restarts.on_exited(now_s=now_s)
                wait_s = worker.restart_at_s - now_s
                logger.error("node %s ended with %d; restarting it in %.1f s", worker.name, code, wait_s)

    def _forget(self, worker: _Process) -> None:
        running, worker.running, worker.listened = worker.running, None, False
        for pipe in (running.stdin, running.stdout) if running is not None else ():
            if pipe is not None:
                if pipe in self._selector.get_map():
                    self._selector.unregister(pipe)
                pipe.close()


def _ignore(*_: object) -> None:
    """Do nothing: the signal arrives on the wake-up descriptor."""


def _reserve(host: str, port: int) -> socket.socket:
    """A socket that reserves `port` for this user. It never listens, so it takes no clients from the workers.

    Raises:
        BadConfig: another process listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Another hub with workers would share its port with this one. Without SO_REUSEPORT, the kernel reports it.
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
            free_port = probe.getsockname()[1]
        reserved = socket.socket(family)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host, free_port))
    except OSError as error:
        raise BadConfig(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return reserved
