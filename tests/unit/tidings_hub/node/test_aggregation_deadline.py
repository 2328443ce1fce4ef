"""A worker that responds one byte at a time does not hold `/readyz` of the others. Runs a patched child process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.processes.hub import environment

PROGRAM = """
from tidings_hub import runtime
runtime.patch()
import json, socket, sys, threading, time
from types import SimpleNamespace
from tidings_hub.node.aggregation import WorkerAggregation

path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()

def drip():
    connection, _ = listener.accept()
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.1)

threading.Thread(target=drip, daemon=True).start()
relay = SimpleNamespace(
    nodes=SimpleNamespace(own_id="n-0", siblings=lambda: {"n-1": "unix:" + path}),
    keys=[b"k" * 32],
    cluster_time_s=time.time,
    context=SimpleNamespace(metrics=SimpleNamespace(workers_silent=0)),
)

def app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps({"ready": True, "checks": {}}).encode()]

began_s = time.monotonic()
environ = {"PATH_INFO": "/readyz", "REQUEST_METHOD": "GET"}
(body,) = WorkerAggregation(app, relay)(environ, lambda *_: None)
assert time.monotonic() - began_s < 8, time.monotonic() - began_s
assert relay.context.metrics.workers_silent == 1
print(json.loads(body)["checks"]["workers"])
"""


def test_sibling_that_drips_is_silent_after_the_timeout(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "n-1")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert process.stdout == "{'n-0': True, 'n-1': False}\n", process.stderr
