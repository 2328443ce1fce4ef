"""Requests relayed by another node: the stamp's client address, scheme and host apply."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from support.network.raw_client import POLLING, RawResponse, open_polling, post, request
from support.processes.engine import EngineProcess
from tidings_hub.core.relay_stamp import STAMP_HEADER, Stamp, stamp_key, write_stamp

CLIENT = "203.0.113.7"


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess("--relay", "--proxied", "--max_connections=8") as process:
        yield process


def send_relayed(
    engine: EngineProcess, target: str, *, key: str = "echo", secure: bool = True, **headers: str
) -> RawResponse:
    stamp = Stamp("n1-", time.time(), CLIENT, secure, "shop.example")
    line = write_stamp(stamp_key(key), stamp, "GET", target)
    return request(engine.port, "GET", target, **{STAMP_HEADER.replace("-", "_"): line}, **headers)


def test_client_and_scheme_come_from_the_stamp(engine: EngineProcess) -> None:
    body = send_relayed(engine, "/who", X_Forwarded_For="198.51.100.1", X_Forwarded_Proto="http").body.decode()
    assert body.split()[:2] == ["GET", "/who"]
    assert f" {CLIENT} https " in body
    body = send_relayed(engine, "/who", secure=False).body.decode()
    assert f" {CLIENT} http " in body


def test_request_with_an_invalid_stamp_is_refused(engine: EngineProcess) -> None:
    response = send_relayed(engine, "/who", key="another")
    assert (response.status, response.body) == (400, b'{"code":1,"message":"Session ID unknown"}')


def test_request_without_a_stamp_uses_forwarded_headers(engine: EngineProcess) -> None:
    body = request(engine.port, "GET", "/who", X_Forwarded_For="198.51.100.1").body.decode()
    assert " 198.51.100.1 http " in body


def test_full_node_still_serves_its_own_sessions(engine: EngineProcess) -> None:
    sessions = [open_polling(engine.port) for _ in range(8)]
    try:
        assert request(engine.port, "GET", POLLING).status == 503
        for index, sid in enumerate(sessions):
            assert post(engine.port, sid, b"4hello").status == 200
            target = f"{POLLING}&sid={sid}"
            response = send_relayed(engine, target) if index % 2 else request(engine.port, "GET", target)
            # With a trusted proxy, a ping follows.
            assert response.body.startswith(b"4hello")
    finally:
        for sid in sessions:
            post(engine.port, sid, b"1")
