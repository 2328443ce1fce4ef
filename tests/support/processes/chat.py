"""The example chat, started with its command."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.installed_programs import program
from support.ports import free_port
from support.processes.hub import ROOT, environment
from support.waiting import wait_until

# A shell starts background jobs with SIGINT ignored. The chat must still stop on SIGINT.
_IGNORING_SIGINT = ("bash", "-c", """trap '' INT; exec "$@" """, "bash")


def is_ok(port: int, path: str) -> bool:
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def running_chat(folder: Path, *options: str, redis_url: str | None, end: signal.Signals) -> Iterator[str]:
    """The address of the chat, whose data is in the folder. Without a Redis it starts one. `end` stops everything."""
    program("redis-server")
    port, hub_port = free_port(), free_port()
    arguments = ["--port", str(port), "--hub-port", str(hub_port), "--data", str(folder / "chat.sqlite"), *options]
    env = environment()
    env.pop("REDIS_URL", None)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*_IGNORING_SIGINT, sys.executable, str(ROOT / "examples" / "chat"), *arguments],
            env=env if redis_url is None else env | {"REDIS_URL": redis_url},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: is_ok(port, "/") and is_ok(hub_port, "/readyz"),
            within_s=60,
            why=lambda: f"the chat is ready: {(folder / 'log').read_text()[-2000:]}",
        )
        yield f"http://127.0.0.1:{port}"
        process.send_signal(end)
        assert process.wait(timeout=30) == 0
        with pytest.raises(ProcessLookupError):
            # Its child processes have ended as well.
            os.killpg(process.pid, 0)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)
