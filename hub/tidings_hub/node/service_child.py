"""The notification service as a child of the supervisor: its process, and when it starts again.

It sends heartbeats, as workers do, and is killed when they end: because it is stopped, or its HTTP server hangs. It has
a process group of its own, so that Ctrl+C in a terminal reaches the supervisor only. The nodes drain first, with the
service in reach, and the service after them.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from tidings.errors import TidingsError
from tidings_hub.config.network import local_url
from tidings_hub.config.settings import Settings
from tidings_hub.node.beat_pipe import BeatPipe
from tidings_hub.node.liveness import Liveness
from tidings_hub.node.restart_backoff import RestartBackoff

logger = logging.getLogger("tidings.supervisor")

# Seconds that the service may take longer than `drain_s`, before it is killed.
_KILL_AFTER_S: Final = 15.0


class ServiceChild:
    """One service. `environment`: that of the process. `drain_s`: how long its own drain takes at most.

    `liveness`: when it counts as hung.
    """

    def __init__(self, environment: Mapping[str, str], liveness: Liveness, *, drain_s: float) -> None:
        self._environment = environment
        self._drain_s = drain_s
        self.liveness = liveness
        self._pipe = BeatPipe(liveness)
        self._running: subprocess.Popen[bytes] | None = None
        self._restarts = RestartBackoff()
        self._start_at_s: float | None = 0.0
        self._kill_at_s: float | None = None
        self._is_hung = False
        self._is_stopping = False

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._running is not None

    @property
    def due_s(self) -> float | None:
        """When `check` has something to do."""
        if self._running is None:
            return self._start_at_s
        if self._kill_at_s is not None:
            return self._kill_at_s
        return None if self._is_hung else self.liveness.hangs_at_s

    def check(self, now_s: float) -> None:
        """Start the process if it is time for it, or kill it if it hangs or its drain takes too long.

        Call it at least once a second: it also reads the heartbeats.
        """
        self._pipe.read(now_s=now_s)
        if self.due_s is None or self.due_s > now_s:
            return
        if self._running is None:
            self._start(now_s)
        elif self._kill_at_s is not None:
            logger.error("the notification service did not drain in time and is killed")
            self.kill()
        elif self._pipe.is_silent(now_s=now_s):
            logger.error("the notification service hangs: no heartbeat, or it does not listen; killing it")
            self._is_hung = True
            self.kill()

    def _start(self, now_s: float) -> None:
        self._start_at_s, self._is_hung = None, False
        self._restarts.on_started(now_s=now_s)
        self.liveness.on_started(now_s=now_s)
        try:
            self._launch()
        except OSError as error:
            self._pipe.close()
            self._start_at_s = self._restarts.on_exited(now_s=now_s)
            logger.error("the notification service could not be started: %s", error)  # noqa: TRY400 - the system's

    def _launch(self) -> None:
        writer = self._pipe.open()
        command = [sys.executable, "-m", "tidings_hub", "notifications", "--with-parent", str(writer)]
        try:
            self._running = subprocess.Popen(  # noqa: S603 - this program itself
                command,
                stdin=subprocess.PIPE,
                # Programs that start a hub read its address there.
                stdout=subprocess.DEVNULL,
                env=dict(self._environment),
                pass_fds=(writer,),
                process_group=0,
            )
        finally:
            os.close(writer)

    def restart(self, now_s: float) -> None:
        """Let it drain, and start it again, for new settings."""
        if self._running is None:
            self._start_at_s = None if self._is_stopping else now_s
        elif self._kill_at_s is None:
            self._kill_at_s = now_s + self._drain_s + _KILL_AFTER_S
            self._running.send_signal(signal.SIGTERM)

    def stop(self, now_s: float) -> None:
        """Let it drain, and start it no more. Idempotent."""
        if not self._is_stopping:
            self._is_stopping = True
            self.restart(now_s)

    def reap(self, now_s: float) -> int | None:
        """If the process has ended, plan the next start. Returns its exit code, or None."""
        running = self._running
        if running is None or (code := running.poll()) is None:
            return None
        self._running, was_asked = None, self._kill_at_s is not None
        self._kill_at_s = None
        self._pipe.close()
        if running.stdin is not None:
            running.stdin.close()
        if self._is_stopping:
            return code
        self._start_at_s = now_s if was_asked else self._restarts.on_exited(now_s=now_s)
        if not was_asked:
            logger.error(
                "the notification service ended with %d; its last line has the cause. The hub runs without inboxes;"
                " starting the service again in %.1f s",
                code,
                self._start_at_s - now_s,
            )
        return code

    def kill(self) -> None:
        """SIGKILL, which ends a stopped process as well."""
        self._kill_at_s = None
        if self._running is not None:
            with suppress(ProcessLookupError):
                self._running.kill()

    def end(self) -> None:
        """Kill it, and wait until it has ended."""
        self.kill()
        if self._running is not None:
            self._running.wait()


def reload_service(service: ServiceChild, old: Settings, load: Callable[[], Settings]) -> Settings:
    """Restart the service if its settings or the shared secrets have changed. Returns the settings that it has.

    Wrong settings change nothing.
    """
    try:
        new = load()
        new.check_serving()
        is_new = (new.notifications, new.relay_secrets()) != (old.notifications, old.relay_secrets())
    except TidingsError as error:
        logger.error("the notification service keeps its settings: %s", error)  # noqa: TRY400 - the message is enough
        return old
    if not is_new:
        return old
    if new.notifications.service_url() != old.notifications.service_url() or not new.notifications.has_child:
        logger.warning("the notification service keeps its settings: its new address needs a restart of the hub")
        return old
    service.restart(time.monotonic())
    return new


def service_environment(settings: Settings, shared: Mapping[str, str], *, port: int) -> dict[str, str]:
    """The environment of the service of a hub that listens on `port`: that of the nodes, and their flags.

    Flags are in it, because URLs may have passwords, and every user of the machine can read a command line.
    """
    return {
        **shared,
        "TIDINGS_URL": local_url(settings.host, port) if settings.broker == "memory://" else settings.broker,
        "TIDINGS_HOST": settings.host,
        "TIDINGS_DEV": "true" if settings.dev else "false",
        "TIDINGS_LOG_LEVEL": settings.log_level,
    }
