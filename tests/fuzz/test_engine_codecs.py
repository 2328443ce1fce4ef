"""Invalid input either parses or raises only the error that the caller handles."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from support.network.raw_client import masked_frame
from tidings.errors import BadPacket, BadRequest, TooLarge
from tidings_hub.engine.protocols import engineio as protocol
from tidings_hub.engine.protocols import http_request, websocket
from tidings_hub.engine.protocols.http_body import RequestBody
from tidings_hub.engine.protocols.websocket import FrameReader, Message, WebSocketViolation

LIMIT = 2000
pieces = st.lists(st.binary(max_size=40), max_size=20)
frames = st.builds(
    masked_frame,
    st.sampled_from([0, 1, 2, 8, 9, 10]),
    st.binary(max_size=200),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0x40]),
    mask=st.binary(min_size=4, max_size=4),
)


@given(pieces)
def test_websocket_garbage(parts: list[bytes]) -> None:
    reader, messages, number = FrameReader(LIMIT), list[Message](), 0
    for part in parts:
        try:
            reader.feed(part, messages)
        except WebSocketViolation as violation:
            number = violation.close_code
            break
        assert reader.buffered_bytes <= LIMIT + 14
    assert number in (0, 1002, 1007, 1009)


@given(st.lists(frames, max_size=12), st.data())
def test_websocket_frames_read_the_same_however_they_are_split(parts_sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts_sent)
    at = data.draw(st.integers(0, len(stream)))
    outcomes = []
    for parts in ([stream], [stream[:at], stream[at:]], [bytes([byte]) for byte in stream]):
        reader, messages, number = FrameReader(LIMIT), list[Message](), 0
        for part in parts:
            try:
                reader.feed(part, messages)
            except WebSocketViolation as violation:
                number = violation.close_code
                break
        outcomes.append((messages, number))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@given(
    st.binary(max_size=200) | st.lists(st.sampled_from([b"4a", b"3", b"1", b"bAQ==", b"2", b"\xff"])).map(b"\x1e".join)
)
def test_polling_payloads(body: bytes) -> None:
    try:
        packets = list(protocol.decode_payload(body))
    except BadPacket:
        return
    assert len(packets) == body.count(b"\x1e") + 1


@given(st.text(max_size=20) | st.binary(max_size=20))
def test_packets(data: str | bytes) -> None:
    try:
        kind, content = protocol.decode_packet(data)
    except BadPacket:
        return
    # Text that begins with b is binary data as base64, from clients that cannot send bytes.
    is_base64 = isinstance(data, str) and data.startswith("b")
    assert kind is not protocol.PacketKind.MESSAGE or type(content) is (bytes if is_base64 else type(data))


@given(st.binary(max_size=130))
def test_close_payloads(payload: bytes) -> None:
    try:
        number = websocket.parse_close_code(payload)
    except WebSocketViolation as violation:
        refused = violation.close_code
        number = 0
    else:
        refused = 0
    assert (refused in (1002, 1007)) is not (1000 <= number < 5000)


lines = st.lists(
    st.sampled_from([
        b"Host: a", b"Content-Length: 5", b"Content-Length: x", b"Transfer-Encoding: chunked", b"Upgrade: x", b" x",
        b"Content_Length: 9", b"Connection: close", b"X: \xff", b":", b"X:\x00", b"Host: b\nY: z",
    ]) | st.binary(max_size=20),
    max_size=6,
)  # fmt: skip


@settings(max_examples=300)
@given(st.sampled_from([b"GET / HTTP/1.1", b"POST /x?y HTTP/1.0", b"\xff", b"GET  HTTP/1.1", b"PRI * HTTP/2.0"]), lines)
def test_heads(request_line: bytes, header_lines: list[bytes]) -> None:
    data = b"\r\n".join([request_line, *header_lines, b"", b""])
    try:
        head = http_request.parse_head(data)
    except BadRequest:
        return
    assert head.path.startswith("/")
    assert b"Content-Length" not in data or b"Transfer-Encoding" not in data
    assert head.length is None or head.length >= 0


@given(pieces)
def test_chunked_bodies(parts: list[bytes]) -> None:
    body, rest = RequestBody(None, 100), b""
    for part in [b"4\r\n", *parts]:
        try:
            rest = body.feed(rest + part) or b""
        except (BadRequest, TooLarge):
            return
        assert len(body.data) <= 100
        if body.done:
            return
        assert len(rest) <= 400
