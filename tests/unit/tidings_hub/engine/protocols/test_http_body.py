"""Reading of HTTP request bodies, without a socket."""

from __future__ import annotations

import pytest

from tidings.errors import BadRequest, TooLarge
from tidings_hub.engine.protocols.http_body import RequestBody


def test_body_ends_at_its_content_length() -> None:
    body = RequestBody(5, 10)
    assert (body.feed(b"abc"), body.done) == (None, False)
    assert (body.feed(b"deXY"), body.done) == (b"XY", True)
    assert body.data == b"abcde"


def test_content_length_over_the_limit_is_rejected_before_any_byte_is_read() -> None:
    with pytest.raises(TooLarge):
        RequestBody(11, 10)


def test_chunked_body_may_be_split_at_any_byte() -> None:
    stream = b"3\r\nabc\r\n0002;x=1\r\nde\r\n0\r\nTrailer: x\r\n\r\nNEXT"
    for position in range(len(stream) + 1):
        body, remaining = RequestBody(None, 5), b""
        for part in (stream[:position], stream[position:]):
            remaining = body.feed(remaining + part) or b"" if not body.done else remaining + part
        assert (body.done, body.data, remaining) == (True, b"abcde", b"NEXT")


@pytest.mark.parametrize("data", [b"6\r\n", b"3\r\nabc\r\n3\r\n", b"fffff\r\n"])
def test_chunk_over_the_limit_is_rejected_at_its_size_line(data: bytes) -> None:
    with pytest.raises(TooLarge):
        RequestBody(None, 5).feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1\n",
        b"1\r\nabX",
        b"1\r\na\n",
        b"0\r\nA: b\n",
        b"9" * 301,
    ],
)
def test_malformed_chunks_are_rejected(data: bytes) -> None:
    with pytest.raises(BadRequest):
        RequestBody(None, 500).feed(data + b"\r\n")


@pytest.mark.parametrize(("chunk", "is_accepted"), [(b"1\r\nx\r\n", False), (b"40\r\n" + bytes(64) + b"\r\n", True)])
def test_body_of_thousands_of_tiny_chunks_is_rejected(chunk: bytes, is_accepted: bool) -> None:
    body = RequestBody(None, 1_000_000)
    body.feed(chunk * 1_000)
    if is_accepted:
        body.feed(chunk)
        return
    with pytest.raises(BadRequest):
        body.feed(chunk)


def test_endless_trailers_are_rejected() -> None:
    body = RequestBody(None, 5)
    with pytest.raises(BadRequest):
        body.feed(b"0\r\n" + b"X: y\r\n" * 2000)
