"""Clients with libraries of others (tests/foreign). Each prints lines; `make setup` builds those in Java and Go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import pytest

from support.installed_programs import program
from support.waiting import wait_until

FOLDER = Path(__file__).parents[2] / "foreign"
_JAVA_BUILD = FOLDER / "java/build"
_GO_CLIENT = FOLDER / "go/build/client"


def _need(built: Path) -> None:
    if not built.exists():
        message = f"{built.relative_to(FOLDER)} is missing; `make setup` builds it with Maven or Go"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def java(*arguments: str) -> list[str]:
    """The command that runs the client in Java."""
    _need(_JAVA_BUILD / "classes")
    class_path = f"{_JAVA_BUILD}/lib/*:{_JAVA_BUILD}/classes"
    # It starts faster without the second compiler.
    return [program("java"), "-XX:TieredStopAtLevel=1", "-cp", class_path, "ForeignClient", *arguments]


def go(*arguments: str) -> list[str]:
    """The command that runs the client in Go."""
    _need(_GO_CLIENT)
    return [str(_GO_CLIENT), *arguments]


def stream_reader(library: str, url: str, token: str) -> list[str]:
    """The command that prints the lines of an event stream as `library` returns them."""
    if library == "java":
        return java("stream", url, token)
    if library == "go":
        return go("stream", url, token)
    if library == "node":
        return [program("node"), str(FOLDER / "stream.mjs"), url, token]
    if library == "curl":
        return [program("curl"), "--silent", "--show-error", "--no-buffer", "--oauth2-bearer", token, url]
    return [sys.executable, str(FOLDER / "stream.py"), library, url, token]


class ForeignProcess:
    """One client. `lines` is what it has printed so far."""

    def __init__(self, command: list[str]) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_line(self, start: str) -> str:
        """Wait until it has printed a line that begins with `start`, and return the line."""
        wait_until(lambda: self._line(start) is not None, why=lambda: f"a line {start!r} in {self.lines}")
        return str(self._line(start))

    def _line(self, start: str) -> str | None:
        return next((line for line in list(self.lines) if line.startswith(start)), None)

    def wait_end(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return self._process.wait(timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=20)
        self._reader.join(timeout=20)
        assert self._process.stdout is not None
        self._process.stdout.close()
