"""Backends with Pusher's own libraries publish to a hub, and a stock client receives it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.node_program import run

SECRET = "7ad3773142a6692b25b8"
PUSHER = f"""
[namespaces.pusher]
subscribe = "public"
[ingress.pusher]
app_id = "42"
key = "the-key"
secret = "{SECRET}"
prefixes = {{ "private-orders-" = "orders:" }}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    started = HubProcess(tmp_path_factory.mktemp("hub"), config=CONFIG + PUSHER)
    try:
        yield started.start()
    finally:
        started.stop()
    log_text = started.log.read_text()
    assert "Traceback" not in log_text
    assert SECRET not in log_text


@pytest.fixture
def client(hub: HubProcess, clients: list[ClientProcess]) -> ClientProcess:
    channels = ["pusher:lobby", "orders:42", "user:7"]
    started = ClientProcess("js-websocket", hub.url, token=token("7", "orders:*"), channels=channels)
    clients.append(started)
    return started.wait_ready()


def wait_publications(client: ClientProcess, *expected: tuple[str, str, Any]) -> None:
    client.wait(lambda client: len(client.records_of("publication")) >= len(expected), why="all publications")
    events = [(item["event"], item["channel"], item["data"]) for item in client.records_of("publication")]
    assert events == list(expected)


def test_python_library_publishes(hub: HubProcess, client: ClientProcess) -> None:
    import pusher

    backend = pusher.Pusher(app_id="42", key="the-key", secret=SECRET, host="127.0.0.1", port=hub.port, ssl=False)
    before = hub.metric("tidings_wires_published_total")
    assert backend.trigger("lobby", "hello", {"a": [1, 1.5, None, "ü"]}) == {}
    assert backend.trigger(["private-orders-42", "lobby"], "both", "just text") == {}
    batch = [{"channel": "lobby", "name": "one", "data": 1}, {"channel": "private-orders-42", "name": "two", "data": 2}]
    assert backend.trigger_batch(batch) == {}
    assert backend.send_to_user("7", "yours", {"b": True}) == {}
    wait_publications(
        client,
        ("hello", "pusher:lobby", {"a": [1, 1.5, None, "ü"]}),
        ("both", "orders:42", "just text"),
        ("both", "pusher:lobby", "just text"),
        ("one", "pusher:lobby", 1),
        ("two", "orders:42", 2),
        ("yours", "user:7", {"b": True}),
    )
    assert hub.metric("tidings_wires_published_total") == before + 6


def test_invalid_requests_of_the_python_library_are_rejected(hub: HubProcess) -> None:
    import pusher
    from pusher.errors import PusherBadAuth, PusherBadRequest

    def backend(**changed: str) -> Any:
        app = {"app_id": "42", "key": "the-key", "secret": SECRET} | changed
        return pusher.Pusher(**app, host="127.0.0.1", port=hub.port, ssl=False)

    before = hub.metric("tidings_wires_refused_total")
    for wrong in ({"secret": SECRET[::-1]}, {"key": "other"}, {"app_id": "43"}):
        with pytest.raises(PusherBadAuth, match="check"):
            backend(**wrong).trigger("lobby", "hello", 1)
    with pytest.raises(PusherBadRequest, match="socket_id"):
        backend().trigger("lobby", "hello", 1, socket_id="123.456")
    with pytest.raises(PusherBadRequest, match="NaN"):
        backend().trigger("lobby", "hello", {"price": float("nan")})
    with pytest.raises(PusherBadRequest, match="not a channel"):
        backend().trigger("a,b", "hello", 1)
    assert hub.metric("tidings_wires_refused_total") == before + 6


def test_node_library_publishes(hub: HubProcess, client: ClientProcess) -> None:
    app = {"appId": "42", "key": "the-key", "secret": SECRET, "host": "127.0.0.1", "port": str(hub.port)}
    batch = [{"channel": "lobby", "name": "one", "data": {"n": 1}}]
    calls = [
        ["trigger", ["lobby", "hello", {"a": "ü"}]],
        ["trigger", [["private-orders-42", "lobby"], "both", "just text"]],
        ["triggerBatch", [batch]],
        ["sendToUser", ["7", "yours", {"b": True}]],
        ["trigger", ["lobby", "hello", 1, {"socket_id": "123.456"}]],
        ["trigger", ["nowhere-else", "tidings:close", 1]],
    ]
    answers = run("pusher.mjs", {"app": app, "calls": calls})
    assert [(item["status"], item["body"]) for item in answers[:4]] == [(200, "{}")] * 4
    assert [item["status"] for item in answers[4:]] == [400, 400]
    assert "socket_id" in answers[4]["body"]
    assert "reserved" in answers[5]["body"]
    (refused,) = run("pusher.mjs", {"app": app | {"secret": SECRET[::-1]}, "calls": [["trigger", ["lobby", "x", 1]]]})
    assert refused["status"] == 401
    wait_publications(
        client,
        ("hello", "pusher:lobby", {"a": "ü"}),
        ("both", "orders:42", "just text"),
        ("both", "pusher:lobby", "just text"),
        ("one", "pusher:lobby", {"n": 1}),
        ("yours", "user:7", {"b": True}),
    )
