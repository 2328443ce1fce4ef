"""Worker processes, with small programs instead of nodes."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from collections.abc import Iterator

import pytest

from tidings_hub.node.liveness import Liveness
from tidings_hub.node.worker import Worker
from tidings_hub.node.worker_process import WorkerProcess

WRITE = "import json, os; pipe = json.loads(os.environ['TIDINGS_WORKER'])['beat_fd']; os.write(pipe, {0}); input()"


@pytest.fixture
def process() -> Iterator[WorkerProcess]:
    worker = WorkerProcess(
        "w-0", Worker(0, {"w-0": "unix:/w-0"}), os.environ, Liveness(timeout_s=20, start_timeout_s=60)
    )
    yield worker
    stop(worker)


def stop(process: WorkerProcess) -> int:
    """Kill the process, if it runs; return its exit code."""
    running = process.running
    if running is None:
        return 0
    process.kill()
    running.wait()
    process.on_exited()
    return running.returncode


def read(process: WorkerProcess, now_s: float) -> bool:
    """Wait for a heartbeat or the end of the pipe, and read it."""
    assert process.beats is not None
    select.select([process.beats], [], [], 60)
    return process.read_beats(now_s=now_s)


def start(process: WorkerProcess, message: bytes) -> None:
    """Start a program at second 0 that writes `message` to its pipe, and read it at second 1."""
    process.start([sys.executable, "-c", WRITE.format(message)], now_s=0.0)
    assert read(process, 1.0)


def test_worker_that_listens_hangs_when_its_heartbeats_end(process: WorkerProcess) -> None:
    start(process, b".L")
    assert process.liveness.has_listened
    assert process.due_s == 21.0
    assert not process.is_hung(now_s=20.9)
    assert process.is_hung(now_s=21.0)
    # It is reported once. The system needs a moment to end it.
    assert not process.is_hung(now_s=99.0)
    assert process.due_s is None


def test_heartbeats_that_the_supervisor_has_not_read_count(process: WorkerProcess) -> None:
    process.start([sys.executable, "-c", WRITE.format(b".L")], now_s=0.0)
    assert process.beats is not None
    select.select([process.beats], [], [], 60)
    assert not process.is_hung(now_s=500.0)
    assert process.due_s == 520.0


def test_worker_that_never_listens_hangs(process: WorkerProcess) -> None:
    start(process, b".")
    process.liveness.on_beat(now_s=59.0)
    assert not process.is_hung(now_s=59.9)
    assert process.is_hung(now_s=60.0)


def test_stopped_worker_is_killed(process: WorkerProcess) -> None:
    start(process, b".L")
    assert process.running is not None
    process.running.send_signal(signal.SIGSTOP)
    assert stop(process) == -signal.SIGKILL


def test_pipe_ends_with_the_process_and_the_counts_outlive_it(process: WorkerProcess) -> None:
    start(process, b".L")
    assert process.is_hung(now_s=30.0)
    pipe = process.running.stdin if process.running is not None else None
    assert pipe is not None
    pipe.close()
    assert not read(process, 31.0)
    stop(process)
    assert not process.liveness.has_listened
    program = "import json, os; w = json.loads(os.environ['TIDINGS_WORKER']); "
    program += "os.write(w['beat_fd'], b'L' * (w['restarts'] == 1 and w['hangs'] == 1)); input()"
    process.start([sys.executable, "-c", program], now_s=40.0)
    assert read(process, 41.0)
    assert process.liveness.has_listened


def test_failed_start_is_tried_again_later(process: WorkerProcess) -> None:
    with pytest.raises(OSError, match="No such file"):
        process.start(["/nowhere/tidings"], now_s=10.0)
    assert process.running is None
    assert process.due_s is not None
    assert process.due_s > 10.0


def test_start_without_free_descriptors_is_tried_again_later(process: WorkerProcess) -> None:
    """It was never started again: the other workers had to serve its clients for good."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Open descriptors stay usable.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            process.start([sys.executable, "-c", "input()"], now_s=10.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert process.running is None
    assert process.due_s is not None
    assert process.due_s > 10.0
    start(process, b".L")
    assert process.liveness.has_listened
