"""A Flask application on the hub's port (`--wsgi`): which paths the hub serves, and which the application serves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.clients.test_access import connect_ready, receive_event
from support.network.raw_client import RawClient
from support.processes.hub import HubProcess, token

MODULE = """
import time
from flask import Flask, jsonify, request
from tidings_hub import App

app = Flask(__name__)
hub = App()


@app.get("/")
def index():
    return "the shop"


@app.route("/<path:path>", methods=["GET", "POST"])
def anything(path):
    return jsonify(path=path, body=request.get_data(as_text=True), secure=request.is_secure, mine=True)


@app.get("/orders/<name>/ship")
def ship(name):
    return hub.emit("shipped", {"order": name}, channel=f"orders:{name}").cursor


@app.get("/slow")
def slow():
    time.sleep(0.5)
    return "slow"


@app.get("/broken")
def broken():
    raise ValueError("no")
"""


# What frameworks pass on: a body that HTTP does not allow, and one that does not have its length.
PLAIN_MODULE = """
import sys
STRAY = b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nSTRAY"

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/exit":
        sys.exit(3)
    headers = {"/long": [("Content-Length", "1")], "/short": [("Content-Length", "99")]}.get(path, [])
    start_response("204 No Content" if path == "/204" else "200 OK", headers)
    return [b"next"] if path == "/next" else [STRAY]
"""


@pytest.fixture(scope="module")
def plain_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    folder = tmp_path_factory.mktemp("plain_hub")
    (folder / "plain.py").write_text(PLAIN_MODULE)
    process = HubProcess(folder, "--wsgi", "plain:app").start()
    yield process
    process.stop()


def read_until(client: RawClient, end: bytes) -> bytes:
    """What arrives up to the first `end`."""
    while end not in client.buffer:
        data = client.read()
        assert data, f"the connection ended after {client.buffer!r}"
        client.buffer += data
    before, _, client.buffer = client.buffer.partition(end)
    return before + end


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/long", "/short", "/204", "/other", "/exit"])
def test_nothing_follows_a_response(plain_hub: HubProcess, method: str, path: str) -> None:
    """Otherwise it would be the response to the next request: behind a proxy that of another client."""
    with RawClient(plain_hub.port) as client:
        client.send_request(method, path)
        head = read_until(client, b"\r\n\r\n")
        if b"Connection: close" in head:
            assert b" 500 " in head
            return
        if (method, path) == ("GET", "/other"):
            assert read_until(client, b"STRAY").endswith(b"STRAY")
        client.send_request("GET", "/next")
        assert read_until(client, b"next").startswith(b"HTTP/1.1 200 OK")
    assert plain_hub.get("/healthz")[0] == 200


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    folder = tmp_path_factory.mktemp("hub")
    (folder / "myshop.py").write_text(MODULE)
    (folder / "static").mkdir()
    (folder / "static" / "own.txt").write_text("mine")
    process = HubProcess(folder, "--wsgi", "myshop:app", "--app", "myshop").start()
    yield process
    process.stop()


@pytest.mark.parametrize(
    "path", ["/shop", "/apps/42/events", "/apiary", "/API/publish", "/healthzz", "/sse/x", "/socket.io.js", "/static/x"]
)
def test_other_paths_are_served_by_the_application(hub: HubProcess, path: str) -> None:
    status, body, _ = hub.request("POST", path, b"body")
    assert (status, body) == (200, {"path": path.lstrip("/"), "body": "body", "secure": False, "mine": True})


def test_paths_of_the_hub_are_served_by_the_hub(hub: HubProcess) -> None:
    assert hub.get("/")[1] == b"the shop"
    assert hub.get("/static/own.txt")[1] == b"mine"
    assert hub.get("/healthz")[1]["status"] == "ok"
    assert hub.get("/readyz")[0] == 200
    assert hub.get("/api")[1]["error"]["code"] == "not_found"
    assert b"tidings_wsgi_requests_total" in hub.get("/metrics")[1]
    assert hub.request("POST", "/api/publish", headers={"Authorization": "Bearer x"})[0] == 401
    assert hub.get("/sse?channels=chat:a")[0] == 401
    assert hub.get("/socket.io/?EIO=4&transport=polling")[1].startswith(b"0{")


def test_view_publishes_through_the_app(hub: HubProcess) -> None:
    client, _ = connect_ready(hub, {"token": token("ann", "orders:*"), "channels": ["orders:7"]})
    cursor = hub.get("/orders/7/ship")[1].decode()
    assert receive_event(client) == ["shipped", {"order": "7"}, "orders:7", cursor]


def test_failing_view_affects_only_its_own_request(hub: HubProcess) -> None:
    assert hub.get("/broken")[0] == 500
    assert hub.get("/slow")[1] == b"slow"
    assert "ValueError: no" in hub.log.read_text()
