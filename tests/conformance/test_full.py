"""Full nodes: at `max_connections` and at the limit of open files, probes and open sessions are served."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.raw_client import (
    POLLING,
    RawClient,
    RawWebSocket,
    open_polling,
    open_websocket,
    poll,
    post,
    request,
)
from support.processes.engine import EngineProcess
from support.waiting import wait_until

CALM = ("--ping_interval_ms=60000", "--ping_timeout_ms=20000")
# The head of a request without its end.
_PART_OF_A_HEAD = b"GET /web HTTP/1.1\r\nX: "
_PART_OF_A_BODY = b"POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"
_IDLE = b"GET /web HTTP/1.1\r\nHost: a\r\n\r\n"
FLOODS = {"silent": b"", "part of a head": _PART_OF_A_HEAD, "part of a body": _PART_OF_A_BODY, "idle": _IDLE}


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def assert_alive(port: int, websocket: RawWebSocket) -> None:
    """A probe is answered, and an open session is served."""
    assert request(port, "GET", "/healthz").status == 200
    websocket.send_text("4fine")
    assert websocket.receive_text() == "4fine"


@pytest.fixture(scope="module")
def full() -> Iterator[tuple[EngineProcess, list[RawWebSocket]]]:
    with EngineProcess(*CALM, "--max_connections=5", "--reserved_connections=8") as engine:
        yield engine, [open_websocket(engine.port) for _ in range(5)]


class TestSessions:
    def test_probes_and_pages_are_answered(self, full: tuple[EngineProcess, list[RawWebSocket]]) -> None:
        engine, websockets = full
        for _ in range(3):
            assert_alive(engine.port, websockets[0])
        with RawClient(engine.port) as client:
            for _ in range(3):
                client.send_request("POST", "/api/publish", b"{}")
                assert client.response().status == 200

    @pytest.mark.parametrize("path", [POLLING, "/sse"])
    def test_new_session_is_refused_and_asked_to_return(
        self, full: tuple[EngineProcess, list[RawWebSocket]], path: str
    ) -> None:
        responses = [request(full[0].port, "GET", path) for _ in range(20)]
        assert {response.status for response in responses} == {503}
        assert b'"full"' in responses[0].body
        assert responses[0].headers["connection"] == "close"
        waits_s = {int(response.headers["retry-after"]) for response in responses}
        assert waits_s <= set(range(1, 11))
        # Random, so that the clients do not return together.
        assert len(waits_s) > 1

    def test_browser_gets_a_stream_that_ends(self, full: tuple[EngineProcess, list[RawWebSocket]]) -> None:
        """An EventSource would never return after an error status."""
        with RawClient(full[0].port) as client:
            client.send_request("GET", "/sse", b"", Sec_Fetch_Mode="cors", Origin="http://localhost")
            response = client.response()
            assert (response.status, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            stream = response.body + client.buffer
            while data := client.read():
                stream += data
            assert b'event: tidings:close\ndata: {"code": "full"' in stream

    def test_new_websocket_is_refused(self, full: tuple[EngineProcess, list[RawWebSocket]]) -> None:
        assert RawWebSocket(full[0].port).handshake.status == 503

    def test_session_has_room_again_after_another_one_ends(
        self, full: tuple[EngineProcess, list[RawWebSocket]]
    ) -> None:
        engine, websockets = full
        websockets.pop().socket.close()
        wait_until(lambda: request(engine.port, "GET", POLLING).status == 200, why="there is room for a session")
        engine.end()
        assert engine.metrics["refused_full"] >= 41

    def test_polling_sessions_without_sockets_count(self) -> None:
        with EngineProcess(*CALM, "--max_connections=5") as engine:
            sids = [open_polling(engine.port) for _ in range(5)]
            assert request(engine.port, "GET", POLLING).status == 503
            assert post(engine.port, sids[0], b"4a").status == 200
            assert poll(engine.port, sids[0]).body == b"4a"
            assert post(engine.port, sids[0], b"1").status == 200
            assert request(engine.port, "GET", POLLING).status == 200


class TestSockets:
    @pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
    def test_flood_of_waiting_sockets_does_not_use_up_the_reserve(self, flood: bytes) -> None:
        with EngineProcess(*CALM, "--max_connections=2", "--reserved_connections=16") as engine:
            websockets = [open_websocket(engine.port) for _ in range(2)]
            waiting = []
            for _ in range(10):
                for _ in range(10):
                    client = RawClient(engine.port)
                    client.send(flood)
                    if flood == _IDLE:
                        assert client.response().status == 200
                    waiting.append(client)
                assert_alive(engine.port, websockets[0])
            assert RawWebSocket(engine.port).handshake.status == 503
            engine.end()
            assert engine.metrics["sockets_shed"] >= 100 - 18
            assert engine.metrics["refused_full"] == 1

    def test_idle_sockets_of_others_do_not_count_as_sessions(self) -> None:
        with EngineProcess(*CALM, "--max_connections=2", "--reserved_connections=8") as engine:
            waiting = [RawClient(engine.port) for _ in range(50)]
            first, second = open_websocket(engine.port), open_websocket(engine.port)
            assert_alive(engine.port, first)
            assert_alive(engine.port, second)
            assert len(waiting) == 50

    def test_socket_that_serves_a_request_is_never_closed_for_another(self) -> None:
        with EngineProcess(*CALM, "--max_connections=1", "--reserved_connections=8") as engine:
            sid = open_polling(engine.port)
            polled = RawClient(engine.port)
            polled.send_request("GET", f"{POLLING}&sid={sid}")
            posted = RawClient(engine.port)
            posted.send(f"POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n4slow".encode())
            slow = RawClient(engine.port)
            slow.send_request("GET", "/slow")
            waiting = [RawClient(engine.port) for _ in range(40)]
            assert slow.response().status == 200
            posted.send(b"ly")
            assert posted.response().body == b"ok"
            # Engine.IO: the message is echoed to the waiting poll.
            assert polled.response().body == b"4slowly"
            assert len(waiting) == 40

    def test_requests_that_take_long_leave_half_of_the_reserve(self) -> None:
        """Their sockets are never closed for others. So beyond that, pages are refused and asked to return."""
        with EngineProcess(*CALM, "--max_connections=1", "--reserved_connections=8") as engine:
            busy = [RawClient(engine.port) for _ in range(9)]
            for client in busy:
                client.send_request("GET", "/slow")
            responses = [client.response() for client in busy]
            assert sorted(response.status for response in responses) == [200] * 5 + [503] * 4
            assert all("retry-after" in response.headers for response in responses if response.status == 503)
            engine.end()
            assert "accept_paused" not in engine.metrics

    def test_limit_of_an_address_does_not_apply_to_probes(self) -> None:
        with EngineProcess(*CALM, "--connections_per_address=1") as engine:
            websocket = open_websocket(engine.port)
            assert request(engine.port, "GET", POLLING).status == 429
            for _ in range(3):
                assert_alive(engine.port, websocket)


class TestDescriptors:
    @pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
    def test_node_without_free_descriptors_answers_probes(self, flood: bytes) -> None:
        with EngineProcess(*CALM) as engine:
            websocket = open_websocket(engine.port)
            used = descriptors(engine.pid)
            resource.prlimit(engine.pid, resource.RLIMIT_NOFILE, (used + 3, used + 3))
            waiting = [RawClient(engine.port) for _ in range(60)]
            for client in waiting:
                client.send(flood)
            for _ in range(20):
                assert_alive(engine.port, websocket)
            engine.end()
            assert "no free file descriptor" in engine.log
            assert engine.metrics["sockets_shed"] >= 20

    def test_node_without_free_descriptors_refuses_sessions_until_there_are_some(self) -> None:
        with EngineProcess(*CALM) as engine:
            used = descriptors(engine.pid)
            resource.prlimit(engine.pid, resource.RLIMIT_NOFILE, (used + 40, used + 40))
            websockets = []
            while (websocket := RawWebSocket(engine.port)).handshake.status == 101:
                websockets.append(websocket)
            assert websocket.handshake.status == 503
            assert int(websocket.handshake.headers["retry-after"]) >= 1
            for websocket in websockets[:3]:
                assert websocket.receive_text().startswith("0{")
                assert_alive(engine.port, websocket)
            for websocket in websockets[3:]:
                websocket.socket.shutdown(socket.SHUT_RDWR)
                websocket.socket.close()
            wait_until(lambda: request(engine.port, "GET", POLLING).status == 200, why="descriptors are free again")

    def test_more_polls_than_descriptors_leave_room_for_probes_and_posts(self) -> None:
        """Between two polls a session has no socket, so the node has more sessions than descriptors are left."""
        with EngineProcess(*CALM) as engine:
            sids = [open_polling(engine.port) for _ in range(60)]
            used = descriptors(engine.pid)
            resource.prlimit(engine.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
            polls: list[RawClient] = []
            for sid in sids:
                # One at a time: sockets without a request are closed first, and their sessions have no poll then.
                polls.append(RawClient(engine.port))
                polls[-1].send_request("GET", f"{POLLING}&t=a1&sid={sid}")
            for _ in range(5):
                assert request(engine.port, "GET", "/healthz").status == 200
            statuses = [post(engine.port, sid, b"4fine").status for sid in sids]
            # The sessions whose polls were closed have ended: their clients reconnect.
            assert set(statuses) == {200, 400}
            for client, status in zip(polls, statuses, strict=True):
                if status == 200:
                    assert client.response().body == b"4fine"
            engine.end()
            assert engine.metrics.get("accept_paused", 0) == 0
