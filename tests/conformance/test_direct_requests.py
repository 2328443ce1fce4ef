"""Requests that are answered without WSGI, by the real engine: groups, order, bounds and errors."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.network.raw_client import RawClient, request
from support.processes.engine import EngineProcess
from support.waiting import wait_until

CALM = ("--ping_interval_ms=60000", "--ping_timeout_ms=20000", "--direct")


def _clients(engine: EngineProcess, count: int) -> list[RawClient]:
    """Connections that the engine has accepted, and that had a request."""
    clients = [RawClient(engine.port) for _ in range(count)]
    for client in clients:
        client.send_request("POST", "/direct", b"first")
        assert client.response().status == 200
    # After another turn of its event loop, the engine has counted the last of them as answered.
    assert request(engine.port, "GET", "/healthz").status == 200
    return clients


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Stop the process: what is sent meanwhile arrives in one turn of its event loop."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", why="it stops")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_requests_of_one_turn_are_answered_together_and_each_gets_its_own_response() -> None:
    with EngineProcess(*CALM) as engine:
        clients = _clients(engine, 5)
        with _stopped(engine.pid):
            for number, client in enumerate(clients):
                client.send_request("POST", "/direct", b"%d" % number)
        bodies = [client.response().body.split() for client in clients]
        assert [int(body) for _, body in bodies] == [0, 1, 2, 3, 4]
        # `group_max` is 3.
        assert Counter(int(size) for size, _ in bodies) == {3: 3, 2: 2}


def test_large_bodies_are_not_answered_together() -> None:
    with EngineProcess(*CALM) as engine:
        clients = _clients(engine, 2)
        with _stopped(engine.pid):
            for client in clients:
                client.send_request("POST", "/direct", b"x" * 33_000)
        assert [client.response().body.split()[0] for client in clients] == [b"1", b"1"]


def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    with EngineProcess(*CALM) as engine:
        (client,) = _clients(engine, 1)
        bodies = [b"slow", b"b", b"c", b"d"]
        form = b"POST /direct%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
        client.send(b"".join(form % (b"", len(body), body) for body in bodies) + form % (b"?1", 1, b"w"))
        assert [client.response().body for _ in bodies] == [b"1 " + body for body in bodies]
        # The last one is WSGI's.
        assert client.response().body.startswith(b"POST /direct 1 ")
        engine.end()
        assert engine.metrics["wsgi_requests"] == 7


def test_request_above_the_limit_gets_503() -> None:
    with EngineProcess(*CALM, "--wsgi_pool=1", "--wsgi_queue=1") as engine:
        clients = _clients(engine, 5)
        with _stopped(engine.pid):
            for client in clients:
                client.send_request("POST", "/direct", b"slow")
        responses = [client.response() for client in clients]
        assert sorted(response.status for response in responses) == [200, 200, 503, 503, 503]
        assert all(response.headers["connection"] == "close" for response in responses if response.status == 503)
        assert _clients(engine, 1)
        engine.end()
        assert engine.metrics["wsgi_refused"] == 3


def test_response_that_is_too_slow_or_too_large_gets_500() -> None:
    with EngineProcess(*CALM, "--wsgi_timeout_s=1", "--wsgi_response_max_bytes=1000000") as engine:
        large, small, hung = _clients(engine, 3)
        with _stopped(engine.pid):
            large.send_request("POST", "/direct", b"large")
            small.send_request("POST", "/direct", b"small")
        assert (large.response().status, small.response().body) == (500, b"2 small")
        hung.send_request("POST", "/direct", b"hang")
        response = hung.response()
        assert (response.status, response.headers["connection"]) == (500, "close")
        assert _clients(engine, 1)
        engine.end()
        assert (engine.metrics["wsgi_timeouts"], engine.metrics["wsgi_too_large"]) == (1, 1)


def test_client_that_leaves_does_not_affect_the_others() -> None:
    with EngineProcess(*CALM) as engine:
        leaving, staying = _clients(engine, 2)
        with _stopped(engine.pid):
            leaving.send_request("POST", "/direct", b"slow")
            staying.send_request("POST", "/direct", b"stays")
        leaving.socket.close()
        assert staying.response().body == b"2 stays"
        assert _clients(engine, 1)


def test_connection_closes_after_the_response_if_the_request_says_so() -> None:
    with EngineProcess(*CALM) as engine:
        for method, path in (("POST", "/direct"), ("GET", "/healthz")):
            client = RawClient(engine.port)
            client.send_request(method, path, Connection="close")
            response = client.response()
            assert (response.status, response.headers["connection"]) == (200, "close")
            assert client.read() == b""


def test_probe_is_answered_without_wsgi() -> None:
    with EngineProcess(*CALM) as engine:
        client = RawClient(engine.port)
        for method, body in (("GET", b"direct"), ("POST", b"POST /healthz  127.0.0.1 http |"), ("GET", b"direct")):
            client.send_request(method, "/healthz")
            assert client.response().body == body
