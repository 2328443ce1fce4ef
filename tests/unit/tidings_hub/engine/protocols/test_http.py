"""Heads, bodies and answers without a socket. What is refused: conformance/test_abuse.py, through the door."""

from __future__ import annotations

import pytest

from tidings.errors import BadRequest, TooLarge
from tidings_hub.engine.protocols import http_request, http_response
from tidings_hub.engine.protocols.http_body import RequestBody


def head(text: str) -> http_request.RequestHead:
    return http_request.parse_head(text.replace("\n", "\r\n").encode("latin-1"))


class TestHead:
    def test_all_its_parts(self) -> None:
        got = head(
            "POST /a/b?x=1&y=%20 HTTP/1.1\nHost: h\nContent-Length: 7\nX-A: 1\nx-a: 2\nCookie: a=1\nCookie: b=2\n\n"
        )
        assert (got.method, got.path, got.query, got.length) == ("POST", "/a/b", "x=1&y=%20", 7)
        assert got.headers["x-a"] == "1, 2"
        assert got.headers["cookie"] == "a=1; b=2"
        assert got.keep_alive
        assert got.has_body
        assert not got.wants_upgrade

    def test_an_absolute_target_is_its_path(self) -> None:
        assert head("GET http://other/x?y HTTP/1.1\nHost: h\n\n").path == "/x"
        assert head("GET http://other HTTP/1.1\nHost: h\n\n").path == "/"

    def test_keep_alive(self) -> None:
        assert not head("GET / HTTP/1.1\nHost: h\nConnection: Close\n\n").keep_alive
        assert not head("GET / HTTP/1.0\n\n").keep_alive

    def test_a_chunked_body_has_no_length(self) -> None:
        got = head("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: Chunked\n\n")
        assert got.length is None
        assert got.has_body

    def test_underscores_are_dropped_unless_they_shadow(self) -> None:
        assert "device_id" not in head("GET / HTTP/1.1\nHost: h\nDevice_Id: 1\n\n").headers

    @pytest.mark.parametrize("name", ["X_Forwarded_For", "Content_Length", "X_Api_Key", "Device_Id"])
    def test_underscores_that_shadow_are_refused(self, name: str) -> None:
        with pytest.raises(BadRequest):
            head(f"GET / HTTP/1.1\nHost: h\nDevice-Id: 1\n{name}: 1\n\n")

    def test_a_partial_head_may_go_on(self) -> None:
        whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        for at in range(len(whole)):
            http_request.check_partial(whole[:at])

    @pytest.mark.parametrize("data", [b"GET / HTTP/1.1\nHo", b"GET / HTTP/1.1\rHo"])
    def test_a_partial_head_is_refused_as_soon_as_it_can_be(self, data: bytes) -> None:
        with pytest.raises(BadRequest):
            http_request.check_partial(data)


class TestBody:
    def test_a_length(self) -> None:
        body = RequestBody(5, 10)
        assert (body.feed(b"abc"), body.done) == (None, False)
        assert (body.feed(b"deXY"), body.done) == (b"XY", True)
        assert body.data == b"abcde"

    def test_a_length_over_the_limit_is_refused_before_a_byte_is_read(self) -> None:
        with pytest.raises(TooLarge):
            RequestBody(11, 10)

    def test_chunks_split_at_every_byte(self) -> None:
        stream = b"3\r\nabc\r\n0002;x=1\r\nde\r\n0\r\nTrailer: x\r\n\r\nNEXT"
        for at in range(len(stream) + 1):
            body, rest = RequestBody(None, 5), b""
            for part in (stream[:at], stream[at:]):
                rest = body.feed(rest + part) or b"" if not body.done else rest + part
            assert (body.done, body.data, rest) == (True, b"abcde", b"NEXT")

    @pytest.mark.parametrize("data", [b"6\r\n", b"3\r\nabc\r\n3\r\n", b"fffff\r\n"])
    def test_chunks_over_the_limit_are_refused_by_their_size_line(self, data: bytes) -> None:
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
    def test_what_is_not_chunks(self, data: bytes) -> None:
        with pytest.raises(BadRequest):
            RequestBody(None, 500).feed(data + b"\r\n")

    def test_endless_trailers(self) -> None:
        body = RequestBody(None, 5)
        with pytest.raises(BadRequest):
            body.feed(b"0\r\n" + b"X: y\r\n" * 2000)


class TestAnswers:
    def test_a_complete_answer(self) -> None:
        said = http_response.render(200, b"hi", extra_headers=b"X: y\r\n")
        assert said.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 2\r\n")
        assert b"\r\nX: y\r\n\r\nhi" in said
        assert b"\r\nDate: " in said

    def test_no_content_has_no_length(self) -> None:
        assert b"Content-Length" not in http_response.render(204, b"")

    def test_a_preflight_echoes_only_names(self) -> None:
        assert b"Allow-Headers: x-a, x-b\r\n" in http_response.preflight_lines("x-a, x-b")
        assert b"Allow-Headers: content-type\r\n" in http_response.preflight_lines("x\r\nSet-Cookie: a")
