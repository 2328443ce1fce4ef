from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest

from tidings.http_client.response import HEAD_MAX_BYTES, BadHttpResponse, HttpResponse, ResponseReader, ResponseTooLarge


def receive_from(data: bytes, step: int) -> Callable[[], bytes]:
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    return lambda: parts.pop(0) if parts else b""


def read(data: bytes, *, step: int = 65_536, body_max_bytes: int = 1000) -> tuple[HttpResponse, int]:
    reader = ResponseReader(receive_from(data, step), body_max_bytes=body_max_bytes)
    return reader.read(), reader.unread


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 65_536])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OK + b"Content-Length: 2\r\n\r\n{}", HttpResponse(200, b"{}", keep_alive=True)),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", HttpResponse(200, b"", keep_alive=True)),
        (OK + b"content-length:2\r\nConnection: close\r\n\r\n{}", HttpResponse(200, b"{}", keep_alive=False)),
        (OK + b"Connection: x, Close\r\nContent-Length: 2 \r\n\r\n{}", HttpResponse(200, b"{}", keep_alive=False)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", HttpResponse(200, b"{}", keep_alive=False)),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", HttpResponse(200, b"{}", keep_alive=False)),
        (OK + b"\r\n{}", HttpResponse(200, b"{}", keep_alive=False)),
        (CHUNKED + b"1\r\n{\r\n00001;x=y\r\n}\r\n0\r\nX: y\r\n\r\n", HttpResponse(200, b"{}", keep_alive=True)),
        (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", HttpResponse(200, b"0123456789", keep_alive=True)),
        (b"HTTP/1.1 204 No\r\n\r\n", HttpResponse(204, b"", keep_alive=True)),
        (b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", HttpResponse(204, b"", keep_alive=True)),
        (b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", HttpResponse(304, b"", keep_alive=True)),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n7",
            HttpResponse(200, b"7", keep_alive=True),
        ),
    ],
)
def test_valid_responses_are_read(data: bytes, expected: HttpResponse, step: int) -> None:
    assert read(data, step=step) == (expected, 0)


@pytest.mark.parametrize(
    "size", [b"-1", b"+1", b"0x1", b"1_0", b" 1", b"1 ", b"", b"g", b"1\t", b"-0", b"123456789", b"\xb2", b"1\n"]
)
def test_malformed_chunk_size_is_an_error(size: bytes) -> None:
    with pytest.raises(BadHttpResponse, match="chunk"):
        read(CHUNKED + size + b"\r\n{\r\n0\r\n\r\n")


def test_number_of_chunks_is_bounded() -> None:
    data = io.BytesIO(CHUNKED + b"1\r\n7\r\n" * 50_000 + b"0\r\n\r\n")
    with pytest.raises(BadHttpResponse, match="chunks"):
        ResponseReader(lambda: data.read(65_536), body_max_bytes=262_144).read()


@pytest.mark.parametrize(
    "value", [b"-2", b"+2", b"0x2", b"2_0", b"2, 2", b"2,2", b"", b"2.0", b"two", b"\xb2", b"1" * 16, b"2 2"]
)
def test_malformed_length_is_an_error(value: bytes) -> None:
    with pytest.raises(BadHttpResponse, match="Content-Length"):
        read(OK + b"Content-Length: " + value + b"\r\n\r\n{}")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 2\r\n",
        b"no colon\r\nContent-Length: 2\r\n",
        b": empty\r\nContent-Length: 2\r\n",
        b"Content-Length : 2\r\n",
        b"Content-Length: 2\r\n folded\r\n",
        b"X: a\nContent-Length: 2\r\n",
        b"X: a\rContent-Length: 2\r\n",
        b"X: a\x00\r\nContent-Length: 2\r\n",
        b"X: y\r\n" * 101 + b"Content-Length: 2\r\n",
    ],
)
def test_ambiguous_head_is_an_error(headers: bytes) -> None:
    with pytest.raises(BadHttpResponse):
        read(OK + headers + b"\r\n{}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"{}\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n{}",
        b"HTTP/1.1 2000 OK\r\n\r\n{}",
        b"HTTP/1.1 +20 OK\r\n\r\n{}",
        b"HTTP/1.1 099 OK\r\n\r\n{}",
        b"HTTP/1.1  200 OK\r\n\r\n{}",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK + b"Content-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Content-Length: 3\r\n\r\n{}",
        OK + b"Content-Length: 2\r\n",
        OK + b"\r\n",
        CHUNKED + b"2\r\n{}\r\n",
        CHUNKED + b"2\r\n{}0\r\n\r\n",
        CHUNKED + b"2\r\n{}\r\n0\r\n",
        CHUNKED + b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        CHUNKED + b"2;" + b"x" * 300 + b"\r\n{}\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_response_that_is_not_complete_http_is_an_error(data: bytes) -> None:
    with pytest.raises(BadHttpResponse):
        read(data)


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\t\n"])
def test_empty_body_without_a_length_is_an_error(body: bytes) -> None:
    """A server that died after its head sends the same bytes, and an empty body of a hook means "allowed".

    White space is what some servers send to keep the connection alive while they compute.
    """
    with pytest.raises(BadHttpResponse, match="without a length"):
        read(OK + b"\r\n" + body)


def test_bytes_behind_a_response_are_counted() -> None:
    second = OK + b"Content-Length: 2\r\n\r\n{}"
    assert read(OK + b"Content-Length: 1\r\n\r\n7" + second)[1] == len(second)
    assert read(CHUNKED + b"0\r\n\r\n" + second)[1] == len(second)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 999999999999\r\n\r\n",
        OK + b"\r\n" + b"x" * 11,
        CHUNKED + b"ffffffff\r\n",
        CHUNKED + b"6\r\nxxxxxx\r\n" * 2 + b"0\r\n\r\n",
    ],
)
def test_size_of_the_body_is_limited(data: bytes) -> None:
    with pytest.raises(ResponseTooLarge, match="10 bytes"):
        read(data, body_max_bytes=10)


@pytest.mark.parametrize("part", [b"x", b" ", b"X: y\r\n", b"\r", b"\t x"])
def test_hostile_head_is_rejected_in_little_time(part: bytes) -> None:
    began_s = time.process_time()
    for data in (OK + b"X: " + part * HEAD_MAX_BYTES, OK + b"X: " + part * (HEAD_MAX_BYTES // len(part) - 99)):
        with pytest.raises(BadHttpResponse):
            read(data + b"\x00\r\n\r\n")
    assert time.process_time() - began_s < 2


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (OK + b"Retry-After: 7\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Retry-After: 7\r\nContent-Length: 1001\r\n\r\n", b""),
        (OK + b"Retry-After: 7\r\nContent-Length: 2\r\n\r\n{", b""),
        (OK + b"Retry-After: 7\r\n\r\n", b""),
        (OK + b"Retry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", b""),
    ],
)
def test_status_and_headers_are_read_although_the_body_cannot_be(data: bytes, body: bytes) -> None:
    response = ResponseReader(receive_from(data, 7), body_max_bytes=1000).read_status()
    assert (response.status, response.body, response.keep_alive) == (200, body, False)
    assert (response.header("Retry-After"), response.header("Location")) == ("7", None)


@pytest.mark.parametrize("data", [b"", OK, b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 101 S\r\n\r\n"])
def test_status_without_a_valid_head_is_an_error(data: bytes) -> None:
    with pytest.raises(BadHttpResponse):
        ResponseReader(receive_from(data, 7), body_max_bytes=1000).read_status()
