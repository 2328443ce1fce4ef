from __future__ import annotations

from typing import Any

import pytest

from support.vectors import examples
from tidings.errors import BadData, BadPacket, BadRequest, TidingsError, TooLarge
from tidings.wire.notification import Notification
from tidings.wire.publication import encode_body, encode_inbox_body
from tidings.wire.queue_message import (
    HEAD_MAX_BYTES,
    QueuedPublication,
    decode_queue_message,
    decode_queue_notification,
    encode_queue_message,
    encode_queue_notification,
    is_queue_notification,
)
from tidings_hub.core.queues.queue_intake import read_queued

VECTORS = examples("queued")
BODY = encode_body("updated", '{"text":"ä €"}'.encode(), id="order-7", at_ms=1_700_000_000_000)
MESSAGE = encode_queue_message("orders:42", BODY)


def test_message_contains_channel_and_body() -> None:
    assert MESSAGE.decode() == VECTORS["good"][0]["message"]
    assert decode_queue_message(MESSAGE, data_max_bytes=100).body == BODY


@pytest.mark.parametrize("example", VECTORS["good"], ids=lambda example: example["message"][:30])
def test_message_vectors_decode(example: dict[str, Any]) -> None:
    queued = read_queued(example["message"].encode(), data_max_bytes=1000)
    assert isinstance(queued, QueuedPublication)
    assert (queued.channel, queued.id, queued.data_json.decode()) == (
        example["channel"],
        example["id"],
        example["data"],
    )


@pytest.mark.parametrize("example", VECTORS["bad"], ids=lambda example: example["message"][:40])
def test_malformed_message_vectors_are_rejected(example: dict[str, Any]) -> None:
    error = read_queued(example["message"].encode(), data_max_bytes=1000)
    assert isinstance(error, TidingsError)
    assert error.code.name == example["code"]
    assert "broker" not in str(error)


@pytest.mark.parametrize(
    "message", [b"\x80\x04\x95pickled", MESSAGE.replace("€".encode(), b"\xe2\x82"), b"t1 orders:\xff " + BODY]
)
def test_message_that_is_not_text_is_rejected(message: bytes) -> None:
    with pytest.raises(TidingsError):
        decode_queue_message(message, data_max_bytes=1000)


def test_unknown_version_is_reported_first() -> None:
    with pytest.raises(BadPacket, match="begins with t1"):
        decode_queue_message(b"t2" + MESSAGE[2:], data_max_bytes=1000)


def test_data_and_whole_message_are_limited() -> None:
    size = len(decode_queue_message(MESSAGE, data_max_bytes=1000).data_json)
    assert decode_queue_message(MESSAGE, data_max_bytes=size).channel == "orders:42"
    with pytest.raises(TooLarge, match="publication_max_bytes"):
        decode_queue_message(MESSAGE, data_max_bytes=size - 1)
    with pytest.raises(TooLarge, match="publication_max_bytes"):
        decode_queue_message(b"x" * (size + HEAD_MAX_BYTES + 1), data_max_bytes=size)


def test_only_the_events_of_an_inbox_are_rejected_in_a_queue() -> None:
    for event in ("tidings:job", "updated"):
        message = encode_queue_message("user:7", encode_body(event, b"1", id="x", at_ms=1))
        assert decode_queue_message(message, data_max_bytes=100).channel == "user:7"
    for event in ("tidings:inbox", "tidings:notification"):
        message = encode_queue_message("user:7", encode_inbox_body(event, b"1", id="x", at_ms=1))
        with pytest.raises(BadPacket, match="a queued message whose event is reserved"):
            decode_queue_message(message, data_max_bytes=100)


def test_message_of_a_notification() -> None:
    notification = Notification("order_shipped", "7", "It has shipped", "order-42", 1_764_090_000_000)
    message = encode_queue_notification(notification.encode())
    assert message.startswith(b'n1 {"category":"order_shipped","user":"7","id":"order-42",')
    assert is_queue_notification(message)
    assert not is_queue_notification(MESSAGE)
    assert decode_queue_notification(message, publication_max_bytes=1_000) == notification
    with pytest.raises(BadPacket):
        decode_queue_message(message, data_max_bytes=1_000)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"", BadPacket),
        (MESSAGE, BadPacket),
        (b"n1", BadPacket),
        (b"n2 {}", BadPacket),
        (b"n1 ", BadData),
        (b"n1 {", BadData),
        (b"n1 {}", BadRequest),
        (b"n1 []", BadRequest),
        (b'n1 "' + b"x" * 1_000 + b'"', TooLarge),
    ],
)
def test_malformed_message_of_a_notification_is_rejected(message: bytes, error: type[TidingsError]) -> None:
    with pytest.raises(error) as caught:
        decode_queue_notification(message, publication_max_bytes=1_000)
    assert type(caught.value) is error
