"""A wall clock per process that a test can set. Compiles and preloads clock.c."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.installed_programs import program

_FILE_BYTES = 32


class Clock:
    """The wall clock of a process that is started with `environment()`. `file` stores its offset."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = file.parent / "clock.so"
        if not self._library.exists():
            source = Path(__file__).parent / "clock.c"
            flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
            subprocess.run([program("cc"), *flags, "-o", str(self._library), str(source)], check=True)
        self.jump(0)

    def jump(self, by_s: int) -> None:
        """Set the offset of the clock, in seconds."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(str(by_s).encode().ljust(_FILE_BYTES, b"\0"))

    def environment(self) -> dict[str, str]:
        """The environment variables of the process."""
        return {"LD_PRELOAD": str(self._library), "FAULTS_CLOCK": str(self._file)}

    def program(self, *command: str) -> tuple[str, ...]:
        """Wrap a command so that it runs with this clock."""
        return "env", *(f"{name}={value}" for name, value in self.environment().items()), *command
