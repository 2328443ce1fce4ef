"""A full hub: probes, metrics and backends are served, and sessions that were refused return later."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.raw_client import HANDSHAKE, RawClient, RawWebSocket, request
from support.network.raw_polling import POLL, open_session
from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

SOCKET = "/socket.io/?EIO=4&transport=websocket"
LONG_TIMEOUTS = "connect_timeout_s = 300\nupgrade_timeout_s = 120\nbody_timeout_s = 120\n"
PUSHER_SECRET = "7ad3773142a6692b25b8"
PUSHER = f"""
[ingress.pusher]
app_id = "42"
key = "the-key"
secret = "{PUSHER_SECRET}"
namespace = "chat"
"""
WSGI_APP = """
import time
def app(environ, start_response):
    time.sleep(20)
    start_response("200 OK", [])
    return [b"late"]
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path, extra="max_connections = 3\nreserved_connections = 16\nconnect_timeout_s = 300\n")
    yield process.start()
    process.stop()


def fill(hub: HubProcess) -> list[RawWebSocket]:
    """Sessions until one is refused."""
    websockets = []
    while (websocket := RawWebSocket(hub.port, SOCKET)).handshake.status == 101:
        websockets.append(websocket)
    assert websocket.handshake.status == 503
    return websockets


def assert_served(hub: HubProcess) -> None:
    """Probes, metrics and backends are answered."""
    assert hub.get("/healthz")[0] == 200
    assert hub.get("/readyz")[0] == 200
    assert hub.metric("tidings_refused_full_total") >= 1
    assert hub.publish("chat:1", "said", {"n": 1})["id"]


def test_full_node_serves_probes_metrics_and_backends(hub: HubProcess) -> None:
    websockets = fill(hub)
    assert len(websockets) == 3
    assert_served(hub)
    silent = [RawClient(hub.port) for _ in range(100)]
    for _ in range(5):
        assert_served(hub)
    assert hub.metric("tidings_sockets_shed_total") >= 100 - 16
    assert len(silent) == 100


@pytest.mark.parametrize("unfinished", ["probe", "post"])
def test_unfinished_requests_of_sessions_leave_room_for_probes(tmp_path: Path, unfinished: str) -> None:
    """Sessions with a waiting poll and an upgrade, or a POST, that never ends: more sockets than the node takes."""
    hub = HubProcess(tmp_path, extra="max_connections = 20\nreserved_connections = 16\n" + LONG_TIMEOUTS).start()
    try:
        sids = [open_session(hub.port) for _ in range(20)]
        polls = [RawClient(hub.port) for _ in sids]
        for client, sid in zip(polls, sids, strict=True):
            client.send_request("GET", f"{POLL}&sid={sid}")
        others = [RawClient(hub.port) for _ in sids]
        for client, sid in zip(others, sids, strict=True):
            if unfinished == "post":
                client.send(f"POST {POLL}&sid={sid} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n4".encode())
            else:
                client.send_request("GET", f"{SOCKET}&sid={sid}", **HANDSHAKE)
        for _ in range(5):
            assert request(hub.port, "GET", "/healthz").status == 200
        assert hub.metric("tidings_accept_paused_total") == 0
        assert hub.metric("tidings_sockets_shed_total") > 0
    finally:
        hub.stop()


@pytest.mark.parametrize("kind", ["stock", "sdk"])
def test_client_connects_by_itself_once_there_is_room(hub: HubProcess, clients: list[ClientProcess], kind: str) -> None:
    websockets = fill(hub)
    text = token("u1", "orders:1")
    client = ClientProcess(kind, hub.url, token=text, tokens=[text], channels=["orders:1"])
    clients.append(client)
    wait_until(lambda: hub.metric("tidings_refused_full_total") >= 2, why="the client is refused")
    for websocket in websockets:
        websocket.socket.close()
    client.wait(lambda client: client.records_of("ready"), why="the client is connected")


def test_node_without_free_descriptors_serves_probes_metrics_and_backends(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, extra="connect_timeout_s = 300\n")
    hub.start()
    try:
        used = len(list(Path(f"/proc/{hub.pid}/fd").iterdir()))
        resource.prlimit(hub.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
        websockets = fill(hub)
        assert 10 <= len(websockets) <= 40
        assert_served(hub)
        silent = [RawClient(hub.port) for _ in range(100)]
        for _ in range(5):
            assert_served(hub)
        assert "no free file descriptor" in hub.log.read_text()
        assert len(silent) == 100
    finally:
        hub.stop()


def test_low_limit_of_open_files_lowers_the_number_of_sessions(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, extra="max_connections = 4000000\n")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        hub.start()
        # The node has raised its soft limit. Its children would inherit it; this process is not affected.
        assert resource.prlimit(hub.pid, resource.RLIMIT_NOFILE) == (limits[1], limits[1])
        assert "max_connections = 4000000 needs" in hub.log.read_text()
    finally:
        hub.stop()


def test_slow_application_does_not_delay_probes_and_backends(tmp_path: Path) -> None:
    from pusher import Pusher

    (tmp_path / "slow_app.py").write_text(WSGI_APP)
    extra = 'wsgi = "slow_app:app"\nwsgi_requests = 2\nwsgi_queue = 1\n'
    hub = HubProcess(tmp_path, extra=extra, config=CONFIG + PUSHER)
    try:
        hub.start()
        waiting = [RawClient(hub.port) for _ in range(3)]
        for client in waiting:
            client.send_request("GET", "/page")
        wait_until(lambda: request(hub.port, "GET", "/page").status == 503, why="the application has no room")
        assert hub.get("/healthz")[0] == 200
        assert hub.get("/readyz")[0] == 200
        assert hub.publish("chat:1", "said", {"n": 1})["id"]
        backend = Pusher(app_id="42", key="the-key", secret=PUSHER_SECRET, host="127.0.0.1", port=hub.port, ssl=False)
        assert backend.trigger("lobby", "said", {"n": 2}) == {}
        assert backend.trigger_batch([{"channel": "lobby", "name": "said", "data": {"n": 3}}]) == {}
        assert len(waiting) == 3
    finally:
        hub.stop()


def test_probes_of_one_address_leave_room_for_those_of_others(tmp_path: Path) -> None:
    """Anyone may send them. Refused its own, a supervisor kills the node."""
    hub = HubProcess(tmp_path).start()
    try:
        # Stopped, the node gets all of them in one turn.
        hub.pause()
        flood = [RawClient(hub.port, address="127.0.0.2") for _ in range(300)]
        for client in flood:
            client.send_request("GET", "/readyz")
        supervisor = RawClient(hub.port)
        supervisor.send_request("GET", "/readyz")
        hub.resume()
        assert supervisor.response().status == 200
        statuses = Counter(client.response().status for client in flood)
        assert statuses.keys() == {200, 503}
        assert statuses[200] >= 16
    finally:
        hub.stop()


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[tuple[HubProcess, HubProcess]]:
    """A node with little room, and one that owns sessions. Each relays requests to the other."""
    redis, nodes = RedisProcess(tmp_path).start(), []
    for name, room in (("small", "max_connections = 20\nreserved_connections = 16\n"), ("owner", "")):
        folder, port = tmp_path / name, free_port()
        folder.mkdir()
        extra = room + f'node_id = "{name}"\nadvertise = "127.0.0.1:{port}"\n' + LONG_TIMEOUTS
        node = HubProcess(folder, "--broker", redis.url, extra=extra)
        node.port = port
        nodes.append(node.start())
    yield nodes[0], nodes[1]
    for process in (*nodes, redis):
        process.stop()


def test_relayed_requests_and_sessions_together_leave_room_for_probes(
    two_nodes: tuple[HubProcess, HubProcess],
) -> None:
    """Neither is closed for a new socket. With room for each alone, both would use up the reserve."""
    small, owner = two_nodes
    polls = [RawClient(small.port) for _ in range(26)]
    for client in polls:
        client.send_request("GET", f"{POLL}&sid={open_session(owner.port)}")
    wait_until(lambda: owner.metric("tidings_relay_taken_total") == len(polls), why="the polls wait at their owner")
    websockets = fill(small)
    assert_served(small)
    assert small.metric("tidings_accept_paused_total") == 0
    assert len(websockets) < 20


def test_silent_sockets_leave_room_for_relayed_requests(two_nodes: tuple[HubProcess, HubProcess]) -> None:
    small, owner = two_nodes
    sid = open_session(owner.port)
    assert len(fill(small)) == 20
    silent = [RawClient(small.port) for _ in range(30)]
    assert request(small.port, "POST", f"{POLL}&sid={sid}", b"3").status == 200
    assert len(silent) == 30


def test_relayed_requests_that_use_up_the_descriptors_leave_room_for_metrics(
    two_nodes: tuple[HubProcess, HubProcess],
) -> None:
    """Each takes two descriptors. The first scrape must not need to open files either."""
    small, owner = two_nodes
    sids = [open_session(owner.port) for _ in range(60)]
    used = len(list(Path(f"/proc/{small.pid}/fd").iterdir()))
    resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
    polls = [RawClient(small.port) for _ in sids]
    for client, sid in zip(polls, sids, strict=True):
        client.send_request("GET", f"{POLL}&sid={sid}")
    for _ in range(5):
        assert small.get("/healthz")[0] == 200
        assert small.get("/readyz")[0] == 200
        assert small.metric("tidings_relay_full_total") + small.metric("tidings_relay_failed_total") > 0
        assert small.publish("chat:1", "said", {"n": 1})["id"]
