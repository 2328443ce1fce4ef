"""A node whose event loop stands still for longer than every deadline: what its clients sent in time still counts."""

from __future__ import annotations

from support.network.raw_client import POLLING, SOCKET, RawClient, RawWebSocket, open_polling, open_websocket, request
from support.processes.engine import EngineProcess

DEADLINES = (
    "--head_timeout_s=1",
    "--body_timeout_s=1",
    "--idle_timeout_s=1",
    "--upgrade_timeout_s=1",
    "--ping_interval_ms=500",
    "--ping_timeout_ms=1000",
)


def test_what_waits_in_the_kernel_is_read_before_deadlines_are_checked() -> None:
    with EngineProcess(*DEADLINES) as engine:
        polled, posted, upgraded = (open_polling(engine.port) for _ in range(3))
        websocket, blocker = open_websocket(engine.port), open_websocket(engine.port)
        half_head, silent, idle, half_body = (RawClient(engine.port) for _ in range(4))
        half_head.send(b"GET /web HTTP/1.1\r\nHost: ")
        half_body.send(f"POST {POLLING}&sid={posted} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n4o".encode())
        probe = RawWebSocket(engine.port, f"{SOCKET}&sid={upgraded}")
        probe.send_text("2probe")
        assert probe.receive_text() == "3probe"
        idle.send_request("GET", "/web")
        assert idle.response().status == 200
        blocker.send_text("4block 2")
        assert websocket.receive_text() == "4blocking"
        half_head.send(b"a\r\n\r\n")
        silent.send_request("GET", "/web")
        idle.send_request("POST", f"{POLLING}&sid={polled}", b"4two")
        half_body.send(b"ne")
        probe.send_text("5")
        probe.send_text("4three")
        websocket.send_text("4four")
        assert [client.response().status for client in (half_head, silent, idle, half_body)] == [200] * 4
        assert websocket.receive_text() == "4four"
        assert [probe.receive_text() for _ in range(2)] == ["4blocking", "4three"]
        for sid, message in ((polled, b"4two"), (posted, b"4one")):
            packets: list[bytes] = []
            while message not in packets:
                response = request(engine.port, "GET", f"{POLLING}&sid={sid}")
                assert response.status == 200
                packets += response.body.split(b"\x1e")
