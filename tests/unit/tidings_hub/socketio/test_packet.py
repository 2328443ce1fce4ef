"""Reading Socket.IO packets as strictly as the JavaScript parser does."""

from __future__ import annotations

import json
import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio import packet as upstream

from tidings.errors import BadPacket
from tidings_hub.socketio import packet as packets
from tidings_hub.socketio.packet import ATTACHMENTS_MAX, EncodedJson, Packet


def read(text: str) -> Packet:
    return Packet(encoded_packet=text)


@pytest.mark.parametrize(
    ("text", "kind", "namespace", "ack_id", "data"),
    [
        ("0", 0, None, None, None),
        ('0{"token":"123"}', 0, None, None, {"token": "123"}),
        ('0"x"', 0, None, None, "x"),
        ("0[]", 0, None, None, []),
        ("0/custom,", 0, "/custom", None, None),
        ("0/custom", 0, "/custom", None, None),
        ('0/admin,{"a":1}', 0, "/admin", None, {"a": 1}),
        ("0/q?token=x,", 0, "/q", None, None),
        ("1", 1, None, None, None),
        ("1/admin,", 1, "/admin", None, None),
        ('2["hello",1,{"a":[true]}]', 2, None, None, ["hello", 1, {"a": [True]}]),
        ('2/admin,["x"]', 2, "/admin", None, ["x"]),
        ('212["foo"]', 2, None, 12, ["foo"]),
        ('2/admin,13["x"]', 2, "/admin", 13, ["x"]),
        ('312["bar"]', 3, None, 12, ["bar"]),
        ("3/admin,13[]", 3, "/admin", 13, []),
        ("2[5]", 2, None, None, [5]),
    ],
)
def test_valid_packets_are_read(text: str, kind: int, namespace: str | None, ack_id: int | None, data: object) -> None:
    packet = read(text)
    assert (packet.packet_type, packet.namespace, packet.id, packet.data) == (kind, namespace, ack_id, data)


@pytest.mark.parametrize(
    "text",
    [
        "7", "9", "abc", "-1", " 2", "2", "2{}", "2[]", "2[", '2["x"', '2["x"]x', "2null", '2"x"', "2[null]",
        "2[true]", "2[{}]", "2[[]]",
        '2["connect"]', '2["connect_error"]', '2["disconnect"]', '2["disconnecting"]', '2["newListener"]',
        '2["removeListener"]',
        "0null", "01", "1{}", "1[]", "112", "3[]", "3", '3{"a":1}', '4{"message":"x"}', "4",
        '2abc["message"]', '2["x",NaN]', '2["x",Infinity]', '2["x",-Infinity]', '2["x",{"a":1,"a":2}]',
        '2["' + "e" * 257 + '"]', '21234567890123456["x"]', '2["x",' + "9" * 5000 + "]",
        '2["x",' + "[" * 100_000 + "]" * 100_000 + "]",
        '51["x"]', '5["x",{"_placeholder":true,"num":0}]', '50-["x"]', '599-["x"]', '59999999999-["x"]',
        '51-["x",' + "[" * 100 + '{"_placeholder":true,"num":0}' + "]" * 101,
        "61-1[" + '{"a":' * 900 + '{"_placeholder":true,"num":0}' + "}" * 900 + "]",
        '21-["x"]', '5-1-["x"]', "6-1[]",
        "0/" + "n" * 200,
    ],
)  # fmt: skip
def test_packets_that_clients_may_not_send_are_rejected(text: str) -> None:
    with pytest.raises(BadPacket):
        read(text)


@pytest.mark.parametrize("name", ["__proto__", "constructor", "toString", "hasOwnProperty", "\u202e", "\x00", "a b"])
def test_special_names_are_plain_data(name: str) -> None:
    assert read("2" + json.dumps([name, {name: 1}])).data == [name, {name: 1}]


def test_attachments_replace_their_placeholders() -> None:
    packet = read('52-7["m",{"_placeholder":true,"num":1},[{"_placeholder":true,"num":0}]]')
    assert (packet.attachment_count, packet.id) == (2, 7)
    assert not packet.add_attachment(b"zero")
    assert packet.add_attachment(b"one")
    assert packet.data == ["m", b"one", [b"zero"]]


@pytest.mark.parametrize("number", ["-1", "1", "99", '"0"', "0.0", "true", "null", "[]"])
def test_placeholder_without_an_attachment_is_rejected(number: str) -> None:
    packet = read('51-["m",{"_placeholder":true,"num":' + number + "}]")
    with pytest.raises(BadPacket):
        packet.add_attachment(b"zero")


def test_data_is_not_visited_in_python_for_its_attachments() -> None:
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename in {packets.__file__, upstream.__file__}

    packet = read("51-" + json.dumps(["m", {"_placeholder": True, "num": 0}, [[]] * 20_000]))
    sys.setprofile(count)
    try:
        packet.add_attachment(b"zero")
    finally:
        sys.setprofile(None)
    # To walk through the lists takes 10 ms, and a client may send 25 such packets per second.
    assert calls < 50
    assert packet.data == ["m", b"zero", [[]] * 20_000]


def test_number_of_attachments_is_limited() -> None:
    assert read(f'5{ATTACHMENTS_MAX}-["m"]').attachment_count == ATTACHMENTS_MAX
    with pytest.raises(BadPacket):
        read(f'5{ATTACHMENTS_MAX + 1}-["m"]')


def test_binary_data_without_an_event_is_rejected() -> None:
    with pytest.raises(BadPacket):
        Packet(encoded_packet=b"\x01\x02")


@given(
    st.text(max_size=60)
    | st.from_regex(r"[0-7](\d{0,3}-)?(/[a-z]{0,5},?)?\d{0,4}[\[{\"a-z0-9,:\]}]{0,20}", fullmatch=True)
)
def test_any_text_is_read_or_rejected(text: str) -> None:
    if not text:
        return
    try:
        packet = read(text)
    except BadPacket:
        return
    assert 0 <= packet.packet_type <= 6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_are_not_written(value: float) -> None:
    """The client's parser would fail, and the client would disconnect."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        Packet(upstream.EVENT, data=["x", {"v": value}]).encode()


def test_an_encoded_answer_is_not_encoded_again() -> None:
    answer = EncodedJson('{"a":[1,"ü"]}')
    assert Packet(upstream.ACK, id=7, data=[answer]).encode() == '37[{"a":[1,"ü"]}]'
