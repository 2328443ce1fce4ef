"""Engine.IO v4 without a socket."""

from __future__ import annotations

import itertools
import json

import pytest

from tidings.errors import BadPacket
from tidings_hub.engine import engineio as protocol
from tidings_hub.engine.engineio import Heard, Phase, Probe, Refusal, Step

POLLING = {"EIO": "4", "transport": "polling"}
SOCKET = {"EIO": "4", "transport": "websocket"}


class TestPackets:
    def test_what_a_client_may_send(self) -> None:
        assert protocol.packet("4héllo") == (Heard.MESSAGE, "héllo")
        assert protocol.packet("4") == (Heard.MESSAGE, "")
        assert protocol.packet(b"\x00") == (Heard.MESSAGE, b"\x00")
        assert protocol.packet("3") == (Heard.PONG, "")
        assert protocol.packet("1") == (Heard.CLOSE, "")

    @pytest.mark.parametrize("text", ["", "0", "2", "2probe", "3probe", "5", "6", "7", "a", "é", "\u0664", "1x"])
    def test_what_it_may_not(self, text: str) -> None:
        with pytest.raises(BadPacket):
            protocol.packet(text)

    def test_payloads(self) -> None:
        assert protocol.payload(b"4hello\x1ebAQID\x1e3") == [
            (Heard.MESSAGE, "hello"),
            (Heard.MESSAGE, b"\x01\x02\x03"),
            (Heard.PONG, ""),
        ]
        assert len(protocol.payload(b"\x1e".join([b"4x"] * 5000))) == 5000

    @pytest.mark.parametrize("body", [b"", b"\x1e", b"4a\x1e", b"\x1e4a", b"4\xff", b"bA", b"b!", b"b\xff", b"abc"])
    def test_bad_payloads(self, body: bytes) -> None:
        with pytest.raises(BadPacket):
            protocol.payload(body)

    @pytest.mark.parametrize("data", ["", "text €", b"", b"\x00\xff"])
    def test_a_message_reads_back(self, data: str | bytes) -> None:
        assert protocol.payload(protocol.message(data)) == [(Heard.MESSAGE, data)]
        assert protocol.as_frame(protocol.message(data)) == protocol.message_frame(data)

    def test_the_open_packet_keeps_milliseconds(self) -> None:
        said = protocol.open_packet("s", ["websocket"], ping_interval_ms=300, ping_timeout_ms=200, max_payload_bytes=9)
        assert said[:1] == b"0"
        assert json.loads(said[1:]) == {
            "sid": "s",
            "upgrades": ["websocket"],
            "pingInterval": 300,
            "pingTimeout": 200,
            "maxPayload": 9,
        }


class TestRequests:
    def test_openings(self) -> None:
        assert protocol.opening("GET", POLLING, upgrade=False) is Step.OPEN_POLLING
        assert protocol.opening("GET", SOCKET, upgrade=True) is Step.OPEN_WEBSOCKET
        assert protocol.opening("GET", POLLING, upgrade=True) is protocol.BAD_REQUEST
        assert protocol.opening("GET", SOCKET, upgrade=False) is protocol.BAD_REQUEST
        assert protocol.opening("POST", POLLING, upgrade=False) is protocol.BAD_METHOD

    def test_every_combination_has_exactly_one_answer(self) -> None:
        allowed = set()
        for query, method, upgrade, phase in itertools.product(
            (POLLING, SOCKET), ("GET", "POST", "PUT", "HEAD"), (False, True), Phase
        ):
            got = protocol.request(method, query, phase, upgrade=upgrade)
            if isinstance(got, Refusal):
                assert got is protocol.BAD_REQUEST
            else:
                allowed.add((query["transport"], method, phase, got))
        before = (Phase.POLLING, Phase.PROBING, Phase.PROBED)
        assert allowed == {
            *[("polling", "GET", phase, Step.POLL) for phase in before],
            *[("polling", "POST", phase, Step.POST) for phase in before],
            ("websocket", "GET", Phase.POLLING, Step.PROBE),
            *[("websocket", "GET", phase, Step.SPARE_WEBSOCKET) for phase in Phase if phase is not Phase.POLLING],
        }

    def test_an_unknown_session(self) -> None:
        assert protocol.request("GET", POLLING, None, upgrade=False) is protocol.UNKNOWN_SESSION

    @pytest.mark.parametrize("phase", list(Phase))
    def test_version_and_transport_are_checked_with_every_request(self, phase: Phase) -> None:
        assert protocol.request("GET", {**POLLING, "EIO": "3"}, phase, upgrade=False) is protocol.UNKNOWN_VERSION
        assert protocol.request("GET", {"EIO": "4"}, phase, upgrade=False) is protocol.UNKNOWN_TRANSPORT

    def test_refusals_speak_engine_ios_json(self) -> None:
        assert protocol.UNKNOWN_SESSION.body() == b'{"code":1,"message":"Session ID unknown"}'


class TestProbes:
    def test_the_only_way(self) -> None:
        assert protocol.probe(Phase.PROBING, "2probe") is Probe.ANSWER
        assert protocol.probe(Phase.PROBED, "5") is Probe.UPGRADE

    @pytest.mark.parametrize("phase", list(Phase))
    @pytest.mark.parametrize("data", ["2probe", "5", "2", "3probe", "4x", "", b"5", b"2probe"])
    def test_no_other(self, phase: Phase, data: str | bytes) -> None:
        if (phase, data) in {(Phase.PROBING, "2probe"), (Phase.PROBED, "5")}:
            return
        with pytest.raises(BadPacket):
            protocol.probe(phase, data)
