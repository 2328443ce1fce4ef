"""Many clients that connect at the same time: while Redis is stalled, and with publications that all of them missed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.network.raw_client import RawWebSocket, request
from support.processes.hub import HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter

PATH = "/socket.io/?EIO=4&transport=websocket"
POLL = "/socket.io/?EIO=4&transport=polling"
UNAVAILABLE, FULL, CONNECT_TIMEOUT = 4000, 4003, 4012
TEXT = 1
CLIENTS = 16
# Two workers, so most clients wait in the hub's queue. The wait ends before the broker's timeout.
SETTINGS = """
handlers = 2
connect_timeout_s = 1.0
connect_queue_timeout_s = 3.0
broker_timeout_s = 5.0
ping_interval_s = 2.0
"""


@contextmanager
def running(folder: Path, redis: RedisProcess, settings: str) -> Iterator[HubProcess]:
    """A hub that logs no unexpected error."""
    process = HubProcess(folder, "--broker", redis.url, extra=settings).start()
    try:
        yield process
    finally:
        process.stop()
    assert "Traceback" not in process.log.read_text()


@pytest.fixture
def hub(tmp_path: Path, redis: RedisProcess) -> Iterator[HubProcess]:
    with running(tmp_path, redis, SETTINGS) as process:
        yield process


def opened(hub: HubProcess) -> RawWebSocket:
    """A WebSocket that has not sent CONNECT."""
    client = RawWebSocket(hub.port, PATH)
    assert client.receive_text().startswith("0{")
    return client


def connect_packet(number: int, **fields: object) -> str:
    """CONNECT of the client with this number."""
    auth = {"token": token(f"user-{number}", "orders:*"), "channels": ["orders:1"], **fields}
    return "40" + json.dumps(auth)


def connect(hub: HubProcess, number: int, **fields: object) -> RawWebSocket:
    """A WebSocket that has sent CONNECT."""
    client = opened(hub)
    client.send_text(connect_packet(number, **fields))
    return client


def is_accepted(hub: HubProcess) -> bool:
    """Whether a new client connects, and is not closed instead."""
    with connect(hub, 1) as client:
        opcode, payload = client.frame()
        return opcode == TEXT and payload.startswith(b'40{"sid"')


def test_no_client_is_blamed_for_the_wait_during_a_stall_of_redis(hub: HubProcess, redis: RedisProcess) -> None:
    redis.pause()
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(hub, number)) for number in range(CLIENTS)]
        silent = stack.enter_context(opened(hub))
        polite = stack.enter_context(opened(hub))
        polite.send_text("40/unknown,{}")
        codes = [client.close_code() for client in clients]
        assert set(codes) <= {UNAVAILABLE, FULL}
        # Those that no worker has handled.
        assert codes.count(FULL) >= CLIENTS - 2
        assert silent.close_code() == CONNECT_TIMEOUT
        assert polite.close_code() in {CONNECT_TIMEOUT, FULL}
    assert hub.metric("tidings_connects_expired_total") >= CLIENTS - 2
    assert "connect_queue_timeout_s" in hub.log.read_text()
    redis.resume()
    with ExitStack() as stack:
        for client in [stack.enter_context(connect(hub, number)) for number in range(CLIENTS)]:
            assert client.receive_text().startswith('40{"sid"')
    wait_until(lambda: hub.metric("tidings_connects_waiting") == 0, why="no client waits")


def test_no_event_stream_is_blamed_for_the_wait_during_a_stall_of_redis(hub: HubProcess, redis: RedisProcess) -> None:
    redis.pause()
    streams = []
    for number in range(4):
        stream = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=20)
        headers = {"Authorization": f"Bearer {token(f'user-{number}', 'orders:*')}"}
        stream.request("GET", "/sse?channels=orders:1", headers=headers)
        streams.append(stream)
    for stream in streams:
        response = stream.getresponse()
        # 408 would blame the client.
        assert response.status == 503
        assert response.read()
        stream.close()


def numbers(packets: list[str]) -> list[int]:
    """The data of the publications among these Socket.IO packets."""
    events = [json.loads(packet[2:]) for packet in packets if packet.startswith("42")]
    return [data["n"] for name, data, *_ in events if not name.startswith("tidings:")]


def recovered(ready: Any) -> bool:
    """Whether `tidings:ready` states that the channel is complete."""
    return bool(ready["channels"]["orders:1"]["recovered"])


def scripts_run(redis: RedisProcess) -> int:
    """Scripts that Redis has run since its start."""
    with redis.client() as client:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


def test_clients_of_every_transport_that_return_at_once_receive_what_all_of_them_missed(
    tmp_path: Path, redis: RedisProcess
) -> None:
    sockets, polls, streams, missed = 60, 6, 6, list(range(1, 101))
    with running(tmp_path, redis, "") as hub, ExitStack() as stack, Emitter(redis.url) as emitter:
        live = stack.enter_context(connect(hub, 0))
        assert live.receive_text().startswith('40{"sid"')
        since = emitter.emit("changed", {"n": 0}, channel="orders:1").cursor
        with emitter.batch() as batch:
            for number in missed:
                # More than the socket buffers take at once, so that a part waits in the hub.
                batch.emit("changed", {"n": number, "fill": "x" * 3_000}, channel="orders:1")
        before = scripts_run(redis)
        sids = [json.loads(request(hub.port, "GET", POLL).body[1:])["sid"] for _ in range(polls)]
        readers = [http.client.HTTPConnection("127.0.0.1", hub.port, timeout=20) for _ in range(streams)]
        clients = [stack.enter_context(opened(hub)) for _ in range(sockets)]
        for number, client in enumerate(clients):
            client.send_text(connect_packet(number, since=since))
        for number, sid in enumerate(sids):
            body = connect_packet(100 + number, since=since).encode()
            assert request(hub.port, "POST", f"{POLL}&sid={sid}", body).status == 200
        for number, reader in enumerate(readers):
            headers = {"Authorization": f"Bearer {token(f'sse-{number}', 'orders:*')}", "Last-Event-ID": since}
            reader.request("GET", "/sse?channels=orders:1", headers=headers)
        for client in clients:
            packets = [client.receive_text() for _ in range(2 + len(missed))]
            assert recovered(json.loads(packets[1][2:])[1])
            assert numbers(packets) == missed
        for sid in sids:
            packets = []
            while len(numbers(packets)) < len(missed):
                packets += request(hub.port, "GET", f"{POLL}&sid={sid}").body.decode().split("\x1e")
            assert numbers(packets) == missed
        for reader in readers:
            response = reader.getresponse()
            lines: list[str] = []
            while sum(line.startswith("data:") for line in lines) <= len(missed):
                lines.append(response.readline().decode())
            ready, *others = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
            assert recovered(ready)
            assert [event["data"]["n"] for event in others] == missed
            response.close()
            reader.close()
        # Each client has a channel of its user, for which the node subscribes and looks up in rounds.
        assert scripts_run(redis) - before < sockets
        assert numbers([live.receive_text() for _ in range(2 + len(missed))]) == [0, *missed]


def test_refused_client_that_may_return_is_closed_after_a_pause_without_an_answer(
    tmp_path: Path, redis: RedisProcess
) -> None:
    with running(tmp_path, redis, "broker_timeout_s = 1.0\n") as hub:
        redis.pause()
        with ExitStack() as stack:
            # With `pid: null` the client has a back-off of its own, and is closed at once.
            clients = [stack.enter_context(connect(hub, number)) for number in range(8)]
            clients += [stack.enter_context(connect(hub, number, pid=None)) for number in range(8)]
            assert {client.close_code() for client in clients} == {UNAVAILABLE}
        assert hub.metric("tidings_connects_held") == 0
        redis.resume()
        # The node may not have noticed yet that its connection to Redis broke.
        wait_until(lambda: is_accepted(hub), within_s=30, why="a client is accepted")


def test_refused_client_is_closed_whatever_it_sends_during_the_pause(tmp_path: Path, redis: RedisProcess) -> None:
    with running(tmp_path, redis, "broker_timeout_s = 0.5\nconnect_timeout_s = 1.0\n") as hub:
        redis.pause()
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(hub, number)) for number in range(8)]
            wait_until(lambda: hub.metric("tidings_connects_held") > 0, why="some clients are refused")
            for client in clients:
                client.send_text("40/unknown,{}")
            assert {client.close_code() for client in clients} <= {UNAVAILABLE, FULL}
