"""Programs of tests/emitters on Node: each prints one JSON object a line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "emitters"


def node(name: str) -> list[str]:
    """The command that runs one of these programs; needs Node and `make setup`."""
    program = shutil.which("node")
    if program is None or not (FOLDER / "node_modules").is_dir():
        if os.environ.get("CI"):
            raise AssertionError("node, or tests/emitters/node_modules, is not installed")
        pytest.skip("node, or tests/emitters/node_modules, is not installed")
    return [program, str(FOLDER / name)]


def run(name: str, options: object) -> list[dict[str, Any]]:
    """Run the program until it ends; return its output."""
    done = subprocess.run([*node(name), json.dumps(options)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class NodeProgram:
    """A program that runs until it is stopped. `say` sends it a line and returns its reply."""

    def __init__(self, name: str, options: object) -> None:
        self._process = subprocess.Popen(
            [*node(name), json.dumps(options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read_line(self) -> dict[str, Any]:
        """Read its next line."""
        assert self._process.stdout is not None
        record: dict[str, Any] = json.loads(self._process.stdout.readline())
        return record

    def exchange(self, line: str) -> dict[str, Any]:
        """Send a line and read the reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.read_line()

    def stop(self) -> None:
        """Stop it. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=20)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
