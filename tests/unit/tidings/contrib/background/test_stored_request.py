from __future__ import annotations

import io

from tidings.contrib.background.stored_request import WsgiRequest

ENVIRON = {
    "REQUEST_METHOD": "POST",
    "PATH_INFO": "/reports/Ã¼",
    "QUERY_STRING": "a=1",
    "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": "7",
    "HTTP_COOKIE": "session=1",
    "HTTP_TRANSFER_ENCODING": "chunked",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "wsgi.url_scheme": "https",
    "wsgi.input": io.BytesIO(b"socket"),
    "gunicorn.socket": object(),
    "SERVER_SOFTWARE": "gunicorn",
}


def test_everything_but_the_socket_survives_another_process() -> None:
    stored = WsgiRequest.from_bytes(WsgiRequest.of(ENVIRON, b"\x00body").to_bytes())
    environ = stored.to_environ()
    assert environ["wsgi.input"].read() == b"\x00body"
    assert environ["CONTENT_LENGTH"] == "5"
    assert {name: environ[name] for name in ("PATH_INFO", "HTTP_COOKIE", "wsgi.url_scheme")} == {
        "PATH_INFO": "/reports/Ã¼",
        "HTTP_COOKIE": "session=1",
        "wsgi.url_scheme": "https",
    }
    assert "gunicorn.socket" not in environ
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_body_can_be_read_by_each_run() -> None:
    stored = WsgiRequest.of(ENVIRON, b"body")
    assert [stored.to_environ()["wsgi.input"].read() for _ in range(2)] == [b"body", b"body"]
