"""Clients that send a part of a request or message and wait: what they hold is bounded for all of them together."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from support.network.raw_client import (
    POLLING,
    SOCKET,
    RawClient,
    RawWebSocket,
    masked_frame,
    open_polling,
    open_websocket,
    poll,
    post,
    request,
)
from support.processes.engine import EngineProcess

CALM = ("--ping_interval_ms=60000", "--ping_timeout_ms=20000", "--max_payload_bytes=65536")
PART = b"x" * 60_000
HOLDERS = {
    "head": b"GET /web HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 16_000,
    "body": b"POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + PART,
    "chunks": b"POST /web HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nea61\r\n" + PART,
    "pipelined": b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\nGET /web HTTP/1.1\r\nX: " + b"y" * 16_000,
}


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def engine_greenlets(data: bytes, count: int) -> int:
    return count if b"/hang" in data else 0


@pytest.mark.parametrize("data", HOLDERS.values(), ids=HOLDERS)
def test_incomplete_requests_share_a_budget(data: bytes) -> None:
    with EngineProcess(*CALM, "--input_max_bytes=300000") as engine:
        assert request(engine.port, "GET", "/web").status == 200
        before = rss_bytes(engine.pid)
        count = 4_000_000 // len(data)
        waiting = []
        for _ in range(count):
            waiting.append(RawClient(engine.port))
            with contextlib.suppress(OSError):
                waiting[-1].send(data)
        # A complete request is served meanwhile.
        assert request(engine.port, "POST", "/web", PART).status == 200
        # Each request that hangs has a greenlet besides its input.
        assert rss_bytes(engine.pid) - before < 3_000_000 + 60_000 * engine_greenlets(data, count)
        engine.end()
        assert engine.metrics["input_shed"] >= count - 300_000 // len(data) - 1


def test_sessions_that_are_not_authenticated_share_a_budget() -> None:
    with EngineProcess(*CALM, "--silent", "--input_max_bytes=300000") as engine:
        before = rss_bytes(engine.pid)
        websockets = [open_websocket(engine.port) for _ in range(50)]
        for websocket in websockets:
            websocket.send(masked_frame(2, PART[:100], fin=False) + masked_frame(0, PART)[:-1])
        assert [websocket.close_code() for websocket in websockets[:46]] == [4003] * 46
        assert rss_bytes(engine.pid) - before < 3_000_000
        engine.end()
        assert engine.metrics["input_shed"] == 46


@pytest.mark.parametrize("transport", ["websocket", "probe", "polling"])
def test_session_that_is_not_authenticated_may_send_few_bytes(transport: str) -> None:
    with EngineProcess(*CALM, "--silent", "--connect_max_bytes=2000") as engine:
        if transport == "websocket":
            websocket = open_websocket(engine.port)
            for _ in range(2):
                websocket.send(masked_frame(1, b"4" + b"x" * 1000))
            # The echo comes first.
            assert websocket.close_code() == 4516
        elif transport == "probe":
            websocket = RawWebSocket(engine.port, f"{SOCKET}&sid={open_polling(engine.port)}")
            websocket.send(masked_frame(9, b"x" * 100) * 20)
            assert websocket.close_code() in (1000, -1)
        else:
            sid = open_polling(engine.port)
            post(engine.port, sid, b"4" + b"x" * 1000)
            post(engine.port, sid, b"4" + b"x" * 1000)
            assert poll(engine.port, sid).status == 400
        engine.end()
        assert engine.metrics["closed_too_large"] == 1


def test_authenticated_session_may_send_any_number_of_bytes() -> None:
    with EngineProcess(*CALM, "--connect_max_bytes=2000", "--input_max_bytes=3000") as engine:
        websocket = open_websocket(engine.port)
        for _ in range(5):
            websocket.send_text("4" + "x" * 1000)
            assert len(websocket.receive_text()) == 1001
        sid = open_polling(engine.port)
        for _ in range(5):
            assert post(engine.port, sid, b"4" + b"x" * 1000).status == 200
            assert len(poll(engine.port, sid).body) == 1001


def test_request_that_was_closed_for_others_gets_503() -> None:
    with EngineProcess(*CALM, "--input_max_bytes=100000") as engine:
        first, second = RawClient(engine.port), RawClient(engine.port)
        first.send(HOLDERS["body"])
        time.sleep(0.1)
        second.send(HOLDERS["body"])
        response = first.response()
        assert (response.status, response.headers["connection"]) == (503, "close")
        assert int(response.headers["retry-after"]) >= 1
        second.send(b"x" * 10_000)
        assert second.response().status == 200
        assert request(engine.port, "GET", POLLING).status == 200
