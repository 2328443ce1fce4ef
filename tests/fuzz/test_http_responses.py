"""A response that is not valid HTTP raises only the error that the caller handles, however its bytes arrive."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from tidings.http_client.response import BadHttpResponse, HttpResponse, ResponseReader

BODY_MAX = 500
lines = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 100 C\r\n", b"HTTP/1.1 204 N\r\n", b"\r\n", b"\n",
        b"Content-Length: 2\r\n", b"Content-Length: -2\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"2\r\n{}\r\n", b"0\r\n", b"-1\r\n", b"{}", b"ffffffffff\r\n", b"X: y\r\n", b"X\r\n", b"\x00",
    ]
)  # fmt: skip
messages = st.builds(b"".join, st.lists(st.one_of(lines, st.binary(max_size=8)), max_size=14))


def receive_from(parts: list[bytes]) -> Callable[[], bytes]:
    remaining = list(parts)
    return lambda: remaining.pop(0) if remaining else b""


def outcome(parts: list[bytes]) -> tuple[HttpResponse, int] | str:
    reader = ResponseReader(receive_from(parts), body_max_bytes=BODY_MAX)
    try:
        response = reader.read()
    except BadHttpResponse as error:
        return str(error)
    assert len(response.body) <= BODY_MAX
    return response, reader.unread


@given(messages, st.integers(1, 9))
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 1)
def test_any_bytes_in_any_pieces(data: bytes, step: int) -> None:
    whole = outcome([data] if data else [])
    pieces = outcome([data[at : at + step] for at in range(0, len(data), step)])
    if isinstance(whole, str) or isinstance(pieces, str):
        assert isinstance(whole, str)
        assert isinstance(pieces, str)
    else:
        # What follows the response may not have arrived yet.
        assert whole[0] == pieces[0]
        assert whole[1] >= pieces[1]
