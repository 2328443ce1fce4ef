"""Abusive and slow clients: the hub limits or closes them, and other clients are not affected."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.raw_client import (
    HANDSHAKE,
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
from support.waiting import stay_quiet, wait_until

CALM = ("--ping_interval_ms=60000", "--ping_timeout_ms=20000")


@pytest.fixture(scope="module")
def calm() -> Iterator[int]:
    with EngineProcess(*CALM) as engine:
        yield engine.port


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def connection_count(client: RawWebSocket) -> int:
    """Return the number of connections that the echo server reports to this client."""
    client.send_text("4who")
    return int(client.receive_text().split()[1])


class TestHttp:
    @pytest.mark.parametrize(
        "head",
        [
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"NONSENSE / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        ],
    )
    def test_ambiguous_request_is_refused_and_its_connection_closed(self, calm: int, head: bytes) -> None:
        with RawClient(calm) as raw:
            raw.send(head + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.response().status == 400
            assert raw.is_closed()

    @pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0", "h2c\r\nUpgrade: foo/2"])
    def test_upgrade_to_another_protocol_is_ignored(self, calm: int, upgrade: str) -> None:
        """As Java's HttpClient and `curl --http2` offer HTTP/2 with each request."""
        offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2_Settings": "AAMAAABk"}
        with RawClient(calm) as raw:
            for _ in range(2):
                raw.send_request("POST", "/web", b"body", **offer)
                assert raw.response().body == b"POST /web  127.0.0.1 http |body"
            raw.send_request("GET", POLLING, b"", **offer)
            sid = json.loads(raw.response().body[1:])["sid"]
            for number in range(2):
                raw.send_request("POST", f"{POLLING}&sid={sid}", b"4%d" % number, **offer)
                assert raw.response().body == b"ok"
                raw.send_request("GET", f"{POLLING}&sid={sid}", b"", **offer)
                assert raw.response().body == b"4%d" % number
            raw.send_request("GET", SOCKET, b"", **{**HANDSHAKE, "Upgrade": "h2c, websocket"})
            assert raw.response().status == 101

    def test_head_that_is_too_long_is_refused(self, calm: int) -> None:
        with RawClient(calm) as raw:
            raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000)
            assert raw.response().status == 431
            assert raw.is_closed()

    @pytest.mark.parametrize("chunk", [b"x\r\n", b"-1\r\n", b"5\r\nabcdeX", b"5\nabcde", b"fffffffff\r\n", b"1" * 400])
    def test_malformed_chunks_are_refused(self, calm: int, chunk: bytes) -> None:
        with RawClient(calm) as raw:
            raw.send(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\n" * 2)
            assert raw.response().status in (400, 413)
            assert raw.is_closed()

    def test_keep_alive_connection_serves_wsgi_polling_and_upgrade(self, calm: int) -> None:
        with RawClient(calm) as raw:
            for _ in range(3):
                raw.send_request("GET", "/web?a=1")
                assert raw.response().body == b"GET /web a=1 127.0.0.1 http |"
                raw.send_request("GET", POLLING)
                assert raw.response().body.startswith(b"0{")
            raw.send_request("GET", SOCKET, b"", **HANDSHAKE)
            assert raw.response().status == 101

    def test_pipelined_requests_are_answered_in_order(self, calm: int) -> None:
        sid = open_polling(calm)
        with RawClient(calm) as raw:
            raw.send_request("GET", "/slow")
            raw.send_request("POST", f"{POLLING}&sid={sid}", b"4a")
            raw.send_request("GET", f"{POLLING}&sid={sid}")
            raw.send_request("POST", "/web", b"body")
            assert raw.response().body.startswith(b"GET /slow")
            assert raw.response().body == b"ok"
            assert raw.response().body == b"4a"
            assert raw.response().body.endswith(b"|body")

    def test_head_sent_byte_by_byte_is_accepted(self, calm: int) -> None:
        with RawClient(calm) as raw:
            for byte in b"POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi":
                raw.send(bytes([byte]))
                # Long enough that the hub reads most bytes one by one.
                time.sleep(0.003)
            assert raw.response().body.endswith(b"|hi")

    def test_half_closed_client_receives_its_response(self, calm: int) -> None:
        with RawClient(calm) as raw:
            raw.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            raw.socket.shutdown(socket.SHUT_WR)
            response = raw.response()
            assert response.status == 200
            assert len(response.body) == 4_000_000

    def test_expect_100_continue_is_answered(self, calm: int) -> None:
        with RawClient(calm) as raw:
            raw.send(b"POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert raw.response().status == 100
            raw.send(b"hi")
            assert raw.response().body.endswith(b"|hi")

    def test_http_1_0_is_answered_and_closed(self, calm: int) -> None:
        with RawClient(calm) as raw:
            raw.send(f"GET {POLLING} HTTP/1.0\r\n\r\n".encode())
            assert raw.response().headers["connection"] == "close"
            assert raw.is_closed()

    def test_traceback_is_logged_and_not_sent(self) -> None:
        with EngineProcess(*CALM) as engine:
            response = request(engine.port, "GET", "/fail?token=hidden")
            assert response.status == 500
            assert b"secret" not in response.body
            engine.end()
            assert "secret in a traceback" in engine.log
            assert "hidden" not in engine.log

    def test_forwarded_headers_apply_only_from_trusted_proxies(self, calm: int) -> None:
        forged = {"X_Forwarded_For": "9.9.9.9, 10.0.0.7", "X_Forwarded_Proto": "https"}
        assert request(calm, "GET", "/w", b"", **forged).body == b"GET /w  127.0.0.1 http |"
        with EngineProcess(*CALM, "--proxied") as engine:
            assert request(engine.port, "GET", "/w", b"", **forged).body == b"GET /w  9.9.9.9 https 9.9.9.9, 10.0.0.7|"
            evil = {"X_Forwarded_For": "6.6.6.6, 9.9.9.9, 10.0.0.7"}
            assert b" 9.9.9.9 http " in request(engine.port, "GET", "/w", b"", **evil).body

    def test_only_configured_origins_are_allowed(self) -> None:
        with EngineProcess(*CALM, "--one-origin") as engine:
            good = request(engine.port, "GET", POLLING, Origin="https://good.example")
            assert good.headers["access-control-allow-origin"] == "https://good.example"
            assert good.headers["access-control-allow-credentials"] == "true"
            assert good.headers["vary"] == "Origin"
            preflight = request(
                engine.port, "OPTIONS", POLLING, Origin="https://good.example", Access_Control_Request_Headers="x-a"
            )
            assert (preflight.status, preflight.headers["access-control-allow-headers"]) == (204, "x-a")
            assert "access-control-allow-origin" not in request(engine.port, "GET", POLLING).headers
            for bad in ("https://evil.example", "null", "https://good.example.evil.com", "https://good.example:444"):
                for method in ("GET", "POST", "OPTIONS"):
                    response = request(engine.port, method, POLLING, Origin=bad)
                    assert response.status == 403
                    assert response.error == (4, "Forbidden")
                    # The page itself can read the reason. The response contains nothing else.
                    assert response.headers["access-control-allow-origin"] == "*"
                    assert "access-control-allow-credentials" not in response.headers
                    assert json.loads(response.body)["error"]["code"] == "bad_origin"
                # No page can read why a handshake failed, so the reason follows it.
                refused = RawWebSocket(engine.port, Origin=bad)
                assert refused.handshake.status == 101
                assert refused.receive_text().startswith('0{"sid":"refused"')
                assert json.loads(refused.receive_text().removeprefix("44"))["data"]["code"] == "bad_origin"
                assert refused.close_code() == 4504
                # A handshake of a session that cannot exist.
                assert RawWebSocket(engine.port, f"{SOCKET}&sid=x", Origin=bad).handshake.status == 403
                assert RawWebSocket(engine.port, SOCKET.replace("EIO=4", "EIO=3"), Origin=bad).handshake.status == 403
            # A client cannot allow another origin with a forged host header.
            forged = {"Origin": "http://evil", "X_Forwarded_Host": "evil"}
            assert request(engine.port, "GET", POLLING, b"", **forged).status == 403
            assert open_websocket(engine.port, Origin="https://good.example").handshake.status == 101
            engine.end()
            assert engine.metrics["bad_origins"] == 25


class TestTime:
    def test_slow_heads_and_bodies_time_out_while_others_are_served(self) -> None:
        with EngineProcess(*CALM, "--head_timeout_s=0.4", "--body_timeout_s=0.4", "--wsgi_pool=2") as engine:
            slow = [RawClient(engine.port) for _ in range(50)]
            for at, raw in enumerate(slow):
                raw.send(
                    b"GET / HTTP/1.1\r\nX: "
                    if at % 2
                    else b"POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"
                )
            silent = RawClient(engine.port)
            assert request(engine.port, "GET", "/web").status == 200
            began = time.monotonic()
            while time.monotonic() - began < 0.3:
                for raw in slow:
                    raw.send(b"y")
                time.sleep(0.1)
            for raw in slow:
                with contextlib.suppress(AssertionError):
                    assert raw.response().status == 408
                assert raw.is_closed()
            assert silent.is_closed()
            engine.end()
            assert engine.metrics["http_timeouts"] == 51

    def test_idle_connection_is_closed(self) -> None:
        with EngineProcess(*CALM, "--idle_timeout_s=0.3") as engine, RawClient(engine.port) as raw:
            raw.send_request("GET", POLLING)
            assert raw.response().status == 200
            assert raw.is_closed()
            engine.end()
            assert engine.metrics["http_idle"] == 1

    def test_response_that_the_client_does_not_read_is_aborted(self) -> None:
        with EngineProcess(*CALM, "--answer_timeout_s=0.3") as engine:
            before = descriptors(engine.pid)
            with RawClient(engine.port) as raw:
                raw.send_request("GET", "/huge")
                assert raw.read().startswith(b"HTTP/1.1 200")
                wait_until(lambda: descriptors(engine.pid) <= before, why="the connection is closed")
            engine.end()
            assert engine.metrics["http_unread"] == 1

    def test_closed_connection_is_cut_when_the_client_stays(self) -> None:
        with EngineProcess(*CALM, "--close_linger_s=1") as engine:
            before = descriptors(engine.pid)
            with RawClient(engine.port) as stubborn:
                stubborn.send(b"NONSENSE\r\n\r\n")
                assert stubborn.response().status == 400
                assert stubborn.is_closed()
                wait_until(lambda: descriptors(engine.pid) <= before, why="the connection is cut off")
            engine.end()
            assert engine.metrics["closes_cut"] == 1

    def test_client_that_never_connects_is_closed(self) -> None:
        with EngineProcess(*CALM, "--silent", "--connect_timeout_ms=300") as engine:
            websocket = open_websocket(engine.port)
            sid = open_polling(engine.port)
            assert websocket.close_code() == 4012
            wait_until(lambda: poll(engine.port, sid).status == 400, why="the polling session is closed")
            engine.end()
            assert engine.metrics["closed_connect_timeout"] == 2
            assert engine.reasons == ["connect_timeout", "connect_timeout"]

    def test_half_open_peer_is_closed_after_the_ping_timeout(self) -> None:
        with EngineProcess() as engine:
            # They never read and never respond. The server sees the same as with a peer behind a cut cable.
            peers = [RawWebSocket(engine.port) for _ in range(5)]
            watcher = open_websocket(engine.port)
            wait_until(lambda: connection_count(watcher) == 1, why="only the watcher is connected")
            assert len(peers) == 5
            engine.end()
            assert engine.metrics["closed_ping_timeout"] == 5

    def test_reset_connection_ends_without_ping_timeout(self) -> None:
        with EngineProcess(*CALM) as engine:
            for peer in [open_websocket(engine.port) for _ in range(5)]:
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.socket.close()
            watcher = open_websocket(engine.port)
            wait_until(lambda: connection_count(watcher) == 1, why="the engine notices the resets")
            watcher.send_text("4who")
            assert "ping timeout" not in watcher.receive_text()


class TestBounds:
    def test_wsgi_request_above_the_limit_gets_503(self) -> None:
        with EngineProcess(*CALM, "--wsgi_pool=1", "--wsgi_queue=1") as engine:
            requests = [RawClient(engine.port) for _ in range(5)]
            for raw in requests:
                raw.send_request("GET", "/slow")
            assert sorted(raw.response().status for raw in requests) == [200, 200, 503, 503, 503]
            assert request(engine.port, "GET", "/web").status == 200

    def test_wsgi_response_that_is_too_slow_or_too_large_gets_500(self) -> None:
        with EngineProcess(*CALM, "--wsgi_timeout_s=2", "--wsgi_response_max_bytes=1000000") as engine:
            assert request(engine.port, "GET", "/hang").status == 500
            assert request(engine.port, "GET", "/large").status == 500
            assert request(engine.port, "GET", "/web").status == 200
            engine.end()
            assert engine.metrics["wsgi_timeouts"] == 1
            assert engine.metrics["wsgi_too_large"] == 1

    def test_slow_consumer_is_closed_and_its_memory_is_freed(self) -> None:
        with EngineProcess(*CALM, "--out_buffer_bytes=300000") as engine:
            slow = open_websocket(engine.port)
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            polled = open_polling(engine.port)
            fast = open_websocket(engine.port)
            before = rss_bytes(engine.pid)
            for _ in range(30):
                fast.send_text("4flood 20 20000")
                numbers = [fast.receive_text() for _ in range(20)]
                assert all(number.startswith('42["ev"') for number in numbers)
            fast.send_text("4who")
            assert fast.receive_text().split()[1] == "1"
            assert poll(engine.port, polled).status == 400
            assert rss_bytes(engine.pid) - before < 8_000_000
            engine.end()
            assert engine.metrics["closed_slow"] == 2

    @pytest.mark.parametrize("transport", ["websocket", "polling"])
    def test_connection_that_floods_packets_is_closed(self, transport: str) -> None:
        with EngineProcess(*CALM, "--inbound_rate_per_s=0.1", "--inbound_burst=20") as engine:
            if transport == "websocket":
                websocket = open_websocket(engine.port)
                websocket.send(masked_frame(1, b"4x") * 21)
                assert websocket.close_code() == 4005
            else:
                sid = open_polling(engine.port)
                post(engine.port, sid, b"\x1e".join([b"4x"] * 21))
                assert poll(engine.port, sid).status == 400
            engine.end()
            assert engine.metrics["closed_too_fast"] == 1

    def test_packets_that_wait_while_the_loop_is_blocked_are_not_a_flood(self) -> None:
        """The client sends 20 per second, as it may. The engine reads all of them at once."""
        with EngineProcess(*CALM, "--inbound_rate_per_s=20", "--inbound_burst=5") as engine:
            websocket = open_websocket(engine.port)
            os.kill(engine.pid, signal.SIGSTOP)
            for _ in range(40):
                time.sleep(0.05)
                websocket.send(masked_frame(1, b"4x"))
            os.kill(engine.pid, signal.SIGCONT)
            assert [websocket.receive_text() for _ in range(40)] == ["4x"] * 40
            with contextlib.suppress(OSError):
                websocket.send(masked_frame(1, b"4x") * 2_000)
            assert websocket.close_code() in (4005, -1)
            engine.end()
            assert engine.metrics["closed_too_fast"] == 1

    @pytest.mark.parametrize(
        "flood",
        [
            masked_frame(2, b"xx", fin=False) + masked_frame(0, b"xx", fin=False) * 5000,
            masked_frame(1, b"", fin=False) + masked_frame(0, b"", fin=False) * 5000,
            masked_frame(9, b"") * 5000,
            masked_frame(10, b"") * 5000,
            masked_frame(1, b"3") * 5000,
        ],
        ids=["fragments", "empty fragments", "pings", "pongs", "packets"],
    )
    @pytest.mark.parametrize("is_probe", [False, True])
    def test_frames_of_any_kind_count_against_the_inbound_rate(self, flood: bytes, is_probe: bool) -> None:
        with EngineProcess(*CALM, "--inbound_rate_per_s=0.1", "--inbound_burst=20") as engine:
            if is_probe:
                websocket = RawWebSocket(engine.port, f"{SOCKET}&sid={open_polling(engine.port)}")
                websocket.send_text("2probe")
                assert websocket.receive_text() == "3probe"
            else:
                websocket = open_websocket(engine.port)
            with contextlib.suppress(OSError):
                websocket.send(flood)
            websocket.close_code()
            engine.end()
            # One batch of frames may be decoded after the rate is exceeded.
            assert engine.metrics.get("packets_received", 0) <= 20 + 64 + 1
            # A packet that does not belong to the upgrade ends a probe.
            is_ended_by_first_packet = is_probe and flood.startswith(masked_frame(1, b"3"))
            assert engine.metrics.get("closed_too_fast", 0) == (not is_ended_by_first_packet)

    def test_message_that_arrives_byte_by_byte_counts_against_the_inbound_rate(self) -> None:
        with EngineProcess(*CALM, "--inbound_rate_per_s=0.1", "--inbound_burst=20") as engine:
            websocket = open_websocket(engine.port)
            for byte in masked_frame(1, b"4a"):
                websocket.send(bytes([byte]))
                time.sleep(0.003)
            assert websocket.receive_text() == "4a"
            with contextlib.suppress(OSError):
                for byte in masked_frame(1, b"4" + b"x" * 100):
                    websocket.send(bytes([byte]))
                    time.sleep(0.003)
            assert websocket.close_code() in (4005, -1)
            engine.end()
            assert engine.metrics["closed_too_fast"] == 1

    def test_message_in_large_fragments_costs_one_packet(self) -> None:
        with EngineProcess(*CALM, "--inbound_rate_per_s=0.1", "--inbound_burst=2") as engine:
            websocket = open_websocket(engine.port)
            part = b"x" * 1300
            websocket.send(masked_frame(1, b"4" + part, fin=False) + masked_frame(0, part, fin=False) * 40)
            websocket.send(masked_frame(0, b"end"))
            assert websocket.receive_text() == "4" + "x" * 1300 * 41 + "end"

    def test_payload_is_decoded_only_up_to_the_inbound_rate(self) -> None:
        with EngineProcess(*CALM, "--inbound_rate_per_s=0.1", "--inbound_burst=20") as engine:
            sid = open_polling(engine.port)
            # The last packet is malformed. It is never reached.
            post(engine.port, sid, b"\x1e".join([b"3"] * 100_000 + [b"\xff"]))
            assert poll(engine.port, sid).status == 400
            engine.end()
            assert engine.metrics["closed_too_fast"] == 1
            assert engine.metrics["packets_received"] == 21
            assert "bad_packets" not in engine.metrics

    def test_pipelined_requests_let_other_connections_take_turns(self) -> None:
        with EngineProcess(*CALM) as engine:
            other = open_websocket(engine.port)
            raw = RawClient(engine.port)
            raw.send_request("GET", "/engine.io/")
            assert raw.response().status == 400
            os.kill(engine.pid, signal.SIGSTOP)
            raw.send(b"GET /engine.io/ HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
            other.send_text("4requests")
            os.kill(engine.pid, signal.SIGCONT)
            assert int(other.receive_text()[1:]) < 100
            raw.socket.shutdown(socket.SHUT_WR)
            # Requests that were received before the client's end have their responses.
            assert [raw.response().status for _ in range(1000)] == [400] * 1000

    def test_steady_sender_below_the_rate_stays_connected(self) -> None:
        with EngineProcess(*CALM, "--inbound_rate_per_s=50", "--inbound_burst=3") as engine:
            websocket = open_websocket(engine.port)
            for number in range(20):
                websocket.send_text(f"4{number}")
                assert websocket.receive_text() == f"4{number}"
                time.sleep(0.03)

    def test_connections_and_requests_leak_nothing(self) -> None:
        with EngineProcess(*CALM) as engine:

            def churn(times: int) -> None:
                for _ in range(times):
                    open_websocket(engine.port).socket.close()
                    assert post(engine.port, open_polling(engine.port), b"1").status == 200
                    request(engine.port, "GET", "/web")

            churn(100)
            stay_quiet()
            fds, rss = descriptors(engine.pid), rss_bytes(engine.pid)
            churn(400)
            wait_until(lambda: descriptors(engine.pid) == fds, why="all descriptors are closed")
            assert rss_bytes(engine.pid) - rss < 1_500_000


class TestFaults:
    def test_application_error_closes_only_its_connection(self) -> None:
        with EngineProcess(*CALM) as engine:
            other = open_websocket(engine.port)
            for _ in range(10):
                victim = open_websocket(engine.port)
                victim.send_text("4fail")
                assert victim.close_code() == 4006
                sid = open_polling(engine.port)
                post(engine.port, sid, b"4fail")
                assert poll(engine.port, sid).status == 400
                other.send_text("4still")
                assert other.receive_text() == "4still"
            engine.end()
            assert engine.metrics["application_errors"] == 20
            assert "pump_errors" not in engine.metrics

    def test_garbage_does_not_affect_other_connections(self, calm: int) -> None:
        other = open_websocket(calm)
        for garbage in (b"\x00" * 100, b"\xff" * 100, bytes(range(256)) * 8, b"\r\n" * 50, b"{}" * 5000):
            with RawClient(calm) as raw:
                raw.send(garbage)
                raw.socket.shutdown(socket.SHUT_WR)
                assert raw.is_closed()
            spoiled = open_websocket(calm)
            spoiled.send(garbage)
            spoiled.socket.shutdown(socket.SHUT_WR)
            assert spoiled.close_code() in (1002, 1007, 1009, -1)
        other.send_text("4here")
        assert other.receive_text() == "4here"

    def test_drain_closes_every_connection_with_its_code(self) -> None:
        with EngineProcess(*CALM) as engine:
            websockets = [open_websocket(engine.port) for _ in range(10)]
            sid = open_polling(engine.port)
            waiting = RawClient(engine.port)
            waiting.send_request("GET", f"{POLLING}&sid={sid}")
            assert waiting.is_quiet(0.1)
            engine.end()
            assert [client.close_code() for client in websockets] == [4002] * 10
            assert json.loads(waiting.response().body)["error"]["code"] == "draining"
            assert engine.reasons == ["draining"] * 11


class TestStreams:
    def test_stream_starts_with_headers_and_first_event(self, calm: int) -> None:
        with RawClient(calm) as raw:
            raw.send_request("GET", "/sse")
            response = raw.response()
            assert response.status == 200
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["x-accel-buffering"] == "no"
            while b"hello" not in raw.buffer:
                raw.buffer += raw.read()
            assert response.headers["transfer-encoding"] == "chunked"
            assert raw.buffer == b"d\r\nretry: 3000\n\n\r\n16\r\nevent: hello\ndata: 1\n\n\r\n"

    def test_stream_of_http_1_0_has_no_chunks(self, calm: int) -> None:
        with RawClient(calm) as raw:
            raw.send(b"GET /sse HTTP/1.0\r\n\r\n")
            assert "transfer-encoding" not in raw.response().headers
            while b"hello" not in raw.buffer:
                raw.buffer += raw.read()
            assert raw.buffer == b"retry: 3000\n\nevent: hello\ndata: 1\n\n"

    def test_closed_stream_ends_with_the_last_chunk(self) -> None:
        with EngineProcess(*CALM) as engine, RawClient(engine.port) as raw, RawClient(engine.port) as old:
            raw.send_request("GET", "/sse")
            old.send(b"GET /sse HTTP/1.0\r\n\r\n")
            raw.response(), old.response()
            engine.end()
            for client in (raw, old):
                while data := client.read():
                    client.buffer += data
            assert raw.buffer.endswith(b"event: hello\ndata: 1\n\n\r\n0\r\n\r\n")
            assert old.buffer.endswith(b"event: hello\ndata: 1\n\n")

    def test_events_before_the_accept_are_sent_after_it(self, calm: int) -> None:
        with RawClient(calm) as raw:
            raw.send_request("GET", "/sse?wait=1")
            assert raw.response().status == 200
            while b"hello" not in raw.buffer:
                raw.buffer += raw.read()
            early, hello = b"16\r\nevent: early\ndata: 1\n\n\r\n", b"16\r\nevent: hello\ndata: 1\n\n\r\n"
            assert raw.buffer == b"d\r\nretry: 3000\n\n\r\n" + early + hello

    def test_refused_stream_gets_an_error_response(self, calm: int) -> None:
        with RawClient(calm) as raw:
            raw.send_request("GET", "/sse?refuse=1")
            response = raw.response()
            assert (response.status, json.loads(response.body)["error"]["code"]) == (403, "forbidden")
            assert raw.is_closed()
        assert request(calm, "DELETE", "/sse").status == 405

    def test_comments_keep_a_stream_alive(self) -> None:
        with EngineProcess() as engine, RawClient(engine.port) as raw:
            raw.send_request("GET", "/sse")
            assert raw.response().status == 200
            while raw.buffer.count(b":\n\n") < 3:
                raw.buffer += raw.read()

    def test_stream_that_is_never_accepted_times_out(self) -> None:
        with EngineProcess(*CALM, "--connect_timeout_ms=300") as engine, RawClient(engine.port) as raw:
            raw.send_request("GET", "/sse?never=1")
            assert raw.response().status == 408
            assert raw.is_closed()
