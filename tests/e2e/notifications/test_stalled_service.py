"""A notification service that accepts requests and never answers: everything else of the hub works meanwhile.

The tests compare orders, not times: requests to the inbox are still unanswered when everything else is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.scripted_server import Peer, Script, ScriptedServer, dripping, silent
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.waiting import wait_until

# More requests than this go to the service at once in each test.
REQUESTS_MAX = 4
CLIENTS = 6
DRIP: Script = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n{")


class StalledHub:
    """A hub whose service runs a script. It waits a minute for each answer."""

    def __init__(self, folder: Path, script: Script, *, options: str = "") -> None:
        self.service = ScriptedServer(script).start()
        bounds = f"request_timeout_s = 60\nrequests_max = {REQUESTS_MAX}\n{options}"
        table = f'[notifications]\nurl = "{self.service.url}"\n{bounds}'
        # Few greenlets, so that requests to the service would take all of them.
        few = "handlers = 4\nwsgi_requests = 4\n"
        self.hub = HubProcess(folder, extra=few, config=CONFIG + table).start()

    def stop(self) -> None:
        self.hub.stop()
        self.service.close()


@pytest.fixture(params=[silent, DRIP], ids=["silent", "drips"])
def stalled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StalledHub]:
    scene = StalledHub(tmp_path, request.param)
    yield scene
    scene.stop()


def in_background(hub: HubProcess, method: str, path: str, body: object, headers: dict[str, str] | None = None) -> None:
    """Send a request whose answer never comes within the test."""

    def send() -> None:
        try:
            hub.request(method, path, body, headers)
        except OSError:
            # The hub ends, or the client has waited long enough.
            return

    threading.Thread(target=send, daemon=True).start()


def test_everything_else_works_while_requests_wait(stalled: StalledHub, clients: list[ClientProcess]) -> None:
    hub = stalled.hub
    for number in range(CLIENTS):
        client = ClientProcess("python-websocket", hub.url, token=token(f"u{number}"), channels=["chat:a"])
        clients.append(client)
    for client in clients:
        client.wait_ready()
        client.send_command({"emit": "tidings:inbox", "data": {}})
        client.send_command({"emit": "tidings:inbox_mark", "data": {"action": "read", "all": True}})
    for number in range(CLIENTS):
        headers = {"Authorization": f"Bearer {token(f'u{number}')}"}
        in_background(hub, "GET", "/inbox", None, headers)
        notification = {"category": "a", "user": f"u{number}", "title": "T"}
        in_background(hub, "POST", "/api/notifications", notification)
    # Clients and backends have all the requests to the service that they may have.
    wait_until(
        lambda: hub.metric("tidings_notification_requests_active") >= 2 * REQUESTS_MAX,
        why=lambda: f"requests wait, not {hub.metric('tidings_notification_requests_active')}",
    )
    # Backends publish, and each client receives it.
    for number in range(20):
        hub.publish("chat:a", "n", number)
    for client in clients:
        client.wait(lambda self: self.data("chat:a")[:20] == list(range(20)), why="the publications")
    # Other events of a client whose requests wait, and new clients.
    assert "error" not in clients[0].request("tidings:subscribe", {"channels": ["ticks:a"]})
    assert "id" in clients[0].request("tidings:publish", {"channel": "chat:a", "event": "n", "data": 20})
    late = ClientProcess("python-polling", hub.url, token=token("late"), channels=["chat:a"])
    clients.append(late)
    late.wait_ready()
    # The node serves its probes and pages, and is ready: its clients need no inbox.
    status, ready, _ = hub.get("/readyz")
    assert (status, "notifications" in ready["checks"]) == (200, True)
    assert hub.get("/api/nodes")[0] == 200
    # All this time no request has been answered.
    assert hub.metric("tidings_notification_requests_active") >= 2 * REQUESTS_MAX
    assert hub.metric("tidings_notification_requests_total") == 0
    assert len(clients[0].records_of("ack")) == 2


def test_waiting_requests_fail_when_the_service_ends_and_work_when_it_is_back(
    tmp_path: Path, clients: list[ClientProcess]
) -> None:
    ending = threading.Event()

    def end(peer: Peer) -> None:
        peer.read_request()
        ending.wait(60)

    scene = StalledHub(tmp_path, end)
    try:
        client = ClientProcess("python-websocket", scene.hub.url, token=token("ann"), channels=[])
        clients.append(client)
        client.wait_ready()
        client.send_command({"emit": "tidings:inbox", "data": {}})
        wait_until(lambda: scene.hub.metric("tidings_notification_requests_active") >= 1, why="the request waits")
        scene.service.close()
        ending.set()
        client.wait(lambda self: self.records_of("ack"), why="the refusal")
        assert client.records_of("ack")[0]["answer"]["error"]["code"] == "unavailable"
        wait_until(
            lambda: scene.hub.get("/readyz")[1]["checks"]["notifications"] == "no answer",
            why=lambda: f"the state: {scene.hub.get('/readyz')}",
        )
        assert scene.hub.get("/readyz")[0] == 200
        # Now requests fail at once.
        assert client.request("tidings:inbox", {})["error"]["code"] == "unavailable"
        assert "does not answer" in scene.hub.log.read_text()
    finally:
        scene.stop()


def test_requests_beyond_the_waiting_ones_are_refused_at_once(tmp_path: Path, clients: list[ClientProcess]) -> None:
    scene = StalledHub(tmp_path, silent, options="requests_waiting_max = 4\n")
    try:
        client = ClientProcess("python-websocket", scene.hub.url, token=token("ann"), channels=[])
        clients.append(client)
        client.wait_ready()
        client.send_command({"emit": "tidings:inbox", "data": {}})
        # The node's own question is another one.
        wait_until(lambda: scene.hub.metric("tidings_notification_requests_active") == 2, why="it is in progress")
        # A client may have a quarter of those that wait.
        for _ in range(4):
            client.send_command({"emit": "tidings:inbox", "data": {}})
        client.wait(lambda self: len(self.records_of("ack")) == 3, why="the refusals")
        assert {record["answer"]["error"]["code"] for record in client.records_of("ack")} == {"unavailable"}
        assert scene.hub.metric("tidings_notification_requests_refused_total") == 3
    finally:
        scene.stop()
