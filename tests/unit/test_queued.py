from __future__ import annotations

import pytest

from tidings.errors import BadChannel, BadPacket, TidingsError, TooLarge
from tidings.publication import encode_body
from tidings.queued import HEAD_MAX_BYTES, decode_queued, encode_queued

BODY = encode_body("updated", '{"text":"ä €"}'.encode(), id="order-7", at_ms=1_700_000_000_000)
MESSAGE = encode_queued("orders:42", BODY)


def test_a_message_is_its_channel_and_the_body_that_the_broker_takes() -> None:
    assert 't1 orders:42 order-7 1700000000000 - 9 "updated",{"text":"ä €"}'.encode() == MESSAGE
    queued = decode_queued(MESSAGE, data_max_bytes=100)
    assert (queued.channel, queued.id, queued.body) == ("orders:42", "order-7", BODY)
    assert queued.data_json == '{"text":"ä €"}'.encode()


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"", BadPacket),
        (b"t1", BadPacket),
        (b"hello world", BadPacket),
        (b'{"channel":"orders:42"}', BadPacket),
        (b"t2" + MESSAGE[2:], BadPacket),
        (b"\x80\x04\x95pickled", BadPacket),
        (b"t1 orders:42", BadPacket),
        (b"t1 orders:42 ", BadPacket),
        (b"t1 orders " + BODY, BadChannel),
        (b"t1  " + BODY, BadChannel),
        (b"t1 orders:* " + BODY, BadChannel),
        (b"t1 orders:\xff " + BODY, BadChannel),
        (MESSAGE.replace(b"order-7", b"order/7"), BadPacket),
        (MESSAGE.replace(b"1700000000000", b"soon"), BadPacket),
        (MESSAGE.replace(b" 9 ", b" 8 "), BadPacket),
        (MESSAGE.replace(b'9 "updated"', b'9 "connect"'), BadPacket),
        (MESSAGE.replace(b'9 "updated"', b'17 "tidings:tidings"'), BadPacket),
        (MESSAGE.replace(b"{", b"{\n"), BadPacket),
        (MESSAGE.replace("€".encode(), b"\xe2\x82"), BadPacket),
        (MESSAGE.partition(b",")[0], BadPacket),
    ],
)
def test_what_is_no_message_is_refused(message: bytes, error: type[TidingsError]) -> None:
    with pytest.raises(error) as caught:
        decode_queued(message, data_max_bytes=1000)
    assert "broker" not in str(caught.value)


def test_the_limit_is_on_the_data_and_on_the_whole() -> None:
    size = len(decode_queued(MESSAGE, data_max_bytes=1000).data_json)
    assert decode_queued(MESSAGE, data_max_bytes=size).channel == "orders:42"
    with pytest.raises(TooLarge, match="publication_max_bytes"):
        decode_queued(MESSAGE, data_max_bytes=size - 1)
    with pytest.raises(TooLarge, match="publication_max_bytes"):
        decode_queued(b"x" * (size + HEAD_MAX_BYTES + 1), data_max_bytes=size)
