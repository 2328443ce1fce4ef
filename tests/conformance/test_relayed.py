"""What a node believes of a request that another node sent on: its client, its scheme, its host."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from support.network.raw_client import POLLING, RawClient, RawResponse, open_polling, request
from support.processes.engine import EngineProcess
from tidings_hub.core.relay_stamp import STAMP_HEADER, Stamp, stamp_key, write_stamp

CLIENT = "203.0.113.7"


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess("--relay", "--proxied", "--max_connections=8") as made:
        yield made


def relayed(
    engine: EngineProcess, target: str, *, key: str = "echo", secure: bool = True, **headers: str
) -> RawResponse:
    stamp = Stamp("n1-", time.time(), CLIENT, secure, "shop.example")
    line = write_stamp(stamp_key(key), stamp, "GET", target)
    return request(engine.port, "GET", target, **{STAMP_HEADER.replace("-", "_"): line}, **headers)


def test_the_client_and_its_scheme_are_what_the_first_node_says(engine: EngineProcess) -> None:
    said = relayed(engine, "/who", X_Forwarded_For="198.51.100.1", X_Forwarded_Proto="http").body.decode()
    assert said.split()[:2] == ["GET", "/who"]
    assert f" {CLIENT} https " in said
    said = relayed(engine, "/who", secure=False).body.decode()
    assert f" {CLIENT} http " in said


def test_a_stamp_that_does_not_hold_is_no_request_at_all(engine: EngineProcess) -> None:
    refused = relayed(engine, "/who", key="another")
    assert (refused.status, refused.body) == (400, b'{"code":1,"message":"Session ID unknown"}')


def test_without_a_stamp_everything_is_as_it_was(engine: EngineProcess) -> None:
    said = request(engine.port, "GET", "/who", X_Forwarded_For="198.51.100.1").body.decode()
    assert " 198.51.100.1 http " in said


def test_a_node_that_is_full_still_answers_the_sessions_that_it_has(engine: EngineProcess) -> None:
    sid = open_polling(engine.port)
    idle = [RawClient(engine.port) for _ in range(8)]
    try:
        assert request(engine.port, "GET", f"{POLLING}&sid={sid}").status == 503
        assert relayed(engine, f"{POLLING}&sid={sid}&t=1").status == 200
    finally:
        for one in idle:
            one.socket.close()
