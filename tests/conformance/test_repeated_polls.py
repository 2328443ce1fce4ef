"""Polls and POSTs that a proxy or a browser sends again, over real sockets: nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from support.network.raw_client import (
    POLLING,
    WAIT_S,
    RawClient,
    RawResponse,
    RawWebSocket,
    open_polling,
    post,
    request,
)
from support.processes.engine import EngineProcess
from support.waiting import wait_until

UNKNOWN = (1, "Session ID unknown")
PROXY = {"X_Forwarded_For": "192.0.2.7"}


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess("--ping_interval_ms=60000", "--ping_timeout_ms=400", "--poll_pace_ms=0") as process:
        yield process


@pytest.fixture
def port(engine: EngineProcess) -> int:
    return engine.port


def poll_as(port: int, sid: str, t: str, **headers: str) -> RawResponse:
    return request(port, "GET", f"{POLLING}&t={t}&sid={sid}", **headers)


def open_as(port: int, t: str = "handshake", **headers: str) -> str:
    response = request(port, "GET", f"{POLLING}&t={t}", **headers)
    assert response.status == 200
    return response.body.split(b'"sid":"')[1].split(b'"')[0].decode()


class TestWithId:
    def test_repeat_gets_the_same_bytes_again(self, port: int) -> None:
        sid = open_as(port)
        assert post(port, sid, b"4one").status == 200
        first = poll_as(port, sid, "a1")
        assert post(port, sid, b"4two").status == 200
        assert poll_as(port, sid, "a1") == first
        assert first.body == b"4one"
        assert poll_as(port, sid, "a2").body == b"4two"

    def test_whole_number_among_other_ids_is_an_id(self, port: int) -> None:
        """The `t` of socket.io-client has digits only by chance. The proxy keeps the connection of the original."""
        sid = open_as(port)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "a1").body == b"4one"
        assert post(port, sid, b"4two").status == 200
        with RawClient(port) as original:
            original.send_request("GET", f"{POLLING}&t=17644284&sid={sid}")
            assert not original.is_quiet(WAIT_S)
            assert post(port, sid, b"4three").status == 200
            assert poll_as(port, sid, "17644284").body == b"4two"
            assert poll_as(port, sid, "a3").body == b"4three"

    def test_large_response_is_repeated_byte_for_byte(self, port: int) -> None:
        sid = open_as(port)
        assert post(port, sid, b"4flood 5 20000").status == 200
        first = poll_as(port, sid, "a1")
        assert len(first.body) > 100_000
        assert post(port, sid, b"4two").status == 200
        assert poll_as(port, sid, "a1") == first
        assert poll_as(port, sid, "a2").body == b"4two"

    def test_repeat_on_the_same_connection_gets_the_same_bytes_again(self, port: int) -> None:
        sid = open_as(port)
        with RawClient(port) as link:
            for t, body in (("a1", b"4one"), ("a2", b"4two")):
                assert post(port, sid, body).status == 200
                for _ in range(2):
                    link.send_request("GET", f"{POLLING}&t={t}&sid={sid}")
                    assert link.response().body == body

    def test_publication_to_a_waiting_poll_is_repeated(self, port: int) -> None:
        """The fan-out answers waiting polls with shared bytes."""
        sid, other = open_as(port), open_as(port)
        with RawClient(port) as first, RawClient(port) as second:
            first.send_request("GET", f"{POLLING}&t=a1&sid={sid}")
            second.send_request("GET", f"{POLLING}&t=b1&sid={other}")
            assert first.is_quiet(0.05)
            assert post(port, sid, b"4flood 1 3").status == 200
            response = first.response()
            assert response.body == second.response().body
            assert b'"n":' in response.body
        assert poll_as(port, sid, "a1").body == response.body
        assert poll_as(port, other, "b1").body == response.body

    def test_repeat_of_a_waiting_poll_takes_its_place(self, port: int) -> None:
        sid = open_as(port)
        with RawClient(port) as lost, RawClient(port) as repeat:
            lost.send_request("GET", f"{POLLING}&t=a1&sid={sid}")
            assert lost.is_quiet(0.05)
            repeat.send_request("GET", f"{POLLING}&t=a1&sid={sid}")
            assert lost.response().status == 400
            assert lost.is_closed()
            assert post(port, sid, b"4one").status == 200
            assert repeat.response().body == b"4one"
        assert post(port, sid, b"4two").status == 200
        assert poll_as(port, sid, "a2").body == b"4two"

    def test_original_that_is_read_after_its_repeat_does_not_take_its_place(self, engine: EngineProcess) -> None:
        """The order in which epoll reports two connections is not the order of their requests."""
        port = engine.port
        sid = open_as(port)
        with RawClient(port) as repeat, RawClient(port) as original:
            os.kill(engine.pid, signal.SIGSTOP)
            try:
                repeat.send_request("GET", f"{POLLING}&t=a1&sid={sid}")
                original.send_request("GET", f"{POLLING}&t=a1&sid={sid}")
                original.socket.close()
            finally:
                os.kill(engine.pid, signal.SIGCONT)
            assert post(port, sid, b"4one").status == 200
            assert repeat.response().body == b"4one"
        assert post(port, sid, b"4two").status == 200
        assert poll_as(port, sid, "a2").body == b"4two"

    def test_late_repeat_does_not_take_packets(self, port: int) -> None:
        sid = open_as(port)
        for t, body in (("a1", b"4one"), ("a2", b"4two")):
            assert post(port, sid, body).status == 200
            assert poll_as(port, sid, t).body == body
        assert post(port, sid, b"4three").status == 200
        assert poll_as(port, sid, "a1").status == 400
        assert poll_as(port, sid, "a3").body == b"4three"

    def test_late_repeat_of_a_post_is_discarded(self, port: int) -> None:
        """A proxy repeats it after its client has sent others, for example when a node was frozen with it."""
        sid = open_as(port)
        for number in range(4):
            assert request(port, "POST", f"{POLLING}&t=p{number}&sid={sid}", b"4%d" % number).status == 200
        for number in range(4):
            assert request(port, "POST", f"{POLLING}&t=p{number}&sid={sid}", b"4%d" % number).body == b"ok"
        assert poll_as(port, sid, "a1").body == b"40\x1e41\x1e42\x1e43"

    def test_very_late_repeat_does_not_disturb_a_waiting_poll(self, port: int) -> None:
        """The hub no longer remembers that poll. python-engineio never reconnects after a close packet."""
        sid = open_as(port)
        for number in range(6):
            assert post(port, sid, b"4%d" % number).status == 200
            assert poll_as(port, sid, f"a{number}").body == b"4%d" % number
        with RawClient(port) as waiting:
            waiting.send_request("GET", f"{POLLING}&t=a6&sid={sid}")
            assert waiting.is_quiet(0.05)
            assert poll_as(port, sid, "a0").status == 400
            assert post(port, sid, b"46").status == 200
            assert waiting.response().body == b"46"

    def test_endless_repeats_end_the_session(self, port: int) -> None:
        sid = open_as(port)
        assert post(port, sid, b"4one").status == 200
        assert [poll_as(port, sid, "a1").status for _ in range(5)] == [200] * 4 + [400]
        assert poll_as(port, sid, "a2").error == UNKNOWN

    @pytest.mark.parametrize("t", ["same", "1764428400"])
    def test_t_that_does_not_change_is_no_id(self, port: int, t: str) -> None:
        sid = open_as(port, t)
        for body in (b"4one", b"4two", b"4three"):
            assert post(port, sid, body).status == 200
            assert poll_as(port, sid, t).body == body

    def test_probe_does_not_hide_a_lost_response(self, port: int) -> None:
        sid = open_as(port)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "a1").body == b"4one"
        websocket = RawWebSocket(port, f"/engine.io/?EIO=4&transport=websocket&sid={sid}")
        websocket.send_text("2probe")
        assert websocket.receive_text() == "3probe"
        assert poll_as(port, sid, "a1").body == b"4one"
        assert poll_as(port, sid, "a2").body == b"6"
        websocket.send_text("5")
        websocket.send_text("4two")
        assert websocket.receive_text() == "4two"

    def test_close_does_not_hide_a_lost_response(self, port: int) -> None:
        sid = open_as(port)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "a1").body == b"4one"
        assert post(port, sid, b"4leave").status == 200
        wait_until(lambda: post(port, sid, b"3").status == 400, why="the session is closed")
        assert poll_as(port, sid, "a1").body == b"4one"
        assert poll_as(port, sid, "a2").body.startswith(b"4because")
        # The last payload can be lost as well.
        assert poll_as(port, sid, "a2").body.startswith(b"4because")


class TestWithoutId:
    def test_failed_connection_of_the_last_response_ends_the_session(self, port: int) -> None:
        sid = open_polling(port)
        with RawClient(port) as link:
            for body in (b"4one", b"4two"):
                assert post(port, sid, body).status == 200
                link.send_request("GET", f"{POLLING}&sid={sid}")
                assert link.response().body == body
        assert post(port, sid, b"4three").status == 200
        assert request(port, "GET", f"{POLLING}&sid={sid}").error == UNKNOWN

    @pytest.mark.parametrize("t", ["", "same"])
    def test_failed_connection_of_several_ends_the_session(self, port: int, t: str) -> None:
        """The repeat arrives on a connection that carried polls before. A `t` that does not change is no id."""
        sid = open_as(port, t)
        with RawClient(port) as first, RawClient(port) as second:
            for link, body in ((first, b"41"), (second, b"42"), (first, b"43")):
                assert post(port, sid, body).status == 200
                link.send_request("GET", f"{POLLING}&t={t}&sid={sid}")
                assert link.response().body == body
            first.socket.close()
            assert post(port, sid, b"44").status == 200
            second.send_request("GET", f"{POLLING}&t={t}&sid={sid}")
            assert second.response().error == UNKNOWN

    def test_response_that_the_client_does_not_read_ends_the_session(self, port: int) -> None:
        """The kernel holds all of it. The connection has not failed."""
        sid = open_polling(port)
        with RawClient(port, receive_bytes=4096) as stalled:
            assert post(port, sid, b"4" + b"x" * 300_000).status == 200
            stalled.send_request("GET", f"{POLLING}&sid={sid}")
            assert not stalled.is_quiet(WAIT_S)
            assert post(port, sid, b"4next").status == 200
            assert request(port, "GET", f"{POLLING}&sid={sid}").error == UNKNOWN

    def test_response_that_the_network_lost_ends_the_session(self, port: int) -> None:
        """A phone changes its network and keeps its public address. Nothing has closed the old connection."""
        sid = open_polling(port)
        with RawClient(port) as lost:
            for body in (b"41", b"42"):
                assert post(port, sid, body).status == 200
                lost.send_request("GET", f"{POLLING}&sid={sid}")
                assert lost.response().body == body
            lost.send_request("GET", f"{POLLING}&sid={sid}")
            assert lost.is_quiet(0.05)
            lost.drop_everything()
            assert post(port, sid, b"4lost").status == 200
            # The kernel sends it again for the first time after 0.2 s, if the machine is not busy.
            assert lost.is_quiet(1.0)
            assert post(port, sid, b"4next").status == 200
            assert request(port, "GET", f"{POLLING}&sid={sid}").error == UNKNOWN

    @pytest.mark.parametrize("wait_s", [1.0, 3.0], ids=["while it closes", "after it was closed"])
    def test_last_response_of_a_connection_that_the_network_lost_ends_the_session(
        self, port: int, wait_s: float
    ) -> None:
        """The client opens a connection for each request, and announces its close. The hub waits 2 s for it."""
        sid = open_polling(port)
        with RawClient(port) as lost:
            lost.send_request("GET", f"{POLLING}&sid={sid}", b"", Connection="close")
            assert lost.is_quiet(0.05)
            lost.drop_everything()
            assert post(port, sid, b"4lost").status == 200
            assert lost.is_quiet(wait_s)
            assert post(port, sid, b"4next").status == 200
            assert request(port, "GET", f"{POLLING}&sid={sid}", b"", Connection="close").error == UNKNOWN

    def test_client_with_several_connections_continues(self, port: int) -> None:
        sid = open_polling(port)
        with RawClient(port) as first, RawClient(port) as second:
            for link, body in ((first, b"41"), (first, b"42"), (second, b"43"), (first, b"44"), (second, b"45")):
                assert post(port, sid, body).status == 200
                link.send_request("GET", f"{POLLING}&sid={sid}")
                assert link.response().body == body

    @pytest.mark.parametrize("headers", [{}, {"Connection": "close"}], ids=["kept", "closed"])
    def test_connection_that_the_client_closed_before_it_read_the_response_ends_the_session(
        self, port: int, headers: dict[str, str]
    ) -> None:
        """The client opens a connection for each request. Its machine resets one whose bytes were not read."""
        sid = open_polling(port)
        for body in (b"41", b"42"):
            assert post(port, sid, body).status == 200
            assert request(port, "GET", f"{POLLING}&sid={sid}", b"", **headers).body == body
        assert post(port, sid, b"4lost").status == 200
        with RawClient(port) as lost:
            lost.send_request("GET", f"{POLLING}&sid={sid}", b"", **headers)
            assert not lost.is_quiet(WAIT_S)
        assert post(port, sid, b"4next").status == 200
        assert request(port, "GET", f"{POLLING}&sid={sid}", b"", **headers).error == UNKNOWN

    def test_announced_close_is_no_failure(self, port: int) -> None:
        sid = open_polling(port)
        with RawClient(port) as link:
            for body, headers in ((b"41", {}), (b"42", {"Connection": "close"})):
                assert post(port, sid, body).status == 200
                link.send_request("GET", f"{POLLING}&sid={sid}", b"", **headers)
                assert link.response().body == body
        assert post(port, sid, b"43").status == 200
        assert request(port, "GET", f"{POLLING}&sid={sid}").body == b"43"

    def test_waiting_poll_of_a_closed_connection_is_no_fault_of_the_client(self, engine: EngineProcess) -> None:
        """HTTP libraries repeat a request whose connection broke. epoll may report the repeat before the end."""
        port = engine.port
        sid = open_polling(port)
        with RawClient(port) as repeat, RawClient(port) as original:
            original.send_request("GET", f"{POLLING}&sid={sid}")
            assert original.is_quiet(0.05)
            os.kill(engine.pid, signal.SIGSTOP)
            try:
                repeat.send_request("GET", f"{POLLING}&sid={sid}")
                original.socket.close()
            finally:
                os.kill(engine.pid, signal.SIGCONT)
            assert repeat.response().error == UNKNOWN


class TestThroughAProxy:
    """A client without `t` whose proxy may repeat polls: a pong proves that a response arrived."""

    def test_next_poll_waits_for_the_pong(self, port: int) -> None:
        sid = open_as(port, "", **PROXY)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "", **PROXY).body == b"4one\x1e2"
        assert post(port, sid, b"4two").status == 200
        with RawClient(port) as link:
            link.send_request("GET", f"{POLLING}&sid={sid}", b"", **PROXY)
            assert link.is_quiet(0.05)
            assert post(port, sid, b"3").status == 200
            assert link.response().body == b"4two\x1e2"

    def test_poll_that_is_held_later_has_its_own_time_limit(self) -> None:
        """On the same connection, as of a client that keeps it, or of a proxy that shares it among clients."""
        timeout_s = 1.0
        options = ("--ping_interval_ms=60000", f"--ping_timeout_ms={timeout_s * 1000:.0f}")
        with EngineProcess(*options) as engine, RawClient(engine.port) as link:
            port = engine.port
            sid = open_as(port, "", **PROXY)

            def poll() -> None:
                link.send_request("GET", f"{POLLING}&sid={sid}", b"", **PROXY)

            assert post(port, sid, b"4one").status == 200
            poll()
            assert link.response().body == b"4one\x1e2"
            assert post(port, sid, b"4two").status == 200
            held_at_s = time.monotonic()
            poll()
            assert link.is_quiet(0.05)
            assert post(port, sid, b"3").status == 200
            assert link.response().body == b"4two\x1e2"
            time.sleep(max(0.0, held_at_s + 0.8 * timeout_s - time.monotonic()))
            poll()
            assert link.is_quiet(0.4 * timeout_s)
            assert post(port, sid, b"4three").status == 200
            assert post(port, sid, b"3").status == 200
            assert link.response().body == b"4three\x1e2"

    def test_http_1_0_is_the_sign_of_a_proxy_without_headers(self, port: int) -> None:
        """The default of nginx: HTTP/1.0, a connection per request, and no X-Forwarded-For."""
        sid = open_polling(port)
        for body in (b"4one", b"4two"):
            assert post(port, sid, body).status == 200
            with RawClient(port) as link:
                link.send(f"GET {POLLING}&sid={sid} HTTP/1.0\r\n\r\n".encode())
                response = link.response()
            if body == b"4one":
                assert response.body == b"4one\x1e2"
            else:
                assert response.error == UNKNOWN

    @pytest.mark.parametrize(
        "field",
        [
            *("Forwarded", "Via", "X_Real_IP", "X_Forwarded_Host", "X_Forwarded_Port"),
            # Envoy without `use_remote_address` adds these alone.
            *("X_Forwarded_Proto", "X_Request_Id", "X_Envoy_Expected_Rq_Timeout_Ms", "X_Envoy_Attempt_Count"),
        ],
    )
    def test_fields_of_proxies_are_recognized(self, port: int, field: str) -> None:
        sid = open_polling(port)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "", **{field: "1"}).body == b"4one\x1e2"

    def test_publications_have_pings_as_well(self, port: int) -> None:
        sid = open_as(port, "", **PROXY)
        with RawClient(port) as link:
            link.send_request("GET", f"{POLLING}&sid={sid}", b"", **PROXY)
            assert link.is_quiet(0.05)
            assert post(port, sid, b"4flood 1 3").status == 200
            assert link.response().body.endswith(b"\x1e2")

    def test_python_client_gets_no_more_packets_than_it_accepts(self, port: int) -> None:
        """python-engineio with `timestamp_requests=False` sends no `t`. It accepts 16 packets, the ping included."""
        headers = PROXY | {"User_Agent": "python-requests/2.32"}
        sid = open_as(port, "", **headers)
        assert post(port, sid, b"\x1e".join(b"4%d" % number for number in range(20))).status == 200
        first = poll_as(port, sid, "", **headers).body.split(b"\x1e")
        assert (len(first), first[-2:]) == (16, [b"414", b"2"])
        assert post(port, sid, b"3").status == 200
        assert poll_as(port, sid, "", **headers).body.startswith(b"415\x1e")

    def test_repeat_without_a_pong_ends_the_session(self, port: int) -> None:
        sid = open_as(port, "", **PROXY)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "", **PROXY).body == b"4one\x1e2"
        assert poll_as(port, sid, "", **PROXY).error == UNKNOWN

    def test_pong_before_the_poll_is_enough(self, port: int) -> None:
        sid = open_as(port, "", **PROXY)
        for body in (b"4one", b"4two", b"4three"):
            assert post(port, sid, body).status == 200
            assert poll_as(port, sid, "", **PROXY).body == body + b"\x1e2"
            assert post(port, sid, b"3").status == 200

    def test_closed_session_gives_no_later_packets_without_the_pong(self, port: int) -> None:
        sid = open_as(port, "", **PROXY)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "", **PROXY).body == b"4one\x1e2"
        assert post(port, sid, b"4leave").status == 200
        wait_until(lambda: request(port, "POST", f"{POLLING}&sid={sid}", b"4x").status == 400, why="it is closed")
        assert poll_as(port, sid, "", **PROXY).error == UNKNOWN

    def test_repeat_of_a_waiting_poll_is_no_fault_of_the_client(self, port: int) -> None:
        """nginx repeats a poll after `proxy_read_timeout`. `bad_packet` would mean: do not reconnect."""
        sid = open_as(port, "", **PROXY)
        with RawClient(port) as waiting:
            waiting.send_request("GET", f"{POLLING}&sid={sid}", b"", **PROXY)
            assert waiting.is_quiet(0.05)
            assert poll_as(port, sid, "", **PROXY).error == UNKNOWN
            assert waiting.response().error == UNKNOWN

    def test_final_payloads_of_a_closed_session_are_not_given_to_repeats(self, port: int) -> None:
        """No pong arrives after the end. So the second payload would hide that the first one was lost."""
        headers = PROXY | {"User_Agent": "python-requests/2.32"}
        sid = open_as(port, "", **headers)
        packets = [b"4%d" % number for number in range(20)]
        assert post(port, sid, b"\x1e".join([*packets, b"4leave"])).status == 200
        wait_until(lambda: post(port, sid, b"3").status == 400, why="the session is closed")
        assert poll_as(port, sid, "", **headers).body == b"\x1e".join(packets[:16])
        assert poll_as(port, sid, "", **headers).error == UNKNOWN

    def test_close_packet_follows_the_last_payload(self, port: int) -> None:
        sid = open_as(port, "", **PROXY)
        assert post(port, sid, b"4leave").status == 200
        wait_until(lambda: post(port, sid, b"3").status == 400, why="the session is closed")
        assert poll_as(port, sid, "", **PROXY).body.startswith(b"4because")
        assert poll_as(port, sid, "", **PROXY).body == b"1"

    def test_upgrade_continues_after_a_held_poll(self, port: int) -> None:
        sid = open_as(port, "", **PROXY)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "", **PROXY).body == b"4one\x1e2"
        websocket = RawWebSocket(port, f"/engine.io/?EIO=4&transport=websocket&sid={sid}")
        with RawClient(port) as link:
            link.send_request("GET", f"{POLLING}&sid={sid}", b"", **PROXY)
            websocket.send_text("2probe")
            assert websocket.receive_text() == "3probe"
            assert link.is_quiet(0.05)
            assert post(port, sid, b"3").status == 200
            assert link.response().body == b"6"
        websocket.send_text("5")
        websocket.send_text("4two")
        assert websocket.receive_text() == "4two"

    def test_upgrade_does_not_hide_a_lost_response(self, port: int) -> None:
        """A client that sends `5` before its poll has a response. The repeat of that poll waits for a pong."""
        sid = open_as(port, "", **PROXY)
        assert post(port, sid, b"4one").status == 200
        assert poll_as(port, sid, "", **PROXY).body == b"4one\x1e2"
        websocket = RawWebSocket(port, f"/engine.io/?EIO=4&transport=websocket&sid={sid}")
        with RawClient(port) as repeat:
            repeat.send_request("GET", f"{POLLING}&sid={sid}", b"", **PROXY)
            websocket.send_text("2probe")
            assert websocket.receive_text() == "3probe"
            assert repeat.is_quiet(0.05)
            websocket.send_text("5")
            websocket.send_text("4two")
            assert repeat.response().error == UNKNOWN
            assert websocket.close_code() == 1000


# One tick of the clock that Python before 3.13 reads on Windows.
TICK_NS = 15_625_000


def dart_time(tick_ns: int = 1_000_000) -> str:
    """The `t` of socket_io_client for Dart: milliseconds in base 36."""
    digits, rest = "", time.time_ns() // tick_ns * tick_ns // 1_000_000
    while rest:
        rest, digit = divmod(rest, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def python_time() -> str:
    """The `t` of python-socketio on Windows."""
    return str(time.time_ns() // TICK_NS * TICK_NS / 1e9)


class TestTimesAsIds:
    """Clients whose `t` is the time. A fast client sends two requests in one tick of its clock."""

    def exchange(self, link: RawClient, method: str, sid: str, body: bytes = b"", *, t: str) -> RawResponse:
        path = POLLING + (f"&t={t}" if t else "") + (f"&sid={sid}" if sid else "")
        # At most 16 packets per response, so that polls follow at once.
        link.send_request(method, path, body, User_Agent="python-requests/2.32")
        return link.response()

    @pytest.mark.parametrize("make_t", [dart_time, partial(dart_time, TICK_NS), python_time])
    def test_requests_that_follow_at_once_are_no_repeats(self, port: int, make_t: Callable[[], str]) -> None:
        post_t = "" if make_t is python_time else None
        with RawClient(port) as link, RawClient(port) as other:
            handshake_t = make_t()
            sid = self.exchange(link, "GET", "", t=handshake_t).body.split(b'"sid":"')[1].split(b'"')[0].decode()
            # A first poll with the `t` of the handshake would show that the values identify nothing.
            wait_until(lambda: make_t() != handshake_t)
            packets = [b"4%d" % number for number in range(640)]
            assert post(port, sid, b"\x1e".join(packets)).body == b"ok"
            received: list[bytes] = []
            while len(received) < len(packets):
                received += self.exchange(link, "GET", sid, t=make_t()).body.split(b"\x1e")
            assert received == packets
            for _ in range(50):
                t = make_t() if post_t is None else post_t
                assert self.exchange(other, "POST", sid, b"4same", t=t).body == b"ok"
            received = []
            while len(received) < 50:
                received += self.exchange(link, "GET", sid, t=make_t()).body.split(b"\x1e")
            assert received == [b"4same"] * 50

    def test_repeat_gets_the_same_bytes_again(self, port: int) -> None:
        t = dart_time()
        sid = open_as(port, t)
        assert post(port, sid, b"4one").status == 200
        first = poll_as(port, sid, t + "0")
        assert post(port, sid, b"4two").status == 200
        assert poll_as(port, sid, t + "0") == first
        assert first.body == b"4one"

    def test_session_moves_to_a_websocket(self, port: int) -> None:
        sid = open_as(port, dart_time())
        websocket = RawWebSocket(port, f"/engine.io/?EIO=4&transport=websocket&sid={sid}")
        with RawClient(port) as link:
            link.send_request("GET", f"{POLLING}&t={dart_time()}&sid={sid}")
            websocket.send_text("2probe")
            assert websocket.receive_text() == "3probe"
            assert link.response().body == b"6"
            # This poll may be handled after the upgrade.
            link.send_request("GET", f"{POLLING}&t={dart_time()}1&sid={sid}")
            websocket.send_text("5")
            websocket.send_text("4two")
            assert websocket.receive_text() == "4two"
            assert link.response().status in (200, 400)

    def test_session_may_end_before_its_poll_is_handled(self, port: int) -> None:
        sid = open_as(port, dart_time())
        with RawClient(port) as link:
            link.send_request("GET", f"{POLLING}&t={dart_time()}&sid={sid}")
            assert post(port, sid, b"1").status == 200
            assert link.response().status in (200, 400)
        with RawClient(port) as link:
            link.send_request("GET", f"{POLLING}&t={dart_time()}&sid={sid}")
            assert link.response().error == UNKNOWN


class TestPosts:
    def test_repeated_post_is_handled_once(self, port: int) -> None:
        sid = open_as(port)
        for t, body in (("p1", b"4one"), ("p1", b"4one"), ("p2", b"4one"), ("p2", b"4two")):
            assert request(port, "POST", f"{POLLING}&t={t}&sid={sid}", body).body == b"ok"
        assert poll_as(port, sid, "a1").body == b"4one\x1e4one\x1e4two"

    def test_equal_posts_of_two_sessions_during_their_upgrades_are_no_repeats(self, port: int) -> None:
        for _ in range(2):
            sid = open_as(port, "same")
            with RawClient(port) as link:
                head = f"POST {POLLING}&t=same&sid={sid} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
                link.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
                assert link.response().status == 100
                websocket = RawWebSocket(port, f"/engine.io/?EIO=4&transport=websocket&sid={sid}")
                websocket.send_text("2probe")
                assert websocket.receive_text() == "3probe"
                websocket.send_text("5")
                websocket.send_text("4upgraded")
                assert websocket.receive_text() == "4upgraded"
                link.send(b"4one")
                assert link.response().body == b"ok"
                assert websocket.receive_text() == "4one"

    @pytest.mark.parametrize("is_proxied", [True, False])
    def test_repeat_of_an_incomplete_post_is_no_fault_of_the_client(
        self, engine: EngineProcess, is_proxied: bool
    ) -> None:
        port = engine.port
        headers = PROXY if is_proxied else {}
        sid = open_as(port, **headers)
        with RawClient(port) as waiting, RawClient(port) as repeat, RawClient(port) as original:
            waiting.send_request("GET", f"{POLLING}&t=a1&sid={sid}", b"", **headers)
            head = f"POST {POLLING}&t=p1&sid={sid} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            original.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert original.response().status == 100
            os.kill(engine.pid, signal.SIGSTOP)
            try:
                repeat.send_request("POST", f"{POLLING}&t=p1&sid={sid}", b"4one", **headers)
                if not is_proxied:
                    original.socket.close()
            finally:
                os.kill(engine.pid, signal.SIGCONT)
            assert repeat.response().error == UNKNOWN
            assert waiting.response().error == UNKNOWN

    def test_waiting_poll_gets_no_close_packet_if_a_post_breaks(self, port: int) -> None:
        """python-engineio never reconnects after a close packet."""
        sid = open_as(port)
        with RawClient(port) as waiting, RawClient(port) as broken:
            waiting.send_request("GET", f"{POLLING}&t=a1&sid={sid}")
            head = f"POST {POLLING}&t=p1&sid={sid} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            broken.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert broken.response().status == 100
            broken.socket.close()
            assert waiting.response().error == UNKNOWN


def test_each_kind_is_counted() -> None:
    with EngineProcess("--ping_interval_ms=60000", "--ping_timeout_ms=200") as engine:
        sid = open_as(engine.port)
        for body in (b"4one", b"4one"):
            assert request(engine.port, "POST", f"{POLLING}&t=p1&sid={sid}", body).status == 200
        for _ in range(2):
            assert poll_as(engine.port, sid, "a1").body == b"4one"
        proxied = open_as(engine.port, "", **PROXY)
        assert post(engine.port, proxied, b"4one").status == 200
        assert [poll_as(engine.port, proxied, "", **PROXY).status for _ in range(2)] == [200, 400]
        engine.end()
    counted = {name: engine.metrics.get(name) for name in ("polls_repeated", "posts_repeated", "polls_unproven")}
    assert counted == {"polls_repeated": 1, "posts_repeated": 1, "polls_unproven": 1}
    assert "its poll may be a repeat" in engine.log
