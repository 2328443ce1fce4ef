"""Start and stop what all cases of one run share."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from bench import machine
from bench.systems import Rig

_REDIS_START_S = 10.0


@contextmanager
def open_rig() -> Iterator[Rig]:
    """Start a Redis without persistence on a free port, create a scratch folder, and compile the C programs."""
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as name:
        folder = Path(name)
        load, floor = machine.compile_c("load", folder), machine.compile_c("floor", folder)
        port = machine.free_port()
        with (folder / "redis.log").open("w") as log:
            options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            command = ["taskset", "-c", str(machine.LOAD_CORE), "redis-server", *options, "--dir", name]
            server = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                url = f"redis://127.0.0.1:{port}/0"
                _await_redis(url)
                yield Rig(folder, load, floor, url, server.pid)
            finally:
                server.terminate()
                server.wait()


def _await_redis(url: str) -> None:
    deadline_s = time.monotonic() + _REDIS_START_S
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError as error:
                if time.monotonic() > deadline_s:
                    raise machine.BenchError("redis-server did not start") from error
                time.sleep(0.05)
            else:
                return
