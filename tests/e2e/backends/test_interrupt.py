"""SIGINT ends a command that a shell started as a background job, with SIGINT ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from support.processes.hub import HubProcess, environment, token
from support.waiting import wait_until


def test_sigint_ends_a_command_that_was_started_with_sigint_ignored(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path).start()
    tail = [sys.executable, "-m", "tidings_hub", "tail", "orders:1", "--url", hub.url, "--token", token("tail", "*")]
    process = subprocess.Popen(["bash", "-c", """trap '' INT; exec "$@" """, "bash", *tail], env=environment())
    try:
        wait_until(lambda: hub.metric("tidings_subscriptions") > 0, why="the subscription of the command")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait(20)
        hub.stop()
