"""Any node serves any request: stock clients behind a balancer without sticky sessions, and forged requests."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import websocket

from support.network.balancer import Balancer
from support.network.raw_polling import POLL, connect, exchange, open_session, request, status_of
from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.hub import SECRET, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter
from tidings_hub.core.relay_stamp import STAMP_HEADER, Stamp, stamp_key, write_stamp

LEASE_S = 1.5


def node(folder: Path, redis: RedisProcess, name: str, extra: str = "") -> HubProcess:
    """Create a hub that other hubs can reach."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    settings = f'node_id = "{name}"\nadvertise = "127.0.0.1:{port}"\nlease_s = {LEASE_S}\n'
    settings += "drain_s = 0.5\ndrain_notice_s = 0.2\n"
    hub = HubProcess(folder, "--broker", redis.url, extra=settings + extra)
    hub.port = port
    return hub


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def hubs(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[HubProcess]]:
    folder = tmp_path_factory.mktemp("hubs")
    nodes = [node(folder / name, redis, name, "relay_max = 40\nout_buffer_bytes = 67108864\n") for name in ("n1", "n2")]
    for hub in nodes:
        hub.start()
    yield nodes
    for hub in nodes:
        hub.stop()


@pytest.fixture
def balancer(hubs: list[HubProcess]) -> Iterator[Balancer]:
    with closing(Balancer(*(hub.port for hub in hubs))) as created:
        yield created


def emit(redis: RedisProcess, channel: str, first: int, last: int) -> None:
    with Emitter(redis.url) as emitter:
        for number in range(first, last):
            emitter.emit("updated", {"n": number}, channel=channel)


def numbers(first: int, last: int) -> list[dict[str, int]]:
    return [{"n": number} for number in range(first, last)]


def test_polling_clients_work_when_requests_alternate_between_nodes(
    redis: RedisProcess, hubs: list[HubProcess], balancer: Balancer, clients: list[ClientProcess]
) -> None:
    kinds = ["python-polling", "python-polling", "js-polling", "js-polling"]
    for number, kind in enumerate(kinds):
        clients.append(
            ClientProcess(kind, balancer.url, token=token(f"p{number}", "orders:*"), channels=["orders:rr", "chat:rr"])
        )
    for client in clients:
        client.wait_ready()
    emit(redis, "orders:rr", 0, 300)
    for number, client in enumerate(clients):
        # A POST through the next node while publications arrive.
        receipt = client.request(
            "tidings:publish", {"channel": "chat:rr", "event": "said", "data": {"by": number}, "id": f"m{number}"}
        )
        assert receipt["duplicate"] is False
    emit(redis, "orders:rr", 300, 600)
    for last in range(601, 611):
        # One publication at a time, so that each is the response to a separate poll.
        for client in clients:
            client.wait(
                lambda client, last=last: len(client.data("orders:rr")) >= last - 1, why=f"{last - 1} publications"
            )
        emit(redis, "orders:rr", last - 1, last)
    for client in clients:
        client.wait(lambda client: len(client.data("orders:rr")) >= 610, why="610 publications")
        client.wait(lambda client: len(client.data("chat:rr")) >= 4, why="4 messages")
        assert client.data("orders:rr") == numbers(0, 610)
        assert client.records_of("disconnect") + client.records_of("connect_error") + client.records_of("gap") == []
    assert balancer.statuses() == {200}
    # Each client sends at least ten polls and four other requests. About half of them reach the wrong node.
    assert all(len(answers) > 5 for answers in balancer.answers.values())
    assert sum(hub.metric("tidings_relayed_total") for hub in hubs) > 5
    assert all(hub.metric("tidings_relay_failed_total") == 0 for hub in hubs)


def test_upgrade_at_the_wrong_node_loses_nothing(
    redis: RedisProcess, hubs: list[HubProcess], balancer: Balancer, clients: list[ClientProcess]
) -> None:
    upgrades = sum(hub.metric("tidings_upgrades_total") for hub in hubs)
    clients += [
        ClientProcess("js-upgrade", balancer.url, token=token(f"w{number}", "orders:*"), channels=["orders:up"])
        for number in range(6)
    ]
    emit(redis, "orders:up", 0, 200)
    for client in clients:
        client.wait_ready()
    for number in range(10):
        emit(redis, "orders:up", 1000 + 100 * number, 1100 + 100 * number)
    for client in clients:
        client.wait(lambda client: client.data("orders:up")[-1:] == numbers(1999, 2000), why="the last publication")
        received = [entry["n"] for entry in client.data("orders:up")]
        assert received[-1000:] == list(range(1000, 2000))
        assert client.records_of("disconnect") + client.records_of("connect_error") + client.records_of("gap") == []
    assert balancer.statuses() == {200, 101}
    assert sum(hub.metric("tidings_upgrades_total") for hub in hubs) == upgrades + 6
    # Each node has relayed a WebSocket of the other one, which is almost certain with six clients.
    assert sum(hub.metric("tidings_relayed_total") for hub in hubs) > 0


def test_slow_websocket_receives_everything_through_the_other_node(redis: RedisProcess, hubs: list[HubProcess]) -> None:
    sid = connect(hubs[1].port, token("slow", "orders:*"), "orders:large")
    target = f"/socket.io/?EIO=4&transport=websocket&sid={sid}"
    # With a small receive window, nearly all data has to wait in buffers.
    options = ((socket.SOL_SOCKET, socket.SO_RCVBUF, 8192),)
    client = websocket.create_connection(f"ws://127.0.0.1:{hubs[0].port}{target}", timeout=60, sockopt=options)
    with closing(client):
        client.send("2probe")
        assert client.recv() == "3probe"
        client.send("5")
        wait_until(
            lambda: exchange(hubs[1].port, "POST", f"{POLL}&sid={sid}", body=b"3")[0] == 400,
            why="the session is upgraded",
        )
        filling = "x" * 60_000
        with Emitter(redis.url) as emitter:
            for number in range(200):
                emitter.emit("large", {"n": number, "filling": filling}, channel="orders:large")
        received: list[int] = []
        while len(received) < 200:
            response = client.recv()
            if response == "2":
                client.send("3")
            elif response.startswith('42["large"'):
                data = json.loads(response[2:])[1]
                assert data["filling"] == filling
                received.append(data["n"])
        assert received == list(range(200))
        # And from the client to the hub.
        request = json.dumps(["tidings:history", {"channel": "orders:large", "limit": 1}])
        client.send(f"421{request}")
        while not response.startswith("431["):
            response = client.recv()
    assert hubs[0].metric("tidings_pump_errors_total") == 0


def test_sessions_of_a_killed_node_end_immediately(
    redis: RedisProcess, hubs: list[HubProcess], tmp_path: Path, clients: list[ClientProcess]
) -> None:
    third = node(tmp_path / "n3", redis, "n3").start()
    with closing(Balancer(hubs[0].port, third.port)) as balancer:
        client = ClientProcess("python-polling", balancer.url, token=token("k", "orders:*"), channels=["orders:kill"])
        clients.append(client)
        client.wait_ready()
        sid = open_session(third.port)
        third.stop()
        # No process listens at that address any more, although its lease still lasts.
        assert exchange(hubs[0].port, "GET", f"{POLL}&sid={sid}")[:2] == (
            400,
            b'{"code":1,"message":"Session ID unknown"}',
        )
        emit(redis, "orders:kill", 0, 20)
        client.wait(lambda client: len(client.data("orders:kill")) >= 20, why="publications from the other node")
        assert client.data("orders:kill") == numbers(0, 20)
    # After its lease has expired, no node owns the session.
    wait_until(lambda: hubs[0].metric("tidings_relay_nodes") == 1, why="the lease has expired")
    assert exchange(hubs[0].port, "GET", f"{POLL}&sid={sid}")[0] == 400


def test_relay_gives_up_a_suspended_node_when_its_lease_expires(
    redis: RedisProcess, hubs: list[HubProcess], tmp_path: Path
) -> None:
    third = node(tmp_path / "n4", redis, "n4").start()
    try:
        sid = connect(third.port, token("raw"))
        with socket.create_connection(("127.0.0.1", hubs[0].port), timeout=30) as poll:
            poll.sendall(request("GET", f"{POLL}&sid={sid}"))
            wait_until(lambda: third.metric("tidings_relay_taken_total") >= 1, why="the poll waits at its node")
            os.kill(third.pid, signal.SIGSTOP)
            assert status_of(poll) == 400
    finally:
        third.stop()


def test_draining_node_moves_its_clients_without_loss(
    redis: RedisProcess, hubs: list[HubProcess], tmp_path: Path, clients: list[ClientProcess]
) -> None:
    third = node(tmp_path / "n5", redis, "n5").start()
    try:
        with closing(Balancer(hubs[0].port, third.port)) as balancer:
            for kind in ("js-polling", "python-polling", "js-upgrade", "js-polling"):
                clients.append(
                    ClientProcess(
                        kind, balancer.url, token=token(f"d{len(clients)}", "orders:*"), channels=["orders:go"]
                    )
                )
            for client in clients:
                client.wait_ready()
            emit(redis, "orders:go", 0, 50)
            assert third.terminate() == 0
            emit(redis, "orders:go", 50, 100)
            for client in clients:
                client.wait(lambda client: len(client.data("orders:go")) >= 100, why="all publications", within_s=40)
                assert client.data("orders:go") == numbers(0, 100)
                assert all(
                    entry["channels"]["orders:go"] == {"recovered": True} for entry in client.records_of("ready")[1:]
                )
        # The node has released its lease, so the others need not wait until it expires.
        wait_until(lambda: hubs[0].metric("tidings_relay_nodes") == 1, why="the lease is released")
    finally:
        third.stop()


# Forged requests


def test_response_of_the_owner_is_relayed_byte_for_byte(hubs: list[HubProcess]) -> None:
    # The owner checks the origin, with the host that the client sent to the first node.
    refused = [
        exchange(hub.port, "GET", f"{POLL}&sid={open_session(hubs[0].port)}", "Origin: https://evil.example")
        for hub in hubs
    ]
    assert [entry[:2] for entry in refused] == [refused[0][:2]] * 2
    assert refused[0][0] == 403
    pages = []
    for hub in hubs:
        sid = open_session(hubs[0].port)
        pages.append(exchange(hub.port, "POST", f"{POLL}&sid={sid}", "Origin: http://shop.example", body=b"3"))
    heads = [re.sub(rb"Date: [^\r]*", b"", head) for _, _, head in pages]
    assert pages[0][:2] == pages[1][:2] == (200, b"ok")
    assert heads[0] == heads[1]
    assert b"Access-Control-Allow-Origin: http://shop.example" in heads[0]


def stamp_line(
    target: str, *, to: str = "n1", at_s: float | None = None, key: str = SECRET, method: str = "GET"
) -> str:
    stamp = Stamp(to, time.time() if at_s is None else at_s, "203.0.113.7", secure=False, host="shop.example")
    return f"{STAMP_HEADER}: {write_stamp(stamp_key(key), stamp, method, target)}"


@contextmanager
def refused_once(hub: HubProcess) -> Iterator[None]:
    before = hub.metric("tidings_relay_refused_total")
    yield
    assert hub.metric("tidings_relay_refused_total") == before + 1


def test_client_cannot_forge_a_relay_stamp(hubs: list[HubProcess]) -> None:
    sid = open_session(hubs[0].port)
    target = f"{POLL}&sid={sid}"
    lies = {
        "another key": stamp_line(target, key="x" * 32),
        "another request": stamp_line(target + "&t=1"),
        "for another node": stamp_line(target, to="n2"),
        "too old": stamp_line(target, at_s=time.time() - 60),
        "from the future": stamp_line(target, at_s=time.time() + 60),
        "rubbish": f"{STAMP_HEADER}: 1 n1 x",
        "empty": f"{STAMP_HEADER}:",
    }
    for reason, line in lies.items():
        with refused_once(hubs[0]):
            assert exchange(hubs[0].port, "GET", target, line)[0] == 400, reason
    # The session is unaffected, and a valid stamp is accepted.
    status, _, _ = exchange(hubs[0].port, "POST", target, stamp_line(target, method="POST"), body=b"3")
    assert status == 200


def test_request_is_relayed_at_most_once(hubs: list[HubProcess]) -> None:
    # A stamped request for a session of a reachable node is not relayed again.
    sid = open_session(hubs[1].port)
    target = f"{POLL}&sid={sid}"
    before = hubs[0].metric("tidings_relayed_total")
    status, body, _ = exchange(hubs[0].port, "GET", target, stamp_line(target))
    assert (status, body) == (400, b'{"code":1,"message":"Session ID unknown"}')
    assert hubs[0].metric("tidings_relayed_total") == before


def test_stamp_header_of_a_client_is_refused(hubs: list[HubProcess]) -> None:
    # A request of a client with a stamp header is refused and not relayed.
    target = f"{POLL}&sid={open_session(hubs[1].port)}"
    with refused_once(hubs[0]):
        assert exchange(hubs[0].port, "GET", target, f"{STAMP_HEADER}: 1 n2 0 1.2.3.4 http h 00")[0] == 400


def test_session_of_an_unknown_node_is_refused_immediately(hubs: list[HubProcess]) -> None:
    before = hubs[0].metric("tidings_relay_unknown_total")
    for sid in ("zz" + "x" * 20, "n9" + "y" * 20, "n1" + "z" * 20, "short", "n2" + "q" * 20):
        assert exchange(hubs[0].port, "GET", f"{POLL}&sid={sid}")[0] == 400
        assert exchange(hubs[0].port, "POST", f"{POLL}&sid={sid}", body=b"3")[0] == 400
    # Two requests for each of the two unknown nodes.
    assert hubs[0].metric("tidings_relay_unknown_total") == before + 4


def test_polls_above_relay_max_are_refused_without_affecting_others(hubs: list[HubProcess]) -> None:
    sids = [connect(hubs[1].port, token("raw")) for _ in range(42)]
    before = hubs[0].metric("tidings_relay_full_total")
    polls = []
    try:
        for sid in sids[:40]:
            session = socket.create_connection(("127.0.0.1", hubs[0].port), timeout=30)
            session.sendall(request("GET", f"{POLL}&sid={sid}"))
            polls.append(session)
        wait_until(
            lambda: exchange(hubs[0].port, "POST", f"{POLL}&sid={sids[40]}", body=b"3")[0] == 503,
            why="the limit is reached",
        )
        assert hubs[0].metric("tidings_relay_full_total") > before
        # Polls of disconnected clients no longer count, and the owner is notified.
        for session in polls[:20]:
            session.close()
        wait_until(
            lambda: exchange(hubs[0].port, "POST", f"{POLL}&sid={sids[41]}", body=b"3")[0] == 200,
            why="polls are relayed again",
        )
        hubs[0].publish("user:raw", "x", {"n": 1})
        for session in polls[20:]:
            assert status_of(session) == 200
    finally:
        for session in polls:
            session.close()


def test_disconnect_of_a_poll_reaches_the_owner(hubs: list[HubProcess]) -> None:
    sid = connect(hubs[1].port, token("raw"))
    with socket.create_connection(("127.0.0.1", hubs[0].port), timeout=30) as poll:
        owner_sid = hubs[1].metric("tidings_relay_taken_total")
        poll.sendall(request("GET", f"{POLL}&sid={sid}"))
        wait_until(lambda: hubs[1].metric("tidings_relay_taken_total") > owner_sid, why="the poll waits at its node")
    wait_until(
        lambda: exchange(hubs[1].port, "POST", f"{POLL}&sid={sid}", body=b"3")[0] == 400, why="the session ended"
    )
