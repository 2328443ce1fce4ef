"""Starts one or more nodes on one port, and the notification service; restarts them, and forwards signals.

`tidings serve` runs it with several workers or with a database of notifications.

The supervisor is a plain process without an event loop, and no client can reach it. Each node listens on the port
itself (SO_REUSEPORT), and on a unix socket for requests that the kernel gave to a sibling. The standard input of each
node is a pipe from the supervisor. When it ends, for whatever reason the supervisor ended, the node drains. Each node
sends heartbeats through another pipe. One whose heartbeats end (SIGSTOP, a blocked event loop) is killed and restarted.
"""

from __future__ import annotations

import logging
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tidings.errors import BadConfig
from tidings_hub.config.settings import Settings
from tidings_hub.node.liveness import Liveness
from tidings_hub.node.service_child import ServiceChild, reload_service, service_environment
from tidings_hub.node.worker import Worker, shared_environment
from tidings_hub.node.worker_process import WorkerProcess

logger = logging.getLogger("tidings.supervisor")

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_HANDLED = (*sorted(_STOP_SIGNALS), signal.SIGHUP, signal.SIGCHLD)
# Seconds that a drain may take longer than its settings allow, before the worker is killed.
_KILL_AFTER_S = 15.0
# If the supervisor wakes this much later than planned, it was stopped itself, perhaps together with its workers. It
# wakes at least once in `_STEP_S`, so that it notices any stop that is long enough to silence a worker.
_LATE_S = 1.0
_STEP_S = 1.0
_NODE_ID_MAX = 32
_USAGE_ERROR = 2


class Supervisor:
    """Runs until a stop signal arrived and all workers have ended.

    `arguments` are those of `tidings serve` that all workers share. `load` reads the settings again.
    """

    def __init__(
        self,
        settings: Settings,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        load: Callable[[], Settings],
    ) -> None:
        self._settings = settings
        self._load = load
        self._arguments = list(arguments)
        self._environment = environment
        self._selector = selectors.DefaultSelector()
        self._is_stopping = False
        self._kill_at_s: float | None = None
        self._has_announced = False
        self._has_failures = False
        self._code = 0
        self._workers: list[WorkerProcess] = []
        self._services: list[ServiceChild] = []  # none or one
        self._livenesses: list[Liveness] = []
        self._port = settings.port

    def run(self) -> int:
        """Run; returns the exit code.

        0: all workers have drained. 1: one of them ended otherwise. 2: a worker reported wrong usage.
        """
        reserved = _reserve(self._settings.host, self._settings.port)
        self._port = reserved.getsockname()[1]
        folder = Path(tempfile.mkdtemp(prefix="tidings-"))
        try:
            shared = shared_environment(self._settings, self._environment)
            self._workers = self._build_workers(folder, shared)
            if self._settings.notifications.has_child:
                environment = service_environment(self._settings, shared, port=self._port)
                self._services.append(ServiceChild(environment, self._liveness(), drain_s=self._settings.drain_s))
            self._listen_to_signals()
            while not self._is_stopping or self._has_workers() or any(child.is_running for child in self._services):
                self._step()
        finally:
            for service in self._services:
                service.end()
            for worker in self._workers:
                if worker.running is not None:
                    worker.kill()
                    worker.running.wait()
            shutil.rmtree(folder, ignore_errors=True)
            reserved.close()
        return self._code

    def _has_workers(self) -> bool:
        return any(worker.running for worker in self._workers)

    def _build_workers(self, folder: Path, shared: Mapping[str, str]) -> list[WorkerProcess]:
        settings = self._settings
        names = [f"{settings.node_id}-{index}" for index in range(settings.workers)]
        if settings.workers == 1:
            names = [settings.node_id]
        if len(names[-1]) > _NODE_ID_MAX:
            raise BadConfig(f"node_id {settings.node_id} is too long: workers append a number to it")
        addresses = {name: f"unix:{folder / name}" for name in names}
        return [
            WorkerProcess(
                name,
                Worker(index, addresses),
                shared,
                self._liveness(),
            )
            for index, name in enumerate(names)
        ]

    def _liveness(self) -> Liveness:
        settings = self._settings
        liveness = Liveness(timeout_s=settings.worker_timeout_s, start_timeout_s=settings.worker_start_timeout_s)
        self._livenesses.append(liveness)
        return liveness

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
            self._check_workers(now_s)
        elif self._kill_at_s is not None and now_s >= self._kill_at_s:
            self._kill()
        for service in self._services:
            if self._is_stopping and not self._has_workers():
                service.stop(now_s)
            service.check(now_s)
        wait_s = self._wait_s(now_s)
        events = self._selector.select(wait_s)
        woke_s = time.monotonic()
        late_s = 0.0 if wait_s is None else woke_s - now_s - wait_s
        if late_s > _LATE_S:
            for liveness in self._livenesses:
                liveness.on_resumed(late_s, now_s=woke_s)
        for key, _ in events:
            if not isinstance(key.data, WorkerProcess):
                self._on_signals(key.data[0].recv(4096))
            elif key.data.read_beats(now_s=woke_s):
                self._announce()
                self._reload_late(key.data)
            else:
                self._selector.unregister(key.fd)
        self._reap()

    def _check_workers(self, now_s: float) -> None:
        """Start the workers that are due, and kill those that hang."""
        for worker in self._workers:
            if worker.restart_at_s is not None and worker.restart_at_s <= now_s:
                self._start(worker, now_s)
            elif worker.is_hung(now_s=now_s):
                logger.error("node %s hangs: no heartbeat, or it does not listen; killing it", worker.name)
                worker.kill()

    def _wait_s(self, now_s: float) -> float | None:
        times = [] if self._is_stopping else [worker.due_s for worker in self._workers]
        times += [service.due_s for service in self._services]
        pending = [time_s for time_s in (*times, self._kill_at_s) if time_s is not None]
        return min(_STEP_S, max(0.0, min(pending) - now_s)) if pending else None

    def _start(self, worker: WorkerProcess, now_s: float) -> None:
        command = [sys.executable, "-m", "tidings_hub", "serve", *self._arguments]
        command += ["--node-id", worker.name, "--port", str(self._port), "--workers", str(self._settings.workers)]
        try:
            worker.start(command, now_s=now_s)
        except OSError as error:
            logger.error("node %s could not be started: %s", worker.name, error)  # noqa: TRY400 - the system's, not ours
            return
        if worker.beats is not None:
            self._selector.register(worker.beats, selectors.EVENT_READ, worker)

    def _announce(self) -> None:
        """Report the address when all workers listen. If one of them hangs or crashes, the others suffice."""
        listening = sum(worker.liveness.has_listened for worker in self._workers)
        if self._has_announced or not listening or (listening < len(self._workers) and not self._has_failures):
            return
        self._has_announced = True
        host = self._settings.host
        if len(self._workers) > 1:
            logger.info("%d nodes listen on http://%s:%d/", listening, host, self._port)
        sys.stdout.write(f"tidings: http://{host}:{self._port}/\n")
        sys.stdout.flush()

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in _STOP_SIGNALS:
                self._stop()
            elif number == signal.SIGHUP:
                self._send_signal(signal.SIGHUP)
                for service in self._services:
                    self._settings = reload_service(service, self._settings, self._load)

    def _send_signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.running is None:
                continue
            if number == signal.SIGHUP and not worker.liveness.has_listened:
                # It would end a worker that does not listen yet.
                worker.missed_reload = True
            else:
                worker.running.send_signal(number)

    def _reload_late(self, worker: WorkerProcess) -> None:
        """Reload a worker that was starting when the others were reloaded."""
        if worker.missed_reload and worker.liveness.has_listened and worker.running is not None:
            worker.missed_reload = False
            worker.running.send_signal(signal.SIGHUP)

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        settings = self._settings
        self._kill_at_s = time.monotonic() + settings.drain_notice_s + settings.drain_s + _KILL_AFTER_S
        logger.info("stopping; nodes to drain: %d", len(self._workers))
        self._send_signal(signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at_s = None
        for worker in self._workers:
            if worker.running is not None:
                logger.error("node %s did not drain in time and is killed", worker.name)
                worker.kill()

    def _reap(self) -> None:
        for service in self._services:
            code = service.reap(time.monotonic())
            if self._is_stopping and code not in {None, 0, -signal.SIGTERM}:
                self._code = self._code or 1
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
                self._has_failures = True
                self._announce()

    def _forget(self, worker: WorkerProcess) -> None:
        if worker.beats is not None and worker.beats in self._selector.get_map():
            self._selector.unregister(worker.beats)
        worker.on_exited()


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
