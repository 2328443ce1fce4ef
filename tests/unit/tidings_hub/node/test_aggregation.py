"""`/readyz` for all workers, whatever one of them does. Each test runs a patched child process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.processes.hub import environment

# This worker responds as `own` says, and its sibling runs `serve` for each request.
PROGRAM = """
from tidings_hub import runtime
runtime.patch()
import json, logging, socket, sys, threading, time
from types import SimpleNamespace
from tidings_hub.node.aggregation import WorkerAggregation

path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()

def accept():
    while True:
        connection, _ = listener.accept()
        connection.recv(65_536)
        serve(connection)
        connection.close()

threading.Thread(target=accept, daemon=True).start()
relay = SimpleNamespace(
    nodes=SimpleNamespace(own_id="n-0", siblings=lambda: {"n-1": "unix:" + path}),
    keys=[b"k" * 32],
    cluster_time_s=time.time,
    context=SimpleNamespace(metrics=SimpleNamespace(workers_silent=0)),
)

def app(environ, start_response):
    status, state = own
    start_response(status, [])
    return [json.dumps(state).encode()] if environ["REQUEST_METHOD"] == "GET" else []

def ask(method, path="/readyz"):
    head = []
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method}
    parts = WorkerAggregation(app, relay)(environ, lambda status, headers: head.append((status, dict(headers))))
    return *head[0], b"".join(parts)
"""
DRIPS = """
def serve(connection):
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nX: ")
    try:
        while True:
            connection.sendall(b"x")
            time.sleep(0.1)
    except OSError:
        pass

own = "200 OK", {"ready": True, "checks": {}}
began_s = time.monotonic()
_, _, body = ask("GET")
assert time.monotonic() - began_s < 8, time.monotonic() - began_s
assert relay.context.metrics.workers_silent == 1
print(json.loads(body)["checks"]["workers"])
"""
ONLY_THE_SIBLING_IS_READY = """
def serve(connection):
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")

own = "503 SERVICE UNAVAILABLE", {"ready": False, "checks": {}}
status, headers, body = ask("GET")
assert json.loads(body)["checks"]["workers"] == {"n-0": False, "n-1": True}
assert headers["Content-Length"] == str(len(body))
print(status, ask("HEAD") == (status, headers, b""))
"""
SILENT = """
def serve(connection):
    pass

logging.basicConfig(stream=sys.stdout, format="%(message)s")
own = "200 OK", {"ready": True, "checks": {}}
for _ in range(3):
    ask("GET")
"""
WITHOUT_A_KEY = """
connections = []

def serve(connection):
    connections.append(connection)

own = "401 UNAUTHORIZED", {"error": {"code": "unauthorized"}}
print(ask("GET", "/metrics")[0], ask("GET", "/readyz")[0], len(connections), relay.context.metrics.workers_silent)
"""


def run(tmp_path: Path, scene: str) -> str:
    """The output of a program."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + scene, str(tmp_path / "n-1")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_sibling_that_drips_is_silent_after_the_timeout(tmp_path: Path) -> None:
    assert run(tmp_path, DRIPS).splitlines()[-1] == "{'n-0': True, 'n-1': False}"


def test_machine_is_ready_while_one_worker_is_also_for_a_probe_with_head(tmp_path: Path) -> None:
    """A balancer may send HEAD to save the body."""
    assert run(tmp_path, ONLY_THE_SIBLING_IS_READY) == "200 OK True\n"


def test_probes_of_anyone_do_not_fill_the_log_while_a_worker_is_away(tmp_path: Path) -> None:
    assert run(tmp_path, SILENT).count("n-1 did not answer") == 1


def test_refused_request_does_not_wait_for_siblings(tmp_path: Path) -> None:
    """Probes share their greenlets: anyone without a key could delay those of a supervisor while a worker hangs."""
    assert run(tmp_path, WITHOUT_A_KEY) == "401 UNAUTHORIZED 401 UNAUTHORIZED 0 0\n"
