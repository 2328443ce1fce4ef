"""Processes on this machine: start, stop, CPU, memory, versions."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
# The server under test has one core. Everything else (load, emitter, Redis) shares the other one.
SERVER_CORE = 0
LOAD_CORE = 1
_STOP_S = 15.0


class BenchError(Exception):
    """A run without a result: a server did not start, or a client was rejected."""


def spawn(command: Sequence[str], *, core: int, log: IO[str] | None = None) -> subprocess.Popen[str]:
    """Start a process on one core, with pipes for stdin and stdout; its stderr goes to `log`."""
    pinned = ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else list(command)
    # The child imports from the same paths as this process.
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "NODE_ENV": "production"}
    return subprocess.Popen(
        pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1, env=environ
    )


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What this process starts in the block runs on one core."""
    before = os.sched_getaffinity(0)
    if core < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def send_line(process: subprocess.Popen[str], line: str) -> None:
    """Write one line to the stdin of the process."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def read_reply(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Read the next line of JSON that the process prints.

    Raises:
        BenchError: the process ended.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError(f"ended with {process.wait()}: {' '.join(map(str, process.args))[:200]}")  # type: ignore[arg-type]
    reply: dict[str, Any] = json.loads(line)
    return reply


def stop(process: subprocess.Popen[str]) -> None:
    """Stop the process: close its stdin, send SIGTERM, then SIGKILL."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_s(pid: int) -> float:
    """CPU seconds that all threads of a process have used so far (proc(5), schedstat, in ns)."""
    used = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        used += int((task / "schedstat").read_text().split()[0])
    return used / 1e9


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process. In `pss_bytes` each shared page counts in proportion."""

    rss_bytes: int
    pss_bytes: int


def memory(pid: int) -> Memory:
    """Resident memory of the process now."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * 1024
    return Memory(sizes["Rss"], sizes["Pss"])


def reset_peak(pid: int) -> None:
    """Let `peak_bytes` start from the present resident memory (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The largest resident memory of the process since `reset_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def open_files(pid: int) -> int:
    """Number of open file descriptors of the process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def kernel_bytes() -> int:
    """Slab memory of the kernel (/proc/meminfo): sockets, files and epoll entries of all processes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) * 1024
    return 0


def compile_c(name: str, into: Path) -> Path:
    """Compile one of the C programs in this folder.

    Raises:
        BenchError: no C compiler is installed, or the compiler failed.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError("the load generator is C: install a C compiler (`cc`)")
    binary = into / name
    flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
    completed = subprocess.run(
        [compiler, *flags, "-o", str(binary), str(HERE / f"{name}.c")], check=False, capture_output=True, text=True
    )
    if completed.returncode:
        raise BenchError(completed.stderr)
    return binary


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip().splitlines()[0]


def describe() -> dict[str, str]:
    """The machine and the versions that the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    redis_line = _first_line("redis-server", "--version").split()
    node = {}
    lock = HERE / "package-lock.json"
    if lock.exists():
        packages = json.loads(lock.read_text())["packages"]
        node = {name: packages[f"node_modules/{name}"]["version"] for name in ("socket.io", "@socket.io/redis-adapter")}
    return {
        "processor": f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("python-socketio", "python-engineio", "eventlet", "redis")},
        "node": _first_line("node", "--version"),
        **node,
        "redis-server": redis_line[2].removeprefix("v=") if len(redis_line) > 2 else "not installed",
        "compiler": _first_line("cc", "--version"),
    }
