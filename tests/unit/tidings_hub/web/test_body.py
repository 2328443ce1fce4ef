from __future__ import annotations

import io
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.wrappers import Request

from support.small_hub import SmallHub

GOOD = b'{"channel":"orders:1","event":"e","data":1}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b"{'a':1}",
        b'{"channel":"orders:1","event":"e","data":NaN}',
        b'{"channel":"orders:1","event":"e","data":-Infinity}',
        b'{"channel":"orders:1","event":"e","data":1e999}',
        b'{"channel":"orders:1","event":"e","data":' + b"9" * 400 + b"}",
        b'{"channel":"orders:1","event":"e","data":1,"data":2}',
        b'{"channel":"orders:1","event":"e","data":{"a":1,"a":1}}',
        b'{"channel":"orders:1","event":"e","data":"\\ud800"}',
        b'{"channel":"orders:1","event":"e","data":{"\\uDC00":1}}',
        b'{"channel":"orders:1","event":"e","data":"\xff"}',
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        b"[" * 2000,
        b"null",
        b'"text"',
        b"[]",
    ],
    ids=lambda body: ascii(body[-24:]),
)
def test_body_that_is_not_strict_json_is_rejected(client: FlaskClient, hub: SmallHub, body: bytes) -> None:
    response = client.post("/api/publish", data=body, content_type="application/json")

    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["code"] in {"bad_request", "bad_channel"}
    assert hub.histories == {}


def test_complete_surrogate_pair_is_accepted(client: FlaskClient, hub: SmallHub) -> None:
    response = client.post(
        "/api/publish", data=GOOD.replace(b"1}", b'"\\ud83d\\ude00"}'), content_type="application/json"
    )

    assert response.status_code == 200
    assert hub.histories["orders:1"][0].data_json == '"😀"'.encode()


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/plain", None),
        ("", None),
        ("application/x-www-form-urlencoded", None),
        ("application/json; charset=utf-16", None),
        ("application/json; charset=latin-1", None),
        ("application/json", "gzip"),
    ],
)
def test_other_content_types_and_encodings_get_415(
    client: FlaskClient, content_type: str, encoding: str | None
) -> None:
    headers = {"Content-Encoding": encoding} if encoding else {}
    response = client.post("/api/publish", data=GOOD, content_type=content_type, headers=headers)

    assert response.status_code == 415
    assert response.json is not None
    assert response.json["error"]["code"] == "unsupported_media"


class EndlessBody(io.RawIOBase):
    """A body without an end. It counts the bytes that were read."""

    read_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0
        self.read_bytes += size
        return b" " * size

    def readinto(self, buffer: Any) -> int:
        buffer[:] = self.read(len(buffer))
        return len(buffer)


def _post(client: FlaskClient, body: io.IOBase, **environ: str) -> TestResponse:
    """Send a request with the headers in `environ`, which need not match the body."""
    base_environ = EnvironBuilder(path="/api/publish", method="POST", content_type="application/json").get_environ()
    base_environ["HTTP_AUTHORIZATION"] = client.environ_base["HTTP_AUTHORIZATION"]
    return TestResponse(
        *run_wsgi_app(client.application, base_environ | {"wsgi.input": body} | environ), request=Request(base_environ)
    )


def test_body_over_the_limit_is_rejected_without_reading_it(client: FlaskClient, hub: SmallHub) -> None:
    body = EndlessBody()
    response = _post(client, body, CONTENT_LENGTH="4097")

    assert response.status_code == 413
    assert response.headers["Connection"] == "close"
    assert body.read_bytes == 0
    assert hub.metrics.api_too_large == 1


def test_chunked_body_is_read_only_up_to_the_limit(client: FlaskClient) -> None:
    body = EndlessBody()
    response = _post(client, body, HTTP_TRANSFER_ENCODING="chunked")

    assert response.status_code == 413
    assert 0 < body.read_bytes <= 4097


def test_chunked_body_is_accepted(client: FlaskClient, hub: SmallHub) -> None:
    response = _post(client, io.BytesIO(GOOD), HTTP_TRANSFER_ENCODING="chunked")

    assert response.status_code == 200
    assert len(hub.histories["orders:1"]) == 1


@pytest.mark.parametrize("length", [str(len(GOOD) + 5), "-1", "4e1", ""])
def test_wrong_content_length_is_rejected(client: FlaskClient, hub: SmallHub, length: str) -> None:
    response = _post(client, io.BytesIO(GOOD), CONTENT_LENGTH=length)

    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["code"] == "bad_request"
    assert hub.histories == {}
