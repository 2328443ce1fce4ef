"""`connections_per_address`: a client address with too many sessions gets 429, other addresses are not affected."""

from __future__ import annotations

import json

import pytest

from support.network.raw_client import (
    HANDSHAKE,
    POLLING,
    SOCKET,
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
LIMITED = (*CALM, "--connections_per_address=3")


def open_stream(port: int, **headers: str) -> RawClient:
    """Open an event stream and read its first event."""
    raw = RawClient(port)
    raw.send_request("GET", "/sse", b"", **headers)
    while b"hello" not in raw.buffer:
        data = raw.read()
        assert data, raw.buffer
        raw.buffer += data
    return raw


def test_sessions_of_all_transports_count() -> None:
    with EngineProcess(*LIMITED) as engine:
        sid = open_polling(engine.port)
        websocket = open_websocket(engine.port)
        stream = open_stream(engine.port)
        for path, headers in ((POLLING, {}), (SOCKET, HANDSHAKE), ("/sse", {})):
            response = request(engine.port, "GET", path, b"", **headers)
            assert response.status == 429
            body = json.loads(response.body)
            assert body.get("error", body)["code"] == "too_many_connections"
            assert response.headers["connection"] == "close"
        # Open sessions continue, and other HTTP requests are not counted.
        websocket.send_text("4fine")
        assert websocket.receive_text() == "4fine"
        assert post(engine.port, sid, b"4on").status == 200
        assert poll(engine.port, sid).body == b"4on"
        assert request(engine.port, "GET", "/web").status == 200
        stream.socket.close()
        engine.end()
        assert engine.metrics["refused_per_address"] == 3


@pytest.mark.parametrize("end", ["close frame", "reset", "close packet", "stream", "refused stream", "ping timeout"])
def test_ended_session_stops_counting(end: str) -> None:
    options = ("--ping_interval_ms=300", "--ping_timeout_ms=200") if end == "ping timeout" else CALM
    with EngineProcess(*options, "--connections_per_address=1") as engine:
        if end == "refused stream":
            assert request(engine.port, "GET", "/sse?refuse=1").status == 403
        elif end == "stream":
            open_stream(engine.port).socket.close()
        elif end in ("close packet", "ping timeout"):
            sid = open_polling(engine.port)
            assert end == "ping timeout" or post(engine.port, sid, b"1").status == 200
        else:
            websocket = open_websocket(engine.port)
            if end == "close frame":
                websocket.send_text("1")
            websocket.socket.close()
        wait_until(
            lambda: request(engine.port, "GET", POLLING).status == 200, why="the ended session is no longer counted"
        )
        assert request(engine.port, "GET", POLLING).status == 429 or end == "ping timeout"


def test_upgraded_session_counts_once() -> None:
    with EngineProcess(*CALM, "--connections_per_address=1") as engine:
        sid = open_polling(engine.port)
        upgraded = RawWebSocket(engine.port, f"{SOCKET}&sid={sid}")
        upgraded.send_text("2probe")
        assert upgraded.receive_text() == "3probe"
        upgraded.send_text("5")
        upgraded.send_text("4here")
        assert upgraded.receive_text() == "4here"
        assert request(engine.port, "GET", POLLING).status == 429
        upgraded.socket.close()
        wait_until(
            lambda: request(engine.port, "GET", POLLING).status == 200, why="the ended session is no longer counted"
        )


def test_clients_behind_a_trusted_proxy_count_separately() -> None:
    with EngineProcess(*LIMITED, "--proxied") as engine:

        def status(chain: str) -> int:
            return request(engine.port, "GET", POLLING, b"", X_Forwarded_For=chain).status

        for client in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"):
            assert [status(client) for _ in range(4)] == [200, 200, 200, 429]
        # Behind a second trusted proxy it is the same client. Addresses further left are ignored.
        assert status("192.0.2.1, 10.0.0.7") == 429
        assert status("203.0.113.9, 192.0.2.1, 10.0.0.7") == 429
        assert status("192.0.2.1, 203.0.113.9") == 200
        # All addresses of an IPv6 /64 network count as one client.
        assert status("2001:db8::ffff:2") == 429
        # WebSockets and event streams count in the same way.
        assert RawWebSocket(engine.port, X_Forwarded_For="192.0.2.1").handshake.status == 429
        connections: list[RawClient] = [open_websocket(engine.port, X_Forwarded_For="203.0.113.9")]
        connections.append(open_stream(engine.port, X_Forwarded_For="203.0.113.9"))
        assert status("203.0.113.9") == 429


def test_forwarded_header_of_an_untrusted_proxy_is_ignored() -> None:
    with EngineProcess(*LIMITED) as engine:
        statuses = [
            request(engine.port, "GET", POLLING, b"", X_Forwarded_For=f"192.0.2.{number}").status for number in range(5)
        ]
        assert statuses == [200, 200, 200, 429, 429]


def test_keep_alive_connection_of_a_proxy_carries_many_clients() -> None:
    """The limit uses the request's address, not the socket's, and does not count repeated polls."""
    with EngineProcess(*CALM, "--proxied", "--connections_per_address=1") as engine, RawClient(engine.port) as raw:
        sids = []
        for number in range(4):
            raw.send_request("GET", POLLING, b"", X_Forwarded_For=f"192.0.2.{number}")
            sids.append(json.loads(raw.response().body[1:])["sid"])
        for turn in range(3):
            for number, sid in enumerate(sids):
                raw.send_request("POST", f"{POLLING}&sid={sid}", b"4x", X_Forwarded_For=f"192.0.2.{number}")
                assert raw.response().status == 200
                raw.send_request("GET", f"{POLLING}&t=poll{turn}&sid={sid}", b"", X_Forwarded_For=f"192.0.2.{number}")
                assert raw.response().body == b"4x"
        # A session that is closed from another address is subtracted from the address that opened it.
        raw.send_request("POST", f"{POLLING}&sid={sids[0]}", b"1", X_Forwarded_For="192.0.2.99")
        assert raw.response().status == 200
        raw.send_request("GET", POLLING, b"", X_Forwarded_For="192.0.2.0")
        assert raw.response().status == 200
        raw.send_request("GET", POLLING, b"", X_Forwarded_For="192.0.2.1")
        assert raw.response().status == 429
