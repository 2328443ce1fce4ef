"""The relay of the outbox: `tidings outbox` in a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from support.processes.hub import environment

KILLED = Path(__file__).parents[1] / "programs" / "outbox_killed.py"


class OutboxProcess:
    """One relay process. `said` has the lines of its log so far. `killed_when` is the step at which it kills itself."""

    def __init__(
        self, folder: Path, *arguments: str, killed_when: str | None = None, more: dict[str, str] | None = None
    ) -> None:
        start = [str(KILLED), killed_when] if killed_when else ["-m", "tidings_hub"]
        self.log_lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, *start, "outbox", *arguments],
            stderr=subprocess.PIPE,
            env=environment() | (more or {}),
            cwd=folder,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            # Line by line, so that a test can check the lines so far.
            self.log_lines.append(line.rstrip("\n"))

    def has_logged(self, text: str) -> bool:
        """Whether a line contains this text."""
        return any(text in line for line in self.log_lines)

    def wait(self) -> int:
        """Wait until it has ended; return the exit code."""
        code = self._process.wait(60)
        self._reader.join(20)
        return code

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def pause(self) -> None:
        """Send SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Kill it if necessary. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
