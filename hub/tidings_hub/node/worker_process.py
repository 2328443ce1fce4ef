"""One worker of a supervisor: its process, its pipes, and the counts that outlive the process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from tidings_hub.node.beat_pipe import BeatPipe
from tidings_hub.node.liveness import Liveness
from tidings_hub.node.restart_backoff import RestartBackoff
from tidings_hub.node.worker import VARIABLE, Worker


class WorkerProcess:
    """Starts and ends the process of one worker. `restart_at_s`: when to start it; None: it runs.

    `missed_reload`: a SIGHUP came while it was starting. It may have loaded the settings before.
    """

    def __init__(self, name: str, worker: Worker, environment: Mapping[str, str], liveness: Liveness) -> None:
        self.name = name
        self._worker = worker
        self._environment = environment
        self.liveness = liveness
        self.restarts = RestartBackoff()
        self.running: subprocess.Popen[bytes] | None = None
        self.restart_at_s: float | None = 0.0
        self._pipe = BeatPipe(liveness)
        self.missed_reload = False
        self._starts = 0
        self._hangs = 0
        self._is_hung = False

    @property
    def beats(self) -> int | None:
        """The pipe with its heartbeats; None if it does not run."""
        return self._pipe.reader

    @property
    def due_s(self) -> float | None:
        """When the supervisor has to look at this worker: to start it, or because it may hang."""
        if self.running is None:
            return self.restart_at_s
        return None if self._is_hung else self.liveness.hangs_at_s

    def start(self, command: Sequence[str], *, now_s: float) -> None:
        """Start the process.

        Raises:
            OSError: the system could not start it. `restart_at_s` is the time of the next attempt.
        """
        self.restart_at_s = None
        # It loads the current settings.
        self.missed_reload = False
        self.restarts.on_started(now_s=now_s)
        self.liveness.on_started(now_s=now_s)
        try:
            self._launch(command)
        except OSError:
            # Also if there is no descriptor for its pipe.
            self.restart_at_s = self.restarts.on_exited(now_s=now_s)
            raise
        self._starts += 1
        self._is_hung = False

    def _launch(self, command: Sequence[str]) -> None:
        writer = self._pipe.open()
        worker = replace(self._worker, restarts=self._starts, hangs=self._hangs, beat_fd=writer)
        try:
            self.running = subprocess.Popen(  # noqa: S603 - this program itself
                command,
                stdin=subprocess.PIPE,
                env={**self._environment, VARIABLE: worker.to_text()},
                pass_fds=(writer,),
            )
        except OSError:
            self._pipe.close()
            raise
        finally:
            os.close(writer)

    def read_beats(self, *, now_s: float) -> bool:
        """Read the heartbeats that have arrived. Returns whether more can arrive."""
        return self._pipe.read(now_s=now_s)

    def is_hung(self, *, now_s: float) -> bool:
        """Whether it runs and should have sent a heartbeat, or listened, before now. True once per process."""
        if self.running is None or self._is_hung or not self._pipe.is_silent(now_s=now_s):
            return False
        self._is_hung = True
        self._hangs += 1
        return True

    def kill(self) -> None:
        """SIGKILL, which ends a stopped process as well."""
        if self.running is not None:
            with suppress(ProcessLookupError):
                self.running.kill()

    def on_exited(self) -> None:
        """The process has ended: close its pipes."""
        running, self.running = self.running, None
        if running is not None and running.stdin is not None:
            running.stdin.close()
        self.liveness.has_listened = False
        self._pipe.close()
