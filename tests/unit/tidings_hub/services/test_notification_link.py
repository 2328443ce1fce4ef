"""Requests to the notification service over real HTTP: what happens when it fails, hangs or is something else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from support.network.scripted_server import (
    Peer,
    Script,
    ScriptedServer,
    answering,
    closing_after,
    dripping,
    response,
    silent,
)
from support.ports import free_port
from tidings.errors import Forbidden, Internal, TidingsError, TimedOut, Unavailable
from tidings_hub.config.notifications import REQUEST_HEADER, Notifications
from tidings_hub.metrics import Metrics
from tidings_hub.services.notification_link import RESPONSE_MAX_BYTES, NotificationLink, RequestLane

OK = response(b'{"items":[]}')


def repeating(request: bytes, body: bytes) -> bytes:
    """The response of the service to a request: it repeats the value in the request's header."""
    value = request.partition(f"{REQUEST_HEADER}: ".encode())[2].partition(b"\r\n")[0]
    return response(body, headers=b"%b: %b\r\n" % (REQUEST_HEADER.encode(), value))


class Node:
    """A link and a lane to one server."""

    def __init__(self, url: str, *, size: int = 4, timeout_s: float = 2.0) -> None:
        self.metrics = Metrics()
        options = Notifications(request_timeout_s=timeout_s)
        self.link = NotificationLink(url, "key", options, self.metrics)
        self.lane = RequestLane(self.link, size)

    def get(self) -> dict[str, object]:
        return self.lane.request("GET", "/inbox?user=7")[1]

    def post(self) -> dict[str, object]:
        return self.lane.request("POST", "/inbox/mark", b'{"user":"7"}')[1]


Serve = Callable[..., tuple[ScriptedServer, Node]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with a script, and a node that uses it."""
    started: list[tuple[ScriptedServer, Node]] = []

    def make(script: Script, **more: Any) -> tuple[ScriptedServer, Node]:
        server = ScriptedServer(script).start()
        started.append((server, Node(server.url, **more)))
        return started[-1]

    yield make
    for server, node in started:
        node.link.close()
        server.close()


def test_connections_are_reused_and_requests_have_the_key(serve: Serve) -> None:
    requests: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            requests.append(peer.read_request())
            peer.send(repeating(requests[-1], b'{"items":[]}'))

    server, node = serve(script)
    assert [node.get(), node.lane.request("PUT", "/inbox/preferences", b"{}")[1]] == [{"items": []}] * 2
    assert server.connections == 1
    assert requests[0].startswith(b"GET /inbox?user=7 HTTP/1.1\r\n")
    assert requests[1].startswith(b"PUT /inbox/preferences HTTP/1.1\r\n")
    assert all(b"Authorization: Bearer key\r\n" in request for request in requests)
    assert node.metrics.notification_requests == {"ok": 2}


@pytest.mark.parametrize("has_value", [True, False])
def test_stray_response_behind_a_request_is_not_the_answer_to_it(serve: Serve, has_value: bool) -> None:
    """A proxy that repeats a response: it would show the inbox of another user."""

    def script(peer: Peer) -> None:
        first = peer.read_request()
        peer.send(repeating(first, b'{"items":["first"]}'))
        second = peer.read_request()
        peer.send(repeating(first, b'{"items":["stray"]}') if has_value else response(b'{"items":["stray"]}'))
        peer.wait(0.05)
        peer.send(repeating(second, b'{"items":["late"]}'))

    server, node = serve(script)
    assert [node.get(), node.get()] == [{"items": ["first"]}] * 2
    assert server.connections == 2


def test_connection_to_a_service_that_repeats_no_value_is_used_once(serve: Serve) -> None:
    server, node = serve(answering(OK))
    assert [node.get(), node.post()] == [{"items": []}] * 2
    assert server.connections == 2


def test_request_on_a_connection_that_was_closed_meanwhile_is_sent_again(serve: Serve) -> None:
    _, node = serve(closing_after(OK))
    assert [node.post() for _ in range(3)] == [{"items": []}] * 3


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b'{"error":{"code":"forbidden","message":"required"}}', 403, Forbidden),
        # What the operator has to mend is in the log, and no error of the client.
        (b'{"error":{"code":"unauthorized","message":"send the key"}}', 401, Unavailable),
        (b'{"error":{"code":"unavailable","message":"db7.internal"}}', 503, Unavailable),
        (b'{"error":{"code":"timeout","message":"db7.internal"}}', 504, TimedOut),
        (b'{"error":{"code":"internal","message":"db7.internal"}}', 500, Internal),
        (b'{"error":{"code":"unheard_of","message":"x"}}', 500, Internal),
        (b"<html>", 200, Unavailable),
        (b"<html>", 502, Unavailable),
        (b"[]", 200, Unavailable),
        (b'{"a":NaN}', 200, Unavailable),
        (b"\xff", 200, Unavailable),
        (b"{}", 404, Unavailable),
    ],
)
def test_errors_and_foreign_answers(serve: Serve, body: bytes, status: int, error: type[TidingsError]) -> None:
    _, node = serve(answering(response(body, status=status)))
    with pytest.raises(TidingsError) as raised:
        node.get()
    assert type(raised.value) is error
    assert "db7" not in str(raised.value)
    # It answers, so the next request is tried.
    assert node.link.is_closed


@pytest.mark.parametrize(
    "script",
    [
        silent,
        dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"),
        closing_after(b"HTTP/1.1 200 OK\r\n"),
        closing_after(b"220 smtp.example ESMTP\r\n"),
        closing_after(response(b"x" * (RESPONSE_MAX_BYTES + 1))),
    ],
)
def test_service_that_does_not_answer_is_tried_by_one_request_at_a_time(serve: Serve, script: Script) -> None:
    server, node = serve(script, timeout_s=0.3)
    with pytest.raises(Unavailable):
        node.get()
    connections = server.connections
    for _ in range(20):
        with pytest.raises(Unavailable):
            node.get()
    assert (server.connections, node.metrics.notification_requests_refused) == (connections, 20)
    assert not node.link.is_closed
    assert node.link.last_error
    server.script = answering(OK)
    for _ in range(100):
        with suppress(Unavailable):
            node.get()
            break
        threading.Event().wait(0.1)
    assert node.link.is_closed
    assert node.link.last_error == ""


def test_mark_that_may_have_been_handled_times_out(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.wait(60)

    _, node = serve(script, timeout_s=0.3)
    with pytest.raises(TimedOut):
        node.post()


def test_no_service_at_all_is_unavailable_and_nothing_was_sent() -> None:
    node = Node(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable) as raised:
        node.post()
    assert type(raised.value) is Unavailable


def test_requests_of_one_lane_leave_the_other_free(serve: Serve) -> None:
    arrived = threading.Semaphore(0)
    released = threading.Event()

    def script(peer: Peer) -> None:
        while True:
            request = peer.read_request()
            if b"/slow" in request:
                arrived.release()
                released.wait(30)
            peer.send(OK)

    _, node = serve(script, size=2, timeout_s=30.0)
    threads = [threading.Thread(target=node.lane.request, args=("GET", "/slow")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        assert arrived.acquire(timeout=20)
    assert node.metrics.notification_requests_active == 2
    assert RequestLane(node.link, 2).request("GET", "/quick")[1] == {"items": []}
    # The other three have never begun.
    assert not arrived.acquire(blocking=False)
    released.set()
    for thread in threads:
        thread.join(20)
    assert node.metrics.notification_requests_active == 0


def test_request_that_waited_for_others_fails_with_them(serve: Serve) -> None:
    arrived, ending = threading.Semaphore(0), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        arrived.release()
        ending.wait(30)

    server, node = serve(script, size=1, timeout_s=30.0)
    errors: list[TidingsError] = []

    def get() -> None:
        try:
            node.get()
        except TidingsError as error:
            errors.append(error)

    threads = [threading.Thread(target=get) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert arrived.acquire(timeout=20)
    # The service ends: only the request that it had reaches it.
    ending.set()
    for thread in threads:
        thread.join(20)
    assert [type(error) for error in errors] == [Unavailable] * 5
    assert server.connections == 1
