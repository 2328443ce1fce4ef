"""Packets, payloads and request tables of Engine.IO v4, without a socket."""

from __future__ import annotations

import itertools
import json

import pytest

from tidings.errors import BadPacket
from tidings_hub.engine.protocols import engineio as protocol
from tidings_hub.engine.protocols.engineio import EngineioError, PacketKind, ProbeAction, RequestAction, UpgradeState

POLLING = {"EIO": "4", "transport": "polling"}
WEBSOCKET = {"EIO": "4", "transport": "websocket"}


class TestPackets:
    def test_packets_of_a_client_are_decoded(self) -> None:
        assert protocol.decode_packet("4héllo") == (PacketKind.MESSAGE, "héllo")
        assert protocol.decode_packet("4") == (PacketKind.MESSAGE, "")
        assert protocol.decode_packet(b"\x00") == (PacketKind.MESSAGE, b"\x00")
        assert protocol.decode_packet("3") == (PacketKind.PONG, "")
        assert protocol.decode_packet("1") == (PacketKind.CLOSE, "")

    @pytest.mark.parametrize("text", ["", "0", "2", "2probe", "3probe", "5", "6", "7", "a", "é", "\u0664", "1x"])
    def test_packet_that_a_client_must_not_send_is_rejected(self, text: str) -> None:
        with pytest.raises(BadPacket):
            protocol.decode_packet(text)

    def test_payload_is_split_into_packets(self) -> None:
        assert list(protocol.decode_payload(b"4hello\x1ebAQID\x1e3")) == [
            (PacketKind.MESSAGE, "hello"),
            (PacketKind.MESSAGE, b"\x01\x02\x03"),
            (PacketKind.PONG, ""),
        ]
        assert len(list(protocol.decode_payload(b"\x1e".join([b"4x"] * 5000)))) == 5000

    def test_packets_of_a_payload_are_decoded_when_they_are_requested(self) -> None:
        packets = protocol.decode_payload(b"4a\x1e\xff\x1e4b")
        assert next(packets) == (PacketKind.MESSAGE, "a")
        with pytest.raises(BadPacket):
            next(packets)

    @pytest.mark.parametrize("body", [b"", b"\x1e", b"4a\x1e", b"\x1e4a", b"4\xff", b"bA", b"b!", b"b\xff", b"abc"])
    def test_malformed_payload_is_rejected(self, body: bytes) -> None:
        with pytest.raises(BadPacket):
            list(protocol.decode_payload(body))

    @pytest.mark.parametrize("data", ["", "text €", b"", b"\x00\xff"])
    def test_encoded_message_decodes_to_the_same_data(self, data: str | bytes) -> None:
        assert list(protocol.decode_payload(protocol.encode_message(data))) == [(PacketKind.MESSAGE, data)]
        for is_text_only in (False, True):
            frame = protocol.message_frame(data, is_text_only=is_text_only)
            assert protocol.packet_to_frame(protocol.encode_message(data), is_text_only=is_text_only) == frame

    @pytest.mark.parametrize(
        "text", ["AP+/AQID", "AP-_AQID", "AP+/\nAQID\n", "AP+/AQID\r\n", "\nA\nP\n+\n/\nA\nQ\nI\nD"]
    )
    def test_base64_of_any_client_is_accepted_on_both_transports(self, text: str) -> None:
        expected = (PacketKind.MESSAGE, b"\x00\xff\xbf\x01\x02\x03")
        assert list(protocol.decode_payload(b"4a\x1eb" + text.encode()))[1] == expected
        assert protocol.decode_packet(f"b{text}") == expected

    @pytest.mark.parametrize(("text", "data"), [("", b""), ("AA", b"\0"), ("AA==", b"\0"), ("AAA=\n", b"\0\0")])
    def test_base64_needs_no_padding(self, text: str, data: bytes) -> None:
        assert protocol.decode_packet(f"b{text}") == (PacketKind.MESSAGE, data)

    @pytest.mark.parametrize("text", ["A", "AA A", "AA\t", "A=A", "AAAA=AAAA", "AA\0A", "\u0663AAA", "!"])
    def test_other_text_is_not_base64(self, text: str) -> None:
        with pytest.raises(BadPacket):
            protocol.decode_packet(f"b{text}")

    def test_client_that_asks_for_base64_gets_text_frames_only(self) -> None:
        assert protocol.wants_text_only({"b64": "1"})
        assert not protocol.wants_text_only({})
        assert (
            protocol.message_frame(b"\0", is_text_only=True)
            == protocol.message_frame("x", is_text_only=True)[:1] + b"\x05bAA=="
        )

    def test_open_packet_states_times_in_milliseconds(self) -> None:
        packet = protocol.open_packet(
            "s", ["websocket"], ping_interval_ms=300, ping_timeout_ms=200, max_payload_bytes=9
        )
        assert packet[:1] == b"0"
        assert json.loads(packet[1:]) == {
            "sid": "s",
            "upgrades": ["websocket"],
            "pingInterval": 300,
            "pingTimeout": 200,
            "maxPayload": 9,
        }


class TestRequests:
    def test_requests_without_a_session_id(self) -> None:
        assert protocol.open_action("GET", POLLING, upgrade=False) is RequestAction.OPEN_POLLING
        assert protocol.open_action("GET", WEBSOCKET, upgrade=True) is RequestAction.OPEN_WEBSOCKET
        assert protocol.open_action("GET", POLLING, upgrade=True) is protocol.BAD_REQUEST
        assert protocol.open_action("GET", WEBSOCKET, upgrade=False) is protocol.BAD_REQUEST
        assert protocol.open_action("POST", POLLING, upgrade=False) is protocol.BAD_METHOD

    def test_every_combination_has_exactly_one_action(self) -> None:
        allowed = set()
        for query, method, upgrade, state in itertools.product(
            (POLLING, WEBSOCKET), ("GET", "POST", "PUT", "HEAD"), (False, True), UpgradeState
        ):
            action = protocol.session_action(method, query, state, upgrade=upgrade)
            if isinstance(action, EngineioError):
                assert action is protocol.BAD_REQUEST
            else:
                allowed.add((query["transport"], method, state, action))
        before_upgrade = (UpgradeState.POLLING, UpgradeState.PROBING, UpgradeState.PROBED)
        assert allowed == {
            *[("polling", "GET", state, RequestAction.POLL) for state in before_upgrade],
            *[("polling", "POST", state, RequestAction.POST) for state in before_upgrade],
            ("websocket", "GET", UpgradeState.POLLING, RequestAction.PROBE),
            *[
                ("websocket", "GET", state, RequestAction.REDUNDANT_WEBSOCKET)
                for state in UpgradeState
                if state is not UpgradeState.POLLING
            ],
        }

    def test_unknown_session_is_an_error(self) -> None:
        assert protocol.session_action("GET", POLLING, None, upgrade=False) is protocol.UNKNOWN_SESSION

    @pytest.mark.parametrize("state", list(UpgradeState))
    def test_version_and_transport_are_checked_with_every_request(self, state: UpgradeState) -> None:
        assert protocol.session_action("GET", {**POLLING, "EIO": "3"}, state, upgrade=False) is protocol.UNKNOWN_VERSION
        assert protocol.session_action("GET", {"EIO": "4"}, state, upgrade=False) is protocol.UNKNOWN_TRANSPORT

    def test_error_body_is_the_json_of_engine_io(self) -> None:
        assert protocol.UNKNOWN_SESSION.body() == b'{"code":1,"message":"Session ID unknown"}'


class TestProbes:
    def test_probe_then_upgrade_is_allowed(self) -> None:
        assert protocol.probe_action(UpgradeState.PROBING, "2probe") is ProbeAction.SEND_PONG
        assert protocol.probe_action(UpgradeState.PROBED, "5") is ProbeAction.UPGRADE

    @pytest.mark.parametrize("state", list(UpgradeState))
    @pytest.mark.parametrize("data", ["2probe", "5", "2", "3probe", "4x", "", b"5", b"2probe"])
    def test_every_other_packet_of_a_probe_is_rejected(self, state: UpgradeState, data: str | bytes) -> None:
        if (state, data) in {(UpgradeState.PROBING, "2probe"), (UpgradeState.PROBED, "5")}:
            return
        with pytest.raises(BadPacket):
            protocol.probe_action(state, data)
