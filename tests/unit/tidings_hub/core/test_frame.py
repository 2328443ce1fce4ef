from __future__ import annotations

import json

import pytest

from tidings.codes import CODES
from tidings.errors import BadPacket
from tidings.wire.payload import encode_data
from tidings.wire.publication import decode, encode_body
from tidings_hub.core.frame import (
    ConnectErrorFrame,
    DisconnectFrame,
    Frame,
    HubEvent,
    as_chunk,
    closing_frames,
    join_packets,
    join_sse,
    join_websocket,
    text_frame,
)


def frame(event: str = "updated", data: object = None, seq: int = 7) -> Frame:
    body = encode_body(event, encode_data(data), id="x", at_ms=1)
    return Frame(decode("orders:42", b"t1 %d 3 ep " % seq + body, max_bytes=10**6))


def test_the_packet_is_the_socketio_event_with_channel_and_cursor() -> None:
    encoded = frame(data={"id": 42, "name": 'Müller \u2028 \\ " \n'})
    assert encoded.packet.startswith(b'42["updated",{"id":42')
    assert json.loads(encoded.packet[2:]) == [
        "updated",
        {"id": 42, "name": 'Müller \u2028 \\ " \n'},
        "orders:42",
        "ep.7",
    ]
    assert b"\n" not in encoded.packet


@pytest.mark.parametrize(("size", "head"), [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)])
def test_a_text_frame_has_the_shortest_header(size: int, head: int) -> None:
    encoded = text_frame(b"a" * size)
    assert encoded[0] == 0x81
    assert len(encoded) == size + head
    declared = {2: encoded[1], 4: int.from_bytes(encoded[2:4], "big"), 10: int.from_bytes(encoded[2:10], "big")}[head]
    assert declared == size


def test_an_sse_event_has_its_cursor_as_id_and_one_data_line() -> None:
    encoded = frame(data={"text": "a\nb"}).sse
    assert encoded == b'id: ep.7\nevent: updated\ndata: {"channel":"orders:42","data":{"text":"a\\nb"}}\n\n'


@pytest.mark.parametrize(
    "name", [b'"a\\ndata: evil"', b'"connect"', b'"tidings:ready"', b'"\\u0063onnect"', b'"\\x"', b'"\\u0000"']
)
def test_publication_with_a_reserved_or_malformed_event_is_not_decoded(name: bytes) -> None:
    message = b"t1 7 3 ep x 1 - %d %b,1" % (len(name), name)
    with pytest.raises(BadPacket):
        decode("orders:42", message, max_bytes=999)


def test_frames_are_joined_for_each_transport() -> None:
    first, second = frame(seq=1), frame(seq=2)
    assert join_packets([first, second]) == first.packet + b"\x1e" + second.packet
    assert join_websocket([first, second]) == first.websocket + second.websocket
    assert join_sse([first, second]) == first.sse + second.sse


def test_hub_event_carries_a_cursor_only_if_it_has_one() -> None:
    plain = HubEvent("tidings:ready", b"{}")
    assert plain.packet == b'42["tidings:ready",{}]'
    assert plain.sse == b"event: tidings:ready\ndata: {}\n\n"
    assert HubEvent("tidings:ready", b"{}", cursor="e.1").sse.startswith(b"id: e.1\n")


def test_disconnect_frame_is_empty_on_an_event_stream() -> None:
    assert (DisconnectFrame().packet, DisconnectFrame().websocket) == (b"41", b"\x81\x0241")
    assert (DisconnectFrame().sse, DisconnectFrame().chunk) == (b"", b"")


def test_chunk_is_the_sse_event_with_its_size() -> None:
    for encoded in (frame(data={"text": "ü"}), HubEvent("tidings:ready", b"{}")):
        size, _, rest = encoded.chunk.partition(b"\r\n")
        assert rest == encoded.sse + b"\r\n"
        assert int(size, 16) == len(encoded.sse)
    assert as_chunk(b"") == b"", "an empty chunk would end the stream"


@pytest.mark.parametrize("event", ["error", "open"])
def test_event_that_an_event_source_fires_itself_has_another_name(event: str) -> None:
    lines = frame(event, {"n": 1}).sse.decode().split("\n")
    assert lines[1] == "event: tidings:event"
    assert json.loads(lines[2].removeprefix("data: ")) == {"channel": "orders:42", "event": event, "data": {"n": 1}}
    assert json.loads(frame(event).packet[2:])[0] == event


@pytest.mark.parametrize("event", ["errors", "Error", "message", "opened"])
def test_other_event_keeps_its_name_on_an_event_stream(event: str) -> None:
    assert f"event: {event}\n".encode() in frame(event).sse


@pytest.mark.parametrize("code", CODES)
def test_stock_client_receives_the_code_and_returns_only_if_it_should(code: str) -> None:
    event, *others = [frame.packet for frame in closing_frames(code)]
    assert json.loads(event[2:]) == ["tidings:close", {"code": code, "message": CODES[code].advice}]
    assert others == ([] if CODES[code].should_reconnect else [b"41"])


def test_message_replaces_the_advice() -> None:
    (event,) = closing_frames("expired", "the token has expired")
    assert event.sse == b'event: tidings:close\ndata: {"code":"expired","message":"the token has expired"}\n\n'


def test_connect_error_has_the_code_as_data_and_does_not_exist_on_an_event_stream() -> None:
    frame = ConnectErrorFrame("bad_packet")
    advice = CODES["bad_packet"].advice
    assert json.loads(frame.packet[2:]) == {"message": advice, "data": {"code": "bad_packet", "message": advice}}
    assert frame.websocket.endswith(frame.packet)
    assert (frame.sse, frame.chunk) == (b"", b"")
