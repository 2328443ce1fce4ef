"""RFC 6455 without a socket: the examples of the RFC, every close code, every limit, splits at every byte."""

from __future__ import annotations

import tracemalloc

import pytest

from support.network.raw_client import masked_frame
from tidings.errors import BadPacket
from tidings_hub.engine.protocols.websocket import (
    BAD_DATA,
    NORMAL,
    PROTOCOL_ERROR,
    TOO_BIG,
    FrameReader,
    Message,
    Opcode,
    WebSocketViolation,
    accept_key,
    close_frame,
    frame,
    handshake_response,
    parse_close_code,
    unmask,
)

HEADERS = {
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def read(*parts: bytes, limit: int = 1000) -> tuple[list[Message], FrameReader]:
    reader, messages = FrameReader(limit), list[Message]()
    for part in parts:
        reader.feed(part, messages)
        while reader.has_more:
            reader.feed(b"", messages)
    return messages, reader


def violation_of(*parts: bytes, limit: int = 1000) -> int:
    with pytest.raises(WebSocketViolation) as caught:
        read(*parts, limit=limit)
    return caught.value.close_code


class TestHandshake:
    def test_accept_key_of_the_rfc(self) -> None:
        assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

    def test_response_is_101_without_extensions_or_protocol(self) -> None:
        response = handshake_response(
            {**HEADERS, "sec-websocket-extensions": "permessage-deflate", "sec-websocket-protocol": ""}
        )
        assert response == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )

    @pytest.mark.parametrize(
        ("offered", "accepted"),
        [
            ("chat", b"chat"), ("v2.chat, chat", b"v2.chat"), (" ,\tchat ,x", b"chat"),
            ("", b""), (",", b""), ("a b", b""), ('"chat"', b""), ("ch\u00e4t", b""), ("x\r\nSet-Cookie: a", b""),
        ],
    )  # fmt: skip
    def test_first_subprotocol_is_accepted_since_a_browser_needs_one(self, offered: str, accepted: bytes) -> None:
        response = handshake_response({**HEADERS, "sec-websocket-protocol": offered})
        lines = [line for line in response.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Protocol: ")]
        assert lines == ([b"Sec-WebSocket-Protocol: " + accepted] if accepted else [])
        assert b"Set-Cookie" not in response

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("sec-websocket-version", "8"),
            ("sec-websocket-version", ""),
            ("sec-websocket-key", ""),
            ("sec-websocket-key", "dGhl"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZ!=="),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZWFh"),
        ],
    )
    def test_bad_header_is_rejected(self, name: str, value: str) -> None:
        with pytest.raises(BadPacket):
            handshake_response({**HEADERS, name: value})

    @pytest.mark.parametrize("name", sorted(HEADERS))
    def test_missing_header_is_rejected(self, name: str) -> None:
        with pytest.raises(BadPacket):
            handshake_response({key: value for key, value in HEADERS.items() if key != name})


class TestReader:
    def test_frames_of_the_rfc(self) -> None:
        assert read(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")[0] == [(Opcode.TEXT, "Hello")]
        assert read(b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")[0] == [(Opcode.PING, b"Hello")]

    @pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 70_001])
    def test_every_form_of_the_length_is_read(self, size: int) -> None:
        payload = bytes(number % 251 for number in range(size))
        messages, reader = read(masked_frame(2, payload), limit=100_000)
        assert messages == [(Opcode.BINARY, payload)]
        assert reader.is_idle

    def test_stream_may_be_split_at_any_byte(self) -> None:
        stream = (
            masked_frame(1, "4tëxt".encode())
            + masked_frame(2, b"x" * 200)
            + masked_frame(1, b"4a", fin=False)
            + masked_frame(9, b"ping")
            + masked_frame(0, b"", fin=False)
            + masked_frame(0, b"b")
            + masked_frame(8, b"\x03\xe8")
        )
        expected, _ = read(stream)
        assert expected[2:] == [(9, b"ping"), (1, "4ab"), (8, b"\x03\xe8")]
        for position in range(len(stream) + 1):
            assert read(stream[:position], stream[position:])[0] == expected
        assert read(*[bytes([byte]) for byte in stream])[0] == expected

    def test_reader_is_idle_only_between_messages(self) -> None:
        _, reader = read(masked_frame(1, b"4a") * 3)
        assert reader.is_idle
        _, reader = read(masked_frame(1, b"4a")[:-1])
        assert not reader.is_idle
        _, reader = read(masked_frame(1, b"4a", fin=False))
        assert not reader.is_idle

    def test_limit_applies_to_the_announced_size_of_a_whole_message(self) -> None:
        assert read(masked_frame(2, bytes(1000)))[0]
        assert violation_of(masked_frame(2, bytes(1001))[:4]) == TOO_BIG
        assert (
            violation_of(masked_frame(2, bytes(600), fin=False), masked_frame(0, bytes(401), fin=False)[:4]) == TOO_BIG
        )
        assert read(masked_frame(2, bytes(600), fin=False), masked_frame(9, bytes(125)), masked_frame(0, bytes(400)))[0]

    @pytest.mark.parametrize("size", [0, 1, 2, 100])
    def test_incomplete_message_of_small_fragments_uses_little_more_memory_than_its_bytes(self, size: int) -> None:
        count = 20_000 // max(size, 1)
        fragments = masked_frame(2, bytes(size), fin=False) + masked_frame(0, bytes(size), fin=False) * (count - 1)
        tracemalloc.start()
        _, reader = read(fragments, limit=30_000)
        used_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert reader.buffered_bytes == size * count
        assert used_bytes < 1.5 * reader.buffered_bytes + 2_000

    def test_one_call_decodes_a_batch_of_frames(self) -> None:
        reader, messages = FrameReader(1000), list[Message]()
        reader.feed(masked_frame(1, b"3") * 150 + masked_frame(1, b"4a")[:-1], messages)
        sizes = [len(messages)]
        while reader.has_more:
            reader.feed(b"", messages)
            sizes.append(len(messages))
        assert sizes == [64, 128, 150]
        reader.feed(masked_frame(1, b"4a")[-1:], messages)
        assert messages[-1] == (1, "4a")
        assert reader.is_idle

    @pytest.mark.parametrize(("size", "cost"), [(0, 2), (2, 2), (1_023, 2), (1_024, 0)])
    def test_small_fragments_are_counted(self, size: int, cost: int) -> None:
        reader, messages = FrameReader(10_000), list[Message]()
        reader.feed(masked_frame(2, bytes(size), fin=False) + masked_frame(0, bytes(size), fin=False), messages)
        assert reader.small_fragments == cost
        reader.feed(masked_frame(0, b"x"), messages)
        assert (reader.small_fragments, len(messages)) == (0, 1)

    def test_messages_before_a_violation_are_returned(self) -> None:
        messages: list[Message] = []
        with pytest.raises(WebSocketViolation):
            FrameReader(1000).feed(masked_frame(1, b"4a") + b"\xff\xff", messages)
        assert messages == [(1, "4a")]

    @pytest.mark.parametrize(
        ("data", "close_code"),
        [
            (b"\x81\x05Hello", PROTOCOL_ERROR),
            *[(masked_frame(1, b"x", rsv=bit), PROTOCOL_ERROR) for bit in (0x10, 0x20, 0x40)],
            *[(masked_frame(opcode, b""), PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
            *[(masked_frame(opcode, b"", fin=False), PROTOCOL_ERROR) for opcode in (8, 9, 10)],
            *[(masked_frame(opcode, bytes(126)), PROTOCOL_ERROR) for opcode in (8, 9, 10)],
            (masked_frame(0, b"x"), PROTOCOL_ERROR),
            (masked_frame(1, b"x", fin=False) + masked_frame(2, b"x"), PROTOCOL_ERROR),
            (b"\x82\xfe\x00\x7d" + bytes(4), PROTOCOL_ERROR),
            (b"\x82\xff" + (65_535).to_bytes(8, "big"), PROTOCOL_ERROR),
            (b"\x82\xff" + (1 << 63).to_bytes(8, "big"), PROTOCOL_ERROR),
            (masked_frame(1, b"\xc3\x28"), BAD_DATA),
            (masked_frame(1, b"\xed\xa0\x80"), BAD_DATA),
            (masked_frame(1, b"\xf4\x90\x80\x80"), BAD_DATA),
            (masked_frame(1, b"\xce", fin=False) + masked_frame(0, b"\xba\xff"), BAD_DATA),
        ],
    )
    def test_violation_has_its_close_code(self, data: bytes, close_code: int) -> None:
        assert violation_of(data) == close_code

    def test_character_may_be_split_between_fragments(self) -> None:
        assert read(masked_frame(1, b"\xce", fin=False) + masked_frame(0, b"\xba"))[0] == [(1, "κ")]


class TestCloseFrames:
    @pytest.mark.parametrize(
        "number", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    )
    def test_allowed_close_code_is_returned(self, number: int) -> None:
        assert parse_close_code(number.to_bytes(2, "big") + "ré".encode()) == number

    @pytest.mark.parametrize("number", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
    def test_reserved_close_code_is_a_violation(self, number: int) -> None:
        with pytest.raises(WebSocketViolation) as caught:
            parse_close_code(number.to_bytes(2, "big"))
        assert caught.value.close_code == PROTOCOL_ERROR

    def test_empty_and_malformed_close_payloads(self) -> None:
        assert parse_close_code(b"") == NORMAL
        with pytest.raises(WebSocketViolation) as caught:
            parse_close_code(b"\x03")
        assert caught.value.close_code == PROTOCOL_ERROR
        with pytest.raises(WebSocketViolation) as caught:
            parse_close_code(b"\x03\xe8\xff")
        assert caught.value.close_code == BAD_DATA

    def test_long_reason_is_cut_between_characters(self) -> None:
        blob = close_frame(4000, "é" * 100)
        assert blob[1] == len(blob) - 2 <= 125
        assert blob[4:].decode() == "é" * 61


class TestFrames:
    @pytest.mark.parametrize(
        ("size", "head"),
        [
            (0, b"\x82\x00"),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (65_536, b"\x82\x7f" + (65_536).to_bytes(8, "big")),
        ],
    )
    def test_head_has_the_shortest_length_form(self, size: int, head: bytes) -> None:
        assert frame(Opcode.BINARY, bytes(size)) == head + bytes(size)

    def test_unmask_is_its_own_inverse(self) -> None:
        for size in range(20):
            data = bytes(range(size))
            mask = b"\x00\xff\x10\x80"
            assert unmask(data, mask) == bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
            assert unmask(unmask(data, mask), mask) == data
