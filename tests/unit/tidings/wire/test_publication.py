from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.vectors import examples
from tidings.errors import BadEvent, BadId, BadPacket
from tidings.wire.channels import EVENT_MAX, check_event
from tidings.wire.cursor import Cursor
from tidings.wire.payload import encode_data
from tidings.wire.publication import decode, encode_body, encode_inbox_body, history_json, split_body

VECTORS = examples("publication")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)
EVENTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)


@pytest.mark.parametrize("example", VECTORS["good"], ids=lambda example: example["message"][:30])
def test_a_message_is_decoded(example: dict[str, Any]) -> None:
    publication = decode("orders:42", example["message"].encode(), max_bytes=10_000)
    assert publication.to_wire() == {
        "event": example["event"],
        "data": example["data"],
        "id": example["id"],
        "cursor": f"{example['epoch']}.{example['seq']}",
        "at_ms": example["at_ms"],
    }
    page = json.loads(history_json(Cursor("e", 7), [publication, publication]))
    assert page == {"cursor": "e.7", "publications": [publication.to_wire()] * 2}
    assert (publication.seq, publication.prev, publication.epoch, publication.options) == tuple(
        example[name] for name in ("seq", "prev", "epoch", "options")
    )


@pytest.mark.parametrize("message", VECTORS["bad"], ids=lambda message: ascii(message[:30]))
def test_malformed_message_is_rejected(message: str) -> None:
    with pytest.raises(BadPacket):
        decode("orders:42", message.encode(), max_bytes=10_000)


@pytest.mark.parametrize("event", ["tidings:notification", "tidings:inbox"])
def test_event_of_an_inbox_is_delivered_and_cannot_be_published(event: str) -> None:
    body = encode_inbox_body(event, b'{"n":1}', id="x", at_ms=1)
    assert decode("user:7", b"t1 7 3 ep " + body, max_bytes=1_000).event == event
    with pytest.raises(BadEvent):
        encode_body(event, b"1", id="x", at_ms=1)
    with pytest.raises(BadEvent, match="none of tidings:inbox, tidings:notification"):
        encode_inbox_body("tidings:gap", b"1", id="x", at_ms=1)
    with pytest.raises(BadId):
        encode_inbox_body(event, b"1", id="", at_ms=1)


@pytest.mark.parametrize(
    "message",
    [b't1 7 3 ep id 1 - 3 "x","\xff"', b't1 7 3 ep id 1 \xff 3 "x",1', b"\x80\x04\x95", b't1 7 3 ep id 1 - 3 "\xff",1'],
)
def test_message_that_is_not_utf8_is_rejected(message: bytes) -> None:
    with pytest.raises(BadPacket):
        decode("orders:42", message, max_bytes=10_000)


def test_the_limit_is_exact() -> None:
    message = b't1 7 3 ep id 1 - 3 "x",1'
    assert decode("a:b", message, max_bytes=len(message)).seq == 7
    with pytest.raises(BadPacket):
        decode("a:b", message, max_bytes=len(message) - 1)


@given(EVENTS, JSON, st.integers(0, 2**62), st.integers(0, 2**62))
def test_encoded_body_decodes_unchanged(event: str, data: Any, seq: int, at_ms: int) -> None:
    try:
        check_event(event)
    except BadEvent:
        return
    encoded = encode_data(data)
    publication = decode(
        "a:b", b"t1 %d 0 ep " % seq + encode_body(event, encoded, id="i", at_ms=at_ms), max_bytes=10**6
    )
    assert (publication.event, publication.data_json, publication.seq, publication.at_ms) == (
        event,
        encoded,
        seq,
        at_ms,
    )


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_rejected(junk: bytes) -> None:
    for message in (junk, b"t1 7 3 ep id 1 - 3 " + junk, b't1 7 3 ep id 1 - 3 "x",' + junk):
        try:
            publication = decode("a:b", message, max_bytes=1000)
        except BadPacket:
            continue
        assert not set(publication.fragment) & set(range(32))


def test_malformed_event_or_id_is_not_encoded() -> None:
    with pytest.raises(BadEvent):
        encode_body("connect", b"1", id="i", at_ms=1)
    with pytest.raises(BadId):
        encode_body("x", b"1", id="i i", at_ms=1)


def test_name_longer_than_any_event_is_rejected() -> None:
    def message(length: int) -> bytes:
        name = b'"%b"' % (b"n" * length)
        return b"t1 1 0 epoch id 1 - %d %b,{}" % (len(name), name)

    assert decode("orders:1", message(EVENT_MAX), max_bytes=65_536).event == "n" * EVENT_MAX
    with pytest.raises(BadPacket):
        decode("orders:1", message(EVENT_MAX * 12 + 1), max_bytes=65_536)


@pytest.mark.parametrize("event", ["updated", 'a "b" c', "ü, ö", "with space"])
def test_body_splits_into_its_event_and_data(event: str) -> None:
    assert split_body(encode_body(event, b'{"a": "b, c"}', id="a1", at_ms=7)) == (event, b'{"a": "b, c"}')
