"""`tidings serve --workers N`: starts N nodes on one port, starts again what crashes, and passes signals on.

A plain process: no event loop, no sockets of clients, nothing that a client could reach. Each node listens on the
port itself (SO_REUSEPORT), and on a unix socket for the polls that met another node. Their standard input is a pipe
from here: when it ends, however this process ended, they drain.
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

_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})
_HANDLED = (*sorted(_ENDING), signal.SIGHUP, signal.SIGCHLD)
# What a drain may take beyond its settings, before a worker is killed.
_PATIENCE_S = 15.0
_NODE_ID_MAX = 32
_ASKED_WRONGLY = 2


class _Process:
    """One worker: its process, when there is one, and what it has said."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self.environment = environment
        self.restarts = RestartBackoff()
        self.running: subprocess.Popen[bytes] | None = None
        self.again_s: float | None = 0.0
        self.listened = False
        self.code = 0

    @property
    def output(self) -> IO[bytes]:
        """Where it says that it listens."""
        if self.running is None or self.running.stdout is None:
            raise RuntimeError(f"{self.name} does not run")
        return self.running.stdout


class Supervisor:
    """Runs until it is told to end and all workers have; `arguments` are those of `tidings serve` that they share."""

    def __init__(self, settings: Settings, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._arguments = list(arguments)
        self._environment = environment
        self._selector = selectors.DefaultSelector()
        self._ending = False
        self._kill_at_s: float | None = None
        self._told = False
        self._code = 0
        self._workers: list[_Process] = []
        self._port = settings.port

    def run(self) -> int:
        """The exit code: 0 when all workers have drained, 2 when one says that it was asked wrongly."""
        reserved = _reserve(self._settings.host, self._settings.port)
        self._port = reserved.getsockname()[1]
        folder = Path(tempfile.mkdtemp(prefix="tidings-"))
        try:
            self._workers = self._made(folder)
            self._listen_to_signals()
            while not self._ending or any(worker.running for worker in self._workers):
                self._turn()
        finally:
            for worker in self._workers:
                if worker.running is not None:
                    worker.running.kill()
                    worker.running.wait()
            shutil.rmtree(folder, ignore_errors=True)
            reserved.close()
        return self._code

    def _made(self, folder: Path) -> list[_Process]:
        settings = self._settings
        names = [f"{settings.node_id}-{index}" for index in range(settings.workers)]
        if len(names[-1]) > _NODE_ID_MAX:
            raise BadConfig(f"node_id {settings.node_id} is too long: workers put a number behind it")
        beside = {name: f"unix:{folder / name}" for name in names}
        shared = dict(self._environment)
        if not settings.relay_secrets():
            # Under --dev, or with public keys only: nobody but these workers has to know it.
            shared["TIDINGS_RELAY_SECRET"] = secrets.token_urlsafe(32)
        return [
            _Process(name, {**shared, VARIABLE: Worker(index, beside).to_text()}) for index, name in enumerate(names)
        ]

    def _listen_to_signals(self) -> None:
        read, write = socket.socketpair()
        for one in (read, write):
            one.setblocking(False)  # noqa: FBT003 - the method has no name for it
        signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, _nothing)
        # Both stay open for as long as this process runs.
        self._selector.register(read, selectors.EVENT_READ, (read, write))

    def _turn(self) -> None:
        now_s = time.monotonic()
        if not self._ending:
            for worker in self._workers:
                if worker.again_s is not None and worker.again_s <= now_s:
                    self._start(worker, now_s)
        elif self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._kill()
        for key, _ in self._selector.select(self._wait_s(now_s)):
            if isinstance(key.data, _Process):
                self._hear(key.data)
            else:
                self._handle(key.data[0].recv(4096))
        self._reap()

    def _wait_s(self, now_s: float) -> float | None:
        times = [worker.again_s for worker in self._workers if worker.again_s is not None and not self._ending]
        if self._kill_at_s is not None:
            times.append(self._kill_at_s)
        return max(0.0, min(times) - now_s) if times else None

    def _start(self, worker: _Process, now_s: float) -> None:
        command = [sys.executable, "-m", "tidings_hub", "serve", *self._arguments]
        command += ["--node-id", worker.name, "--port", str(self._port), "--workers", str(self._settings.workers)]
        worker.again_s = None
        worker.restarts.on_started(now_s=now_s)
        try:
            worker.running = subprocess.Popen(  # noqa: S603 - this program itself
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=worker.environment
            )
        except OSError as error:
            worker.again_s = worker.restarts.on_exited(now_s=now_s)
            logger.error("node %s could not be started: %s", worker.name, error)  # noqa: TRY400 - the system's, not ours
            return
        self._selector.register(worker.output, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Process) -> None:
        """A worker says one line, when it listens."""
        if os.read(worker.output.fileno(), 4096):
            worker.listened = True
        self._selector.unregister(worker.output)
        if not self._told and all(worker.listened for worker in self._workers):
            self._told = True
            host = self._settings.host
            logger.info("%d nodes listen on http://%s:%d/", len(self._workers), host, self._port)
            sys.stdout.write(f"tidings: http://{host}:{self._port}/\n")
            sys.stdout.flush()

    def _handle(self, numbers: bytes) -> None:
        for number in numbers:
            if number in _ENDING:
                self._end()
            elif number == signal.SIGHUP:
                self._signal(signal.SIGHUP)

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            # A worker that does not listen yet would be ended by a SIGHUP; it reads the settings as they are now.
            if worker.running is not None and (worker.listened or number != signal.SIGHUP):
                worker.running.send_signal(number)

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        settings = self._settings
        self._kill_at_s = time.monotonic() + settings.drain_notice_s + settings.drain_s + _PATIENCE_S
        logger.info("telling %d nodes to drain", len(self._workers))
        self._signal(signal.SIGTERM)

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
            if self._ending:
                self._code = self._code or int(code not in {0, -signal.SIGTERM})
            elif code == _ASKED_WRONGLY and not self._told:
                # It has said why.
                self._code = code
                self._end()
            else:
                worker.again_s = worker.restarts.on_exited(now_s=now_s)
                wait_s = worker.again_s - now_s
                logger.error("node %s ended with %d; it is started again in %.1f s", worker.name, code, wait_s)

    def _forget(self, worker: _Process) -> None:
        running, worker.running, worker.listened = worker.running, None, False
        for pipe in (running.stdin, running.stdout) if running is not None else ():
            if pipe is not None:
                if pipe in self._selector.get_map():
                    self._selector.unregister(pipe)
                pipe.close()


def _nothing(*_: object) -> None:
    """The wake-up descriptor tells of the signal."""


def _reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps `port` for this user and is never listened on; it takes no clients from the workers.

    Raises:
        BadConfig: somebody listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Another hub with workers would share its port with us: without SO_REUSEPORT the kernel tells.
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
            found = probe.getsockname()[1]
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, found))
    except OSError as error:
        raise BadConfig(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return made
