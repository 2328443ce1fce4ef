"""Socket.IO v5 over real sockets, on the ground of the official suite (v5-current.md of Socket.IO).

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
    found = re.search(rb":(\d+)/", process.stdout.readline())
    assert found
    yield int(found[1])
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"Traceback" not in errors


def opened(port: int) -> RawWebSocket:
    """A connection after Engine.IO's open packet."""
    made = RawWebSocket(port, PATH)
    assert made.handshake.status == 101
    assert made.receive_text().startswith("0{")
    return made


def connected(port: int) -> RawWebSocket:
    """A connection that has joined the main namespace."""
    made = opened(port)
    made.send_text("40")
    assert re.fullmatch(r'40\{"sid":"[\w-]{20}"\}', made.receive_text())
    assert made.receive_text() == '42["auth",{}]'
    return made


class TestConnect:
    def test_the_main_namespace(self, port: int) -> None:
        connected(port)

    def test_with_a_payload_that_comes_back(self, port: int) -> None:
        made = opened(port)
        made.send_text('40{"token":"123"}')
        assert made.receive_text().startswith('40{"sid":"')
        assert made.receive_text() == '42["auth",{"token":"123"}]'

    def test_a_custom_namespace(self, port: int) -> None:
        made = opened(port)
        made.send_text("40/custom,")
        assert made.receive_text().startswith('40/custom,{"sid":"')
        assert made.receive_text() == '42/custom,["auth",{}]'

    def test_a_custom_namespace_with_a_payload(self, port: int) -> None:
        made = opened(port)
        made.send_text('40/custom,{"token":"abc"}')
        assert made.receive_text().startswith('40/custom,{"sid":"')
        assert made.receive_text() == '42/custom,["auth",{"token":"abc"}]'

    @pytest.mark.parametrize("packet", ["40", "40/custom,"])
    def test_auth_comes_in_a_read_of_its_own(self, port: int, packet: str) -> None:
        # The official suite misses a packet that comes in the same read as the one before.
        made = opened(port)
        asked_s = time.monotonic()
        made.send_text(packet)
        assert made.receive_text().startswith(packet)
        assert '["auth",{}]' in made.receive_text()
        assert time.monotonic() - asked_s >= AUTH_AFTER_S

    def test_the_id_is_not_the_transports(self, port: int) -> None:
        made = RawWebSocket(port, PATH)
        engine_id = json.loads(made.receive_text()[1:])["sid"]
        made.send_text("40")
        assert json.loads(made.receive_text()[2:])["sid"] != engine_id

    def test_an_unknown_namespace(self, port: int) -> None:
        made = opened(port)
        made.send_text("40/random")
        assert made.receive_text() == '44/random,{"message":"Invalid namespace"}'

    def test_whoever_joins_nothing_is_closed_though_it_answers_pings(self, port: int) -> None:
        made = opened(port)
        while True:
            opcode, payload = made.frame()
            if opcode == 8:
                break
            assert (opcode, payload) == (1, b"2")
            made.send_text("3")
        assert int.from_bytes(payload[:2], "big") == 4505

    def test_over_polling(self, port: int) -> None:
        sid = json.loads(request(port, "GET", POLL).body[1:])["sid"]
        path = f"{POLL}&sid={sid}"
        assert request(port, "POST", path, b"40").body == b"ok"
        got = b""
        while b"auth" not in got:
            got += request(port, "GET", path).body
        assert re.search(rb'40\{"sid":"[\w-]{20}"\}', got)
        assert got.index(b'40{"sid"') < got.index(b'42["auth",{}]')


class TestDisconnect:
    def test_the_main_namespace_while_the_connection_stays(self, port: int) -> None:
        made = connected(port)
        made.send_text("41")
        opcode, payload = made.frame()
        assert (opcode, payload) == (1, b"2")

    def test_a_custom_namespace_while_the_main_one_stays(self, port: int) -> None:
        made = connected(port)
        made.send_text("40/custom")
        assert made.receive_text().startswith("40/custom,")
        assert made.receive_text().startswith("42/custom,")
        made.send_text("41/custom")
        made.send_text('42["message","message to main namespace"]')
        assert made.receive_text() == '42["message-back","message to main namespace"]'


class TestMessage:
    def test_text(self, port: int) -> None:
        made = connected(port)
        made.send_text('42["message",1,"2",{"3":[true]}]')
        assert made.receive_text() == '42["message-back",1,"2",{"3":[true]}]'

    def test_text_with_an_acknowledgement(self, port: int) -> None:
        made = connected(port)
        made.send_text('42456["message-with-ack",1,"2",{"3":[false]}]')
        assert made.receive_text() == '43456[1,"2",{"3":[false]}]'

    @pytest.mark.parametrize(
        ("sent", "answer"),
        [
            ('452-["message",{}]', '452-["message-back",{}]'),
            ('452-789["message-with-ack",{}]', "462-789[{}]"),
        ],
    )
    def test_binary(self, port: int, sent: str, answer: str) -> None:
        places = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
        made = connected(port)
        made.send_text(sent.replace("{}", places))
        made.send(masked_frame(2, b"\x01\x02\x03"))
        made.send(masked_frame(2, b"\x04\x05\x06"))
        assert made.receive_text() == answer.replace("{}", places)
        assert made.frame() == (2, b"\x01\x02\x03")
        assert made.frame() == (2, b"\x04\x05\x06")

    def test_an_acknowledgement_nobody_asked_for_is_ignored(self, port: int) -> None:
        made = connected(port)
        made.send_text('43999["x"]')
        made.send_text('42["message",1]')
        assert made.receive_text() == '42["message-back",1]'

    def test_many_packets_in_one_post_are_all_handled(self, port: int) -> None:
        sid = json.loads(request(port, "GET", POLL).body[1:])["sid"]
        path = f"{POLL}&sid={sid}"
        packets = [b"40"] + [b'42["message",%d]' % number for number in range(40)]
        assert request(port, "POST", path, b"\x1e".join(packets)).body == b"ok"
        got: list[bytes] = []
        while not got or got[-1] != b'42["message-back",39]':
            got += [each for each in request(port, "GET", path).body.split(b"\x1e") if each != b"2"]
            request(port, "POST", path, b"3")
        assert [each for each in got if b"back" in each] == [b'42["message-back",%d]' % number for number in range(40)]


class TestGarbage:
    @pytest.mark.parametrize(
        "packet",
        [
            "4abc", "4", "49", "42{}", "42[]", "42", '42abc["message-with-ack",1]', '44{"message":"x"}', "43{}", "40[]",
            '42["connect",{},{"token":"x"}]', '42["disconnect","x"]', '42["connect_error"]', '42["disconnecting"]',
            '42["newListener"]', '42["removeListener"]', '42["x",NaN]', '42["x",1e999e]', '450-["message"]',
            '4599-["message"]', '459999999999-["message"]', '42/custom,["message"]',
        ],
    )  # fmt: skip
    def test_closes_the_connection_and_only_that(self, port: int, packet: str) -> None:
        other, made = connected(port), connected(port)
        made.send_text(packet)
        assert made.close_code() == 4521
        other.send_text('42["message","still here"]')
        assert other.receive_text() == '42["message-back","still here"]'

    def test_an_event_before_connect_closes_it(self, port: int) -> None:
        made = opened(port)
        made.send_text('42["message","early"]')
        assert made.close_code() == 4521

    @pytest.mark.parametrize("placeholder", ["-1", "1", '"0"', "true", "0.0"])
    def test_a_placeholder_without_its_attachment(self, port: int, placeholder: str) -> None:
        made = connected(port)
        made.send_text('451-["message",{"_placeholder":true,"num":' + placeholder + "}]")
        made.send(masked_frame(2, b"x"))
        assert made.close_code() == 4521

    def test_text_where_an_attachment_was_announced(self, port: int) -> None:
        made = connected(port)
        made.send_text('451-["message",{"_placeholder":true,"num":0}]')
        made.send_text('42["message",1]')
        assert made.close_code() == 4521

    def test_binary_data_that_nothing_announced(self, port: int) -> None:
        made = connected(port)
        made.send(masked_frame(2, b"x"))
        assert made.close_code() == 4521

    def test_attachments_are_bounded_together(self, port: int) -> None:
        made = connected(port)
        made.send_text('4516-["message",{"_placeholder":true,"num":0}]')
        for _ in range(4):
            made.send(masked_frame(2, bytes(300_000)))
        assert made.close_code() == 4521

    def test_on_polling_it_ends_the_session(self, port: int) -> None:
        sid = json.loads(request(port, "GET", POLL).body[1:])["sid"]
        path = f"{POLL}&sid={sid}"
        request(port, "POST", path, b"40")
        request(port, "POST", path, b"42{}")
        for _ in range(3):
            answer = request(port, "GET", path)
            if answer.status == 400:
                return
        raise AssertionError("the session lives on")

    @pytest.mark.parametrize("name", ["__proto__", "constructor", "toString", "hasOwnProperty"])
    def test_odd_names_are_plain_events(self, port: int, name: str) -> None:
        made = connected(port)
        made.send_text(f'42["{name}",{{"{name}":1}}]')
        made.send_text(f'42["message",{{"{name}":1}}]')
        assert made.receive_text() == f'42["message-back",{{"{name}":1}}]'
