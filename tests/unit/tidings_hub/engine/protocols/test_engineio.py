"""Engine.IO v4 without a socket."""

from __future__ import annotations

import itertools
import json

import pytest

from tidings.errors import BadPacket
from tidings_hub.engine.protocols import engineio as protocol
from tidings_hub.engine.protocols.engineio import EngineioError, PacketKind, ProbeAction, RequestAction, UpgradeState

POLLING = {"EIO": "4", "transport": "polling"}
SOCKET = {"EIO": "4", "transport": "websocket"}


class TestPackets:
    def test_what_a_client_may_send(self) -> None:
        assert protocol.decode_packet("4héllo") == (PacketKind.MESSAGE, "héllo")
        assert protocol.decode_packet("4") == (PacketKind.MESSAGE, "")
        assert protocol.decode_packet(b"\x00") == (PacketKind.MESSAGE, b"\x00")
        assert protocol.decode_packet("3") == (PacketKind.PONG, "")
        assert protocol.decode_packet("1") == (PacketKind.CLOSE, "")

    @pytest.mark.parametrize("text", ["", "0", "2", "2probe", "3probe", "5", "6", "7", "a", "é", "\u0664", "1x"])
    def test_what_it_may_not(self, text: str) -> None:
        with pytest.raises(BadPacket):
            protocol.decode_packet(text)

    def test_payloads(self) -> None:
        assert protocol.decode_payload(b"4hello\x1ebAQID\x1e3") == [
            (PacketKind.MESSAGE, "hello"),
            (PacketKind.MESSAGE, b"\x01\x02\x03"),
            (PacketKind.PONG, ""),
        ]
        assert len(protocol.decode_payload(b"\x1e".join([b"4x"] * 5000))) == 5000

    @pytest.mark.parametrize("body", [b"", b"\x1e", b"4a\x1e", b"\x1e4a", b"4\xff", b"bA", b"b!", b"b\xff", b"abc"])
    def test_bad_payloads(self, body: bytes) -> None:
        with pytest.raises(BadPacket):
            protocol.decode_payload(body)

    @pytest.mark.parametrize("data", ["", "text €", b"", b"\x00\xff"])
    def test_a_message_reads_back(self, data: str | bytes) -> None:
        assert protocol.decode_payload(protocol.encode_message(data)) == [(PacketKind.MESSAGE, data)]
        assert protocol.packet_to_frame(protocol.encode_message(data)) == protocol.message_frame(data)

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
        assert protocol.open_action("GET", POLLING, upgrade=False) is RequestAction.OPEN_POLLING
        assert protocol.open_action("GET", SOCKET, upgrade=True) is RequestAction.OPEN_WEBSOCKET
        assert protocol.open_action("GET", POLLING, upgrade=True) is protocol.BAD_REQUEST
        assert protocol.open_action("GET", SOCKET, upgrade=False) is protocol.BAD_REQUEST
        assert protocol.open_action("POST", POLLING, upgrade=False) is protocol.BAD_METHOD

    def test_every_combination_has_exactly_one_answer(self) -> None:
        allowed = set()
        for query, method, upgrade, phase in itertools.product(
            (POLLING, SOCKET), ("GET", "POST", "PUT", "HEAD"), (False, True), UpgradeState
        ):
            got = protocol.session_action(method, query, phase, upgrade=upgrade)
            if isinstance(got, EngineioError):
                assert got is protocol.BAD_REQUEST
            else:
                allowed.add((query["transport"], method, phase, got))
        before = (UpgradeState.POLLING, UpgradeState.PROBING, UpgradeState.PROBED)
        assert allowed == {
            *[("polling", "GET", phase, RequestAction.POLL) for phase in before],
            *[("polling", "POST", phase, RequestAction.POST) for phase in before],
            ("websocket", "GET", UpgradeState.POLLING, RequestAction.PROBE),
            *[
                ("websocket", "GET", phase, RequestAction.REDUNDANT_WEBSOCKET)
                for phase in UpgradeState
                if phase is not UpgradeState.POLLING
            ],
        }

    def test_an_unknown_session(self) -> None:
        assert protocol.session_action("GET", POLLING, None, upgrade=False) is protocol.UNKNOWN_SESSION

    @pytest.mark.parametrize("phase", list(UpgradeState))
    def test_version_and_transport_are_checked_with_every_request(self, phase: UpgradeState) -> None:
        assert protocol.session_action("GET", {**POLLING, "EIO": "3"}, phase, upgrade=False) is protocol.UNKNOWN_VERSION
        assert protocol.session_action("GET", {"EIO": "4"}, phase, upgrade=False) is protocol.UNKNOWN_TRANSPORT

    def test_refusals_speak_engine_ios_json(self) -> None:
        assert protocol.UNKNOWN_SESSION.body() == b'{"code":1,"message":"Session ID unknown"}'


class TestProbes:
    def test_the_only_way(self) -> None:
        assert protocol.probe_action(UpgradeState.PROBING, "2probe") is ProbeAction.SEND_PONG
        assert protocol.probe_action(UpgradeState.PROBED, "5") is ProbeAction.UPGRADE

    @pytest.mark.parametrize("phase", list(UpgradeState))
    @pytest.mark.parametrize("data", ["2probe", "5", "2", "3probe", "4x", "", b"5", b"2probe"])
    def test_no_other(self, phase: UpgradeState, data: str | bytes) -> None:
        if (phase, data) in {(UpgradeState.PROBING, "2probe"), (UpgradeState.PROBED, "5")}:
            return
        with pytest.raises(BadPacket):
            protocol.probe_action(phase, data)
