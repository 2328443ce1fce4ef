"""The Engine.IO server without a hub, as an echo server in its own process."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "tests/support/programs/echo_server.py"
_STOP_S = 10.0


class EngineProcess:
    """`echo_server.py` with options, ended and checked at the end of the `with` block."""

    def __init__(self, *options: str) -> None:
        self._options = options

    def __enter__(self) -> Self:
        path = os.pathsep.join(str(ROOT / name) for name in ("hub", "adapters", "tests"))
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(self._process.communicate()[1])
        self.port = int(line)
        self.metrics: dict[str, int] = {}
        self.reasons: list[str] = []
        self.log = ""
        return self

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def end(self) -> None:
        """Stop it and read its metrics, close reasons and log."""
        if self._process.poll() is not None:
            return
        out, self.log = self._process.communicate("", timeout=_STOP_S)
        counted, reasons = out.splitlines()
        self.metrics, self.reasons = ast.literal_eval(counted), ast.literal_eval(reasons)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.end()
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe is not None:
                    pipe.close()
