"""Socket.IO v5 over real sockets, based on the official test suite (v5-current.md of Socket.IO).

The target is `tidings conformance`: the engine and the Socket.IO server that serve users.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from support.network.raw_client import RawWebSocket, masked_frame, request
from support.processes.hub import environment
from tidings_hub.commands.conformance import AUTH_AFTER_S

PATH = "/socket.io/?EIO=4&transport=websocket"
POLL = "/socket.io/?EIO=4&transport=polling"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [sys.executable, "-m", "tidings_hub", "conformance", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    match = re.search(rb":(\d+)/", process.stdout.readline())
    assert match
    yield int(match[1])
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"Traceback" not in errors


def open_connection(port: int) -> RawWebSocket:
    """Open a WebSocket and read Engine.IO's open packet."""
    connection = RawWebSocket(port, PATH)
    assert connection.handshake.status == 101
    assert connection.receive_text().startswith("0{")
    return connection


def connect(port: int) -> RawWebSocket:
    """Open a WebSocket and connect to the main namespace."""
    connection = open_connection(port)
    connection.send_text("40")
    assert re.fullmatch(r'40\{"sid":"[\w-]{20}"\}', connection.receive_text())
    assert connection.receive_text() == '42["auth",{}]'
    return connection


class TestConnect:
    def test_connect_to_the_main_namespace(self, port: int) -> None:
        connect(port)

    def test_payload_is_passed_to_the_server(self, port: int) -> None:
        connection = open_connection(port)
        connection.send_text('40{"token":"123"}')
        assert connection.receive_text().startswith('40{"sid":"')
        assert connection.receive_text() == '42["auth",{"token":"123"}]'

    def test_connect_to_a_custom_namespace(self, port: int) -> None:
        connection = open_connection(port)
        connection.send_text("40/custom,")
        assert connection.receive_text().startswith('40/custom,{"sid":"')
        assert connection.receive_text() == '42/custom,["auth",{}]'

    def test_payload_is_passed_to_a_custom_namespace(self, port: int) -> None:
        connection = open_connection(port)
        connection.send_text('40/custom,{"token":"abc"}')
        assert connection.receive_text().startswith('40/custom,{"sid":"')
        assert connection.receive_text() == '42/custom,["auth",{"token":"abc"}]'

    @pytest.mark.parametrize("packet", ["40", "40/custom,"])
    def test_auth_event_is_sent_separately_from_the_connect_packet(self, port: int, packet: str) -> None:
        # The official suite misses a packet that comes in the same read as the one before.
        connection = open_connection(port)
        connect_sent_s = time.monotonic()
        connection.send_text(packet)
        assert connection.receive_text().startswith(packet)
        assert '["auth",{}]' in connection.receive_text()
        assert time.monotonic() - connect_sent_s >= AUTH_AFTER_S

    def test_socketio_id_differs_from_the_engineio_id(self, port: int) -> None:
        connection = RawWebSocket(port, PATH)
        engine_id = json.loads(connection.receive_text()[1:])["sid"]
        connection.send_text("40")
        assert json.loads(connection.receive_text()[2:])["sid"] != engine_id

    def test_unknown_namespace_is_refused(self, port: int) -> None:
        connection = open_connection(port)
        connection.send_text("40/random")
        assert connection.receive_text() == '44/random,{"message":"Invalid namespace"}'

    def test_connection_without_connect_packet_is_closed_despite_pongs(self, port: int) -> None:
        connection = open_connection(port)
        while True:
            opcode, payload = connection.frame()
            if opcode == 8:
                break
            assert (opcode, payload) == (1, b"2")
            connection.send_text("3")
        assert int.from_bytes(payload[:2], "big") == 4012

    def test_connect_over_polling(self, port: int) -> None:
        sid = json.loads(request(port, "GET", POLL).body[1:])["sid"]
        path = f"{POLL}&sid={sid}"
        assert request(port, "POST", path, b"40").body == b"ok"
        body = b""
        while b"auth" not in body:
            body += request(port, "GET", path).body
        assert re.search(rb'40\{"sid":"[\w-]{20}"\}', body)
        assert body.index(b'40{"sid"') < body.index(b'42["auth",{}]')


class TestDisconnect:
    def test_leaving_the_main_namespace_keeps_the_connection(self, port: int) -> None:
        connection = connect(port)
        connection.send_text("41")
        opcode, payload = connection.frame()
        assert (opcode, payload) == (1, b"2")

    def test_leaving_a_custom_namespace_keeps_the_main_one(self, port: int) -> None:
        connection = connect(port)
        connection.send_text("40/custom")
        assert connection.receive_text().startswith("40/custom,")
        assert connection.receive_text().startswith("42/custom,")
        connection.send_text("41/custom")
        connection.send_text('42["message","message to main namespace"]')
        assert connection.receive_text() == '42["message-back","message to main namespace"]'


class TestMessage:
    def test_text_is_echoed(self, port: int) -> None:
        connection = connect(port)
        connection.send_text('42["message",1,"2",{"3":[true]}]')
        assert connection.receive_text() == '42["message-back",1,"2",{"3":[true]}]'

    def test_text_is_acknowledged(self, port: int) -> None:
        connection = connect(port)
        connection.send_text('42456["message-with-ack",1,"2",{"3":[false]}]')
        assert connection.receive_text() == '43456[1,"2",{"3":[false]}]'

    @pytest.mark.parametrize(
        ("packet", "response"),
        [
            ('452-["message",{}]', '452-["message-back",{}]'),
            ('452-789["message-with-ack",{}]', "462-789[{}]"),
        ],
    )
    def test_binary_is_echoed(self, port: int, packet: str, response: str) -> None:
        placeholders = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
        connection = connect(port)
        connection.send_text(packet.replace("{}", placeholders))
        connection.send(masked_frame(2, b"\x01\x02\x03"))
        connection.send(masked_frame(2, b"\x04\x05\x06"))
        assert connection.receive_text() == response.replace("{}", placeholders)
        assert connection.frame() == (2, b"\x01\x02\x03")
        assert connection.frame() == (2, b"\x04\x05\x06")

    def test_unexpected_acknowledgement_is_ignored(self, port: int) -> None:
        connection = connect(port)
        connection.send_text('43999["x"]')
        connection.send_text('42["message",1]')
        assert connection.receive_text() == '42["message-back",1]'

    def test_many_packets_in_one_post_are_all_handled(self, port: int) -> None:
        sid = json.loads(request(port, "GET", POLL).body[1:])["sid"]
        path = f"{POLL}&sid={sid}"
        packets = [b"40"] + [b'42["message",%d]' % number for number in range(40)]
        assert request(port, "POST", path, b"\x1e".join(packets)).body == b"ok"
        received: list[bytes] = []
        while not received or received[-1] != b'42["message-back",39]':
            received += [packet for packet in request(port, "GET", path).body.split(b"\x1e") if packet != b"2"]
            request(port, "POST", path, b"3")
        replies = [packet for packet in received if b"back" in packet]
        assert replies == [b'42["message-back",%d]' % number for number in range(40)]


class TestGarbage:
    @pytest.mark.parametrize(
        "packet",
        [
            "4abc", "4", "49", "42{}", "42[]", "42", '42abc["message-with-ack",1]', '44{"message":"x"}', "43{}",
            '42["connect",{},{"token":"x"}]', '42["disconnect","x"]', '42["connect_error"]', '42["disconnecting"]',
            '42["newListener"]', '42["removeListener"]', '42["x",NaN]', '42["x",1e999e]', '450-["message"]',
            '4599-["message"]', '459999999999-["message"]', '42/custom,["message"]',
        ],
    )  # fmt: skip
    def test_malformed_packet_closes_only_its_connection(self, port: int, packet: str) -> None:
        other, connection = connect(port), connect(port)
        connection.send_text(packet)
        assert connection.close_code() == 4521
        other.send_text('42["message","still here"]')
        assert other.receive_text() == '42["message-back","still here"]'

    def test_event_before_connect_closes_the_connection(self, port: int) -> None:
        connection = open_connection(port)
        connection.send_text('42["message","early"]')
        assert connection.close_code() == 4521

    @pytest.mark.parametrize("placeholder", ["-1", "1", '"0"', "true", "0.0"])
    def test_placeholder_without_attachment_closes_the_connection(self, port: int, placeholder: str) -> None:
        connection = connect(port)
        connection.send_text('451-["message",{"_placeholder":true,"num":' + placeholder + "}]")
        connection.send(masked_frame(2, b"x"))
        assert connection.close_code() == 4521

    def test_text_instead_of_an_announced_attachment_closes_the_connection(self, port: int) -> None:
        connection = connect(port)
        connection.send_text('451-["message",{"_placeholder":true,"num":0}]')
        connection.send_text('42["message",1]')
        assert connection.close_code() == 4521

    def test_unannounced_binary_data_closes_the_connection(self, port: int) -> None:
        connection = connect(port)
        connection.send(masked_frame(2, b"x"))
        assert connection.close_code() == 4521

    def test_total_size_of_attachments_is_limited(self, port: int) -> None:
        connection = connect(port)
        connection.send_text('4516-["message",{"_placeholder":true,"num":0}]')
        for _ in range(4):
            connection.send(masked_frame(2, bytes(300_000)))
        assert connection.close_code() == 4521

    def test_malformed_packet_ends_a_polling_session(self, port: int) -> None:
        sid = json.loads(request(port, "GET", POLL).body[1:])["sid"]
        path = f"{POLL}&sid={sid}"
        request(port, "POST", path, b"40")
        request(port, "POST", path, b"42{}")
        for _ in range(3):
            response = request(port, "GET", path)
            if response.status == 400:
                return
        raise AssertionError("the session is still open")

    @pytest.mark.parametrize("name", ["__proto__", "constructor", "toString", "hasOwnProperty"])
    def test_javascript_builtin_names_are_plain_events(self, port: int, name: str) -> None:
        connection = connect(port)
        connection.send_text(f'42["{name}",{{"{name}":1}}]')
        connection.send_text(f'42["message",{{"{name}":1}}]')
        assert connection.receive_text() == f'42["message-back",{{"{name}":1}}]'
