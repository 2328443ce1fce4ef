"""Engine.IO v4 over real sockets, based on the official test suite (v4-current.md of Socket.IO)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import pytest

from support.network.raw_client import (
    HANDSHAKE,
    POLLING,
    SOCKET,
    RawClient,
    RawResponse,
    RawWebSocket,
    masked_frame,
    open_polling,
    open_websocket,
    poll,
    post,
    request,
)
from support.processes.engine import EngineProcess
from support.waiting import QUIET_S, stay_quiet, wait_until

SEPARATOR = b"\x1e"
# As in the official suite: pingInterval 300 ms, pingTimeout 200 ms.
ALL_PINGS_S = 0.5


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with EngineProcess() as engine:
        yield engine.port
        engine.end()
        assert "Traceback" not in engine.log
        assert "closed twice" not in engine.reasons


@pytest.fixture(scope="module")
def calm() -> Iterator[int]:
    """An engine with a ping interval longer than any test."""
    with EngineProcess("--ping_interval_ms=60000", "--ping_timeout_ms=20000") as engine:
        yield engine.port


class TestHandshake:
    def test_get_opens_a_polling_session(self, port: int) -> None:
        response = request(port, "GET", POLLING)
        assert response.status == 200
        assert response.headers["content-type"] == "text/plain; charset=UTF-8"
        assert response.body[:1] == b"0"
        handshake = json.loads(response.body[1:])
        assert sorted(handshake) == ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]
        assert (handshake["pingInterval"], handshake["pingTimeout"], handshake["maxPayload"]) == (300, 200, 1_000_000)
        assert handshake["upgrades"] == ["websocket"]
        assert handshake["sid"].startswith("n1-")
        assert len(handshake["sid"]) == len("n1-") + 20

    def test_opens_a_websocket_session_without_extensions(self, port: int) -> None:
        websocket = RawWebSocket(port, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
        assert websocket.handshake.status == 101
        assert "sec-websocket-extensions" not in websocket.handshake.headers
        handshake = json.loads(websocket.receive_text()[1:])
        assert handshake["upgrades"] == []

    def test_session_ids_differ(self, port: int) -> None:
        assert len({open_polling(port) for _ in range(20)}) == 20

    @pytest.mark.parametrize(
        ("method", "query", "number", "message"),
        [
            ("GET", "EIO=4", 0, "Transport unknown"),
            ("GET", "EIO=4&transport=abc", 0, "Transport unknown"),
            ("GET", "EIO=4&transport=__proto__", 0, "Transport unknown"),
            ("GET", "transport=polling", 5, "Unsupported protocol version"),
            ("GET", "EIO=abc&transport=polling", 5, "Unsupported protocol version"),
            ("GET", "EIO=3&transport=polling", 5, "Unsupported protocol version"),
            ("GET", "EIO=4&EIO=3&transport=polling", 3, "Bad request"),
            ("GET", "EIO=4&transport=polling&sid=nobody", 1, "Session ID unknown"),
            ("GET", "EIO=4&transport=polling&sid=__proto__", 1, "Session ID unknown"),
            ("GET", "EIO=4&transport=websocket", 3, "Bad request"),
            ("POST", "EIO=4&transport=polling", 2, "Bad handshake method"),
            ("PUT", "EIO=4&transport=polling", 2, "Bad handshake method"),
            ("DELETE", "EIO=4&transport=polling", 2, "Bad handshake method"),
            ("GET", "EIO=4&transport=polling&j=0&sid=nobody", 1, "Session ID unknown"),
        ],
    )
    def test_invalid_handshake_is_refused(self, port: int, method: str, query: str, number: int, message: str) -> None:
        response = request(port, method, f"/engine.io/?{query}")
        assert response.status == 400
        assert response.error == (number, message)

    def test_jsonp_parameter_is_ignored(self, port: int) -> None:
        assert request(port, "GET", f"{POLLING}&j=0").body.startswith(b"0{")

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec_WebSocket_Version": "8"},
            {"Sec_WebSocket_Key": "short"},
            {"Sec_WebSocket_Key": ""},
            {"Upgrade": "h2c"},
            {"Connection": "close"},
        ],
    )
    def test_invalid_websocket_handshake_is_refused(self, port: int, headers: dict[str, str]) -> None:
        with RawClient(port) as raw:
            raw.send_request("GET", SOCKET, b"", **{**HANDSHAKE, **headers})
            assert raw.response().status == 400

    @pytest.mark.parametrize("query", ["EIO=4&transport=abc", "EIO=3&transport=websocket", "EIO=4&transport=polling"])
    def test_websocket_with_an_invalid_query_is_refused(self, port: int, query: str) -> None:
        assert RawWebSocket(port, f"/engine.io/?{query}").handshake.status == 400


class TestMessages:
    def test_polling_carries_text_and_binary(self, calm: int) -> None:
        sid = open_polling(calm)
        body = SEPARATOR.join([b"4test1", b"b" + base64.b64encode(b"\x01\x02\x03\x04"), "4tëst3 €".encode()])
        response = post(calm, sid, body)
        assert (response.status, response.body) == (200, b"ok")
        assert poll(calm, sid).body == body

    def test_waiting_poll_receives_all_packets_of_a_post(self, calm: int) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as waiting:
            waiting.send_request("GET", f"{POLLING}&sid={sid}")
            assert waiting.is_quiet(0.1)
            assert post(calm, sid, b"4a\x1e4b\x1e4c").status == 200
            assert waiting.response().body == b"4a\x1e4b\x1e4c"

    def test_corks_nest_and_are_released(self, calm: int) -> None:
        websocket = open_websocket(calm)
        sid = open_polling(calm)
        for _ in range(2):
            websocket.send_text("4corks")
            assert [websocket.receive_text(), websocket.receive_text()] == ["4a", "4b"]
            assert post(calm, sid, b"4corks").status == 200
            assert poll(calm, sid).body == b"4a\x1e4b"

    def test_a_thousand_packets_in_one_post_are_accepted(self, calm: int) -> None:
        sid = open_polling(calm)
        body = SEPARATOR.join(b"4%d" % number for number in range(1000))
        assert post(calm, sid, body).status == 200
        assert poll(calm, sid).body == body

    def test_a_websocket_carries_text_and_binary(self, calm: int) -> None:
        websocket = open_websocket(calm)
        websocket.send_text("4hello €")
        assert websocket.receive_text() == "4hello €"
        websocket.send(masked_frame(2, b"\x00\xff\x01"))
        assert websocket.frame() == (2, b"\x00\xff\x01")

    def test_binary_data_may_be_base64_on_a_websocket(self, calm: int) -> None:
        """socket.io-client with `forceBase64` sends it so. Only a client with `b64` gets it so."""
        for path, reply in ((SOCKET, (2, b"\x00\xff\x01")), (f"{SOCKET}&b64=1", (1, b"bAP8B"))):
            websocket = RawWebSocket(calm, path)
            assert websocket.receive_text().startswith("0{")
            websocket.send_text("bAP8B")
            assert websocket.frame() == reply

    def test_base64_may_have_line_feeds(self, calm: int) -> None:
        """The Java client ends it with one (Android's Base64.DEFAULT)."""
        sid = open_polling(calm)
        assert post(calm, sid, b"bAAEC\n\x1e4text\x1ebAA\nEC\n").body == b"ok"
        assert poll(calm, sid).body == b"bAAEC\x1e4text\x1ebAAEC"

    @pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 500_000])
    def test_frame_sizes_around_each_length_encoding(self, calm: int, size: int) -> None:
        websocket = open_websocket(calm)
        websocket.send(masked_frame(2, bytes(size)))
        assert websocket.frame() == (2, bytes(size))

    def test_fragments_are_joined_to_one_message(self, calm: int) -> None:
        websocket = open_websocket(calm)
        websocket.send(
            masked_frame(1, b"4ab", fin=False)
            + masked_frame(9, b"!")
            + masked_frame(0, b"c", fin=False)
            + masked_frame(0, b"d")
        )
        assert websocket.frame() == (10, b"!")
        assert websocket.receive_text() == "4abcd"

    @pytest.mark.parametrize("body", [b"abc", b"", b"4a\x1e", b"0", b"2", b"5", b"6", b"9x", b"4\xff", b"b!!!", b"3x"])
    def test_malformed_packet_in_a_post_closes_the_session(self, port: int, body: bytes) -> None:
        sid = open_polling(port)
        response = post(port, sid, body)
        assert response.status == 400
        assert response.error == (3, "Bad request")
        assert poll(port, sid).status == 400

    @pytest.mark.parametrize("text", ["abc", "", "0", "2", "5", "6", "9x", "3x"])
    def test_malformed_packet_on_a_websocket_closes_it(self, port: int, text: str) -> None:
        websocket = open_websocket(port)
        websocket.send_text(text)
        assert websocket.close_code() == 1002

    def test_put_to_a_session_is_refused(self, port: int) -> None:
        sid = open_polling(port)
        assert request(port, "PUT", f"{POLLING}&sid={sid}", b"4x").status == 400

    def test_post_that_is_too_large_is_refused_before_its_body_arrives(self, port: int) -> None:
        sid = open_polling(port)
        with RawClient(port) as raw:
            raw.send(f"POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n".encode())
            assert raw.response().status == 413
            assert raw.is_closed()
        assert poll(port, sid).status == 400

    def test_chunked_post_is_accepted(self, calm: int) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as raw:
            raw.send(f"POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            for byte in b"3\r\n4he\r\n3;x=y\r\nllo\r\n0\r\n\r\n":
                raw.send(bytes([byte]))
            assert raw.response().body == b"ok"
        assert poll(calm, sid).body == b"4hello"

    def test_chunked_post_that_is_too_large_is_refused(self, port: int) -> None:
        sid = open_polling(port)
        with RawClient(port) as raw:
            raw.send(f"POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            raw.send(b"f4241\r\n")
            assert raw.response().status == 413
        assert poll(port, sid).status == 400


class TestHeartbeat:
    def test_polling_session_receives_pings(self, port: int) -> None:
        sid = open_polling(port)
        for _ in range(3):
            assert poll(port, sid).body == b"2"
            assert post(port, sid, b"3").status == 200

    def test_polling_session_without_pongs_ends_after_the_timeout(self, port: int) -> None:
        sid = open_polling(port)
        # `wait_until` cannot be used here, because a poll keeps the session alive.
        time.sleep(ALL_PINGS_S + QUIET_S)
        assert poll(port, sid).status == 400

    def test_websocket_receives_pings(self, port: int) -> None:
        websocket = open_websocket(port)
        for _ in range(3):
            assert websocket.frame() == (1, b"2")
            websocket.send_text("3")

    def test_silent_websocket_is_closed_after_the_timeout(self, port: int) -> None:
        websocket = open_websocket(port)
        began = time.monotonic()
        assert websocket.close_code() == 4007
        assert time.monotonic() - began < ALL_PINGS_S + 0.5

    def test_any_frame_counts_as_a_heartbeat(self, port: int) -> None:
        websocket = open_websocket(port)
        deadline_s = time.monotonic() + 3 * ALL_PINGS_S
        while time.monotonic() < deadline_s:
            websocket.send(masked_frame(2, b"."))
            time.sleep(0.05)
        websocket.send_text("4end")
        while (frame := websocket.frame()) != (1, b"4end"):
            assert frame in ((1, b"2"), (2, b"."))


class TestClose:
    def test_client_closes_a_polling_session(self, port: int) -> None:
        sid = open_polling(port)
        with RawClient(port) as waiting:
            waiting.send_request("GET", f"{POLLING}&sid={sid}")
            assert waiting.is_quiet(0.05)
            assert post(port, sid, b"1").body == b"ok"
            assert waiting.response().body == b"6"
        assert poll(port, sid).status == 400

    def test_server_closes_a_polling_session(self, calm: int) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as waiting:
            waiting.send_request("GET", f"{POLLING}&sid={sid}")
            assert waiting.is_quiet(0.05)
            assert post(calm, sid, b"4close").status == 200
            assert waiting.response().body == b"1"
        assert poll(calm, sid).status == 400

    @pytest.mark.parametrize("waiting", [True, False])
    def test_close_after_which_the_client_reconnects_has_its_code(self, calm: int, waiting: bool) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as raw:
            if waiting:
                raw.send_request("GET", f"{POLLING}&sid={sid}")
                assert raw.is_quiet(0.05)
            assert post(calm, sid, b"4unavailable").status == 200
            if not waiting:
                raw.send_request("GET", f"{POLLING}&sid={sid}")
            response = raw.response()
        # python-engineio reconnects after an error, and not after a close packet.
        assert (response.status, response.error) == (400, (1, "Session ID unknown"))
        assert json.loads(response.body)["error"]["code"] == "unavailable"
        assert json.loads(poll(calm, sid).body) == {"code": 1, "message": "Session ID unknown"}

    @pytest.mark.parametrize("waiting", [True, False])
    def test_packets_sent_before_a_close_are_delivered(self, calm: int, waiting: bool) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as raw:
            assert post(calm, sid, b"4leave").status == 200
            if waiting:
                raw.send_request("GET", f"{POLLING}&sid={sid}")
            stay_quiet()
            if not waiting:
                raw.send_request("GET", f"{POLLING}&sid={sid}")
            assert raw.response().body == b"4because"
        if not waiting:
            # Never in one payload: socket.io-client would close before it handles the message.
            assert poll(calm, sid).body == b"1"
        assert poll(calm, sid).status == 400
        websocket = open_websocket(calm)
        websocket.send_text("4leave")
        assert websocket.receive_text() == "4because"
        assert websocket.close_code() == 4501

    def test_client_closes_a_websocket_session(self, port: int) -> None:
        websocket = open_websocket(port)
        websocket.send_text("1")
        assert websocket.close_code() == 1000
        assert websocket.is_closed()

    def test_server_closes_a_websocket_session_with_the_close_code(self, calm: int) -> None:
        websocket = open_websocket(calm)
        websocket.send_text("4close")
        assert websocket.frame() == (8, (4503).to_bytes(2, "big") + b"revoked")

    @pytest.mark.parametrize(
        ("payload", "code"),
        [
            (b"", 1000),
            ((1000).to_bytes(2, "big"), 1000),
            ((1001).to_bytes(2, "big") + b"bye", 1001),
            ((4321).to_bytes(2, "big"), 4321),
            (b"\x03", 1002),
            ((1005).to_bytes(2, "big"), 1002),
            ((999).to_bytes(2, "big"), 1002),
            ((1000).to_bytes(2, "big") + b"\xff", 1007),
        ],
    )
    def test_a_close_frame_is_answered(self, calm: int, payload: bytes, code: int) -> None:
        websocket = open_websocket(calm)
        websocket.send(masked_frame(8, payload))
        assert websocket.close_code() == code
        assert websocket.is_closed()

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"\x81\x021a", 1002),
            (masked_frame(1, b"4", rsv=0x40), 1002),
            (masked_frame(1, b"4", rsv=0x20), 1002),
            (masked_frame(1, b"4", rsv=0x10), 1002),
            (masked_frame(3, b"4"), 1002),
            (masked_frame(11, b"4"), 1002),
            (masked_frame(9, b"x" * 126), 1002),
            (masked_frame(9, b"x", fin=False), 1002),
            (masked_frame(0, b"x"), 1002),
            (masked_frame(1, b"4", fin=False) + masked_frame(1, b"4"), 1002),
            (masked_frame(1, b"4\xff"), 1007),
            (masked_frame(1, b"4\xc3", fin=False) + masked_frame(0, b"\x28"), 1007),
            (b"\x82\xff" + (1_000_001).to_bytes(8, "big") + b"mask", 1009),
            (masked_frame(2, bytes(600_000), fin=False) + masked_frame(0, bytes(400_001)), 1009),
            (b"\x82\xff" + (2**63).to_bytes(8, "big"), 1002),
            (b"\x82\xfe\x00\x01mask1", 1002),
        ],
    )
    def test_malformed_frames_close_with_the_right_code(self, calm: int, data: bytes, code: int) -> None:
        websocket = open_websocket(calm)
        other = open_websocket(calm)
        websocket.send(data)
        assert websocket.close_code() == code
        other.send_text("4still here")
        assert other.receive_text() == "4still here"

    def test_two_polls_at_once_close_the_session(self, calm: int) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as first:
            first.send_request("GET", f"{POLLING}&sid={sid}")
            assert first.is_quiet(0.05)
            assert poll(calm, sid).status == 400
            assert first.response().body == b"1"
        assert poll(calm, sid).status == 400

    def test_two_posts_at_once_close_the_session(self, calm: int) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as first:
            first.send(f"POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n4".encode())
            assert first.is_quiet(0.05)
            assert post(calm, sid, b"4b").status == 400
            first.send(b"a")
            assert first.response().status == 400
        assert poll(calm, sid).status == 400

    def test_a_cancelled_poll_closes_the_session(self, calm: int) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as waiting:
            waiting.send_request("GET", f"{POLLING}&sid={sid}")
            assert waiting.is_quiet(0.05)
        wait_until(lambda: poll(calm, sid).status == 400, why="the session is closed")


class TestKeepAlive:
    """Consecutive polls on one HTTP connection, as clients send them: the engine has a fast path for these."""

    def begin(self, link: RawClient, sid: str) -> None:
        """Complete the first poll; the next request with the same header lines takes the fast path."""
        assert post(self.port, sid, b"4first").status == 200
        link.send_request("GET", f"{POLLING}&sid={sid}")
        assert link.response().body == b"4first"

    @pytest.fixture(autouse=True)
    def _port(self, calm: int) -> None:
        self.port = calm

    def test_polls_with_different_cache_busters(self) -> None:
        sid = open_polling(self.port)
        with RawClient(self.port) as link:
            self.begin(link, sid)
            for turn in range(20):
                link.send_request("GET", f"{POLLING}&t=x{turn}.a-b_c&sid={sid}")
                assert post(self.port, sid, b"4%d" % turn).status == 200
                assert link.response().body == b"4%d" % turn

    def test_sessions_of_several_clients_behind_one_proxy(self) -> None:
        first, second = open_polling(self.port), open_polling(self.port)
        with RawClient(self.port) as link:
            self.begin(link, first)
            self.begin(link, second)
            for sid in (first, second, first):
                assert post(self.port, sid, b"4" + sid.encode()).status == 200
                link.send_request("GET", f"{POLLING}&sid={sid}")
                assert link.response().body == b"4" + sid.encode()

    def test_second_simultaneous_poll_closes_the_session(self) -> None:
        sid = open_polling(self.port)
        with RawClient(self.port) as link, RawClient(self.port) as other:
            self.begin(link, sid)
            other.send_request("GET", f"{POLLING}&sid={sid}")
            assert other.is_quiet(0.05)
            link.send_request("GET", f"{POLLING}&sid={sid}")
            assert link.response().status == 400
            assert other.response().body == b"1"

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            (POLLING + "&sid=nobody", 400),
            (POLLING.replace("EIO=4", "EIO=3") + "&sid={sid}", 400),
            (POLLING.replace("polling", "websocket") + "&sid={sid}", 400),
            ("/elsewhere/" + POLLING.partition("/engine.io/")[2] + "&sid={sid}", 200),
        ],
    )
    def test_request_other_than_the_next_poll_is_checked_in_full(self, target: str, status: int) -> None:
        sid = open_polling(self.port)
        with RawClient(self.port) as link:
            self.begin(link, sid)
            link.send_request("GET", target.replace("{sid}", sid))
            response = link.response()
            # The web application serves another path, and echoes the request.
            assert (response.status, response.body[:4] == b"GET ") == (status, status == 200)
        assert post(self.port, sid, b"4alive").status == 200

    def test_another_origin_is_refused(self) -> None:
        with EngineProcess("--one-origin", "--ping_interval_ms=60000") as engine:
            sid = open_polling(engine.port)
            self.port = engine.port
            with RawClient(engine.port) as link:
                self.begin(link, sid)
                link.send_request("GET", f"{POLLING}&sid={sid}", Origin="https://evil.example")
                assert link.response().status == 403

    def test_two_requests_in_one_write(self) -> None:
        sid = open_polling(self.port)
        with RawClient(self.port) as link:
            self.begin(link, sid)
            assert post(self.port, sid, b"4one").status == 200
            head = f"GET {POLLING}&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            link.send(head + head)
            assert link.response().body == b"4one"
            assert post(self.port, sid, b"4two").status == 200
            assert link.response().body == b"4two"

    def test_a_poll_after_a_post_on_the_same_connection(self) -> None:
        sid = open_polling(self.port)
        with RawClient(self.port) as link:
            self.begin(link, sid)
            link.send_request("POST", f"{POLLING}&sid={sid}", b"4x")
            assert link.response().body == b"ok"
            link.send_request("GET", f"{POLLING}&sid={sid}")
            assert link.response().body == b"4x"


def probe(port: int, sid: str) -> RawWebSocket:
    """Open a WebSocket for a polling session and complete the probe of the upgrade."""
    websocket = RawWebSocket(port, f"{SOCKET}&sid={sid}")
    assert websocket.handshake.status == 101
    websocket.send_text("2probe")
    assert websocket.receive_text() == "3probe"
    return websocket


class TestUpgrade:
    def test_session_continues_over_the_websocket(self, calm: int) -> None:
        sid = open_polling(calm)
        websocket = probe(calm, sid)
        websocket.send_text("5")
        websocket.send_text("4hello")
        assert websocket.frame() == (1, b"4hello")
        assert websocket.is_quiet(0.2)

    def test_waiting_poll_is_released(self, calm: int) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as waiting:
            waiting.send_request("GET", f"{POLLING}&sid={sid}")
            assert waiting.is_quiet(0.05)
            websocket = probe(calm, sid)
            assert waiting.response().body == b"6"
            # A poll that was in transit when the client received the pong.
            assert poll(calm, sid).body == b"6"
        websocket.send_text("5")
        websocket.send_text("4a")
        assert websocket.frame() == (1, b"4a")

    def test_polling_is_refused_after_the_upgrade_and_the_session_stays_open(self, calm: int) -> None:
        sid = open_polling(calm)
        websocket = probe(calm, sid)
        websocket.send_text("5")
        wait_until(lambda: poll(calm, sid).status == 400, why="the session is upgraded")
        assert post(calm, sid, b"4x").status == 400
        websocket.send_text("4hello")
        assert websocket.frame() == (1, b"4hello")

    @pytest.mark.parametrize("phase", ["before the probe", "probed", "upgraded"])
    def test_a_second_websocket_is_closed(self, calm: int, phase: str) -> None:
        sid = open_polling(calm)
        websocket = RawWebSocket(calm, f"{SOCKET}&sid={sid}")
        if phase != "before the probe":
            websocket.send_text("2probe")
            assert websocket.receive_text() == "3probe"
        if phase == "upgraded":
            websocket.send_text("5")
            websocket.send_text("4upgraded")
            assert websocket.receive_text() == "4upgraded"
        second = RawWebSocket(calm, f"{SOCKET}&sid={sid}")
        assert second.handshake.status == 101
        assert second.close_code() == 1000
        if phase == "before the probe":
            websocket.send_text("2probe")
            assert websocket.receive_text() == "3probe"
        if phase != "upgraded":
            websocket.send_text("5")
        websocket.send_text("4hello")
        assert websocket.receive_text() == "4hello"

    @pytest.mark.parametrize("packets", [["4hello"], ["5"], ["2probe", "2probe"], ["2probe", "4early"], ["2"]])
    def test_invalid_probe_closes_only_that_websocket(self, calm: int, packets: list[str]) -> None:
        sid = open_polling(calm)
        websocket = RawWebSocket(calm, f"{SOCKET}&sid={sid}")
        for packet in packets:
            websocket.send_text(packet)
        assert websocket.close_code() == 1002
        assert post(calm, sid, b"4on").status == 200
        assert poll(calm, sid).body == b"4on"
        retry = probe(calm, sid)
        retry.send_text("5")
        retry.send_text("4x")
        assert retry.receive_text() == "4x"

    def test_unfinished_upgrade_times_out_and_the_session_stays_open(self) -> None:
        with EngineProcess("--upgrade_timeout_s=0.3", "--ping_interval_ms=2000") as engine:
            sid = open_polling(engine.port)
            websocket = probe(engine.port, sid)
            assert websocket.close_code() == 1000
            assert post(engine.port, sid, b"4on").status == 200
            assert poll(engine.port, sid).body == b"4on"
            engine.end()
            assert engine.metrics["upgrade_timeouts"] == 1

    @pytest.mark.parametrize("polls_first", [False, True])
    def test_session_closed_after_the_pong_reports_it_after_the_upgrade(self, calm: int, polls_first: bool) -> None:
        """engine.io-client no longer polls then, and does not notice a WebSocket that is closed before its `5`."""
        sid = open_polling(calm)
        websocket = probe(calm, sid)
        assert post(calm, sid, b"4leave").status == 200
        assert websocket.is_quiet(0.2)
        if polls_first:
            assert poll(calm, sid).body == b"4because"
        websocket.send_text("5")
        if not polls_first:
            assert websocket.receive_text() == "4because"
        assert websocket.close_code() == 4501
        assert poll(calm, sid).status == 400

    def test_probe_of_a_session_that_ends_before_the_pong_is_closed(self, calm: int) -> None:
        sid = open_polling(calm)
        websocket = RawWebSocket(calm, f"{SOCKET}&sid={sid}")
        assert post(calm, sid, b"4leave").status == 200
        assert websocket.close_code() == 1000
        assert poll(calm, sid).body == b"4because"

    def test_ended_session_waits_for_its_upgrade_only_until_the_timeout(self) -> None:
        with EngineProcess("--upgrade_timeout_s=0.3", "--ping_interval_ms=2000") as engine:
            sid = open_polling(engine.port)
            websocket = probe(engine.port, sid)
            assert post(engine.port, sid, b"4leave").status == 200
            assert websocket.close_code() == 1000
            assert poll(engine.port, sid).body == b"4because"
            engine.end()
            assert "upgrade_timeouts" not in engine.metrics

    def test_upgrade_with_another_protocol_version_is_refused(self, calm: int) -> None:
        sid = open_polling(calm)
        assert RawWebSocket(calm, f"/engine.io/?EIO=3&transport=websocket&sid={sid}").handshake.status == 400
        assert poll_after(calm, sid)

    def test_websocket_session_refuses_polls(self, calm: int) -> None:
        websocket = RawWebSocket(calm)
        sid = json.loads(websocket.receive_text()[1:])["sid"]
        assert poll(calm, sid).status == 400
        websocket.send_text("4x")
        assert websocket.receive_text() == "4x"

    @pytest.mark.parametrize("polls_between", [0, 1, 3])
    def test_upgrade_under_load_loses_and_reorders_nothing(self, calm: int, polls_between: int) -> None:
        count = 3000
        sid = open_polling(calm)
        received: list[str] = []
        assert post(calm, sid, b"4pour %d" % count).status == 200
        received += read_packets(poll(calm, sid))
        websocket = RawWebSocket(calm, f"{SOCKET}&sid={sid}")
        received += read_packets(poll(calm, sid))
        websocket.send_text("2probe")
        assert websocket.receive_text() == "3probe"
        for _ in range(polls_between):
            received += read_packets(poll(calm, sid))
        websocket.send_text("5")
        while len(received) < count:
            received.append(websocket.receive_text())
        assert received == [f"4{number}" for number in range(count)]


def read_packets(response: RawResponse) -> list[str]:
    assert response.status == 200
    return [part.decode() for part in response.body.split(SEPARATOR) if part != b"6"]


def poll_after(port: int, sid: str) -> bool:
    assert post(port, sid, b"4x").status == 200
    return poll(port, sid).body == b"4x"
