"""A service whose threads or connections are used up: its probes and metrics are answered."""

from __future__ import annotations

import json
import resource
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from support.network.raw_client import RawClient
from support.processes.database import Sqlite
from support.processes.hub import CONFIG
from support.processes.notifications import CATEGORIES, KEY, NotificationsProcess

CONNECTIONS = 8
NOW_MS = 1_764_000_000_000


@pytest.fixture
def database() -> Iterator[Sqlite]:
    created = Sqlite()
    yield created
    created.stop()


@pytest.fixture
def service(tmp_path: Path, database: Sqlite) -> Iterator[NotificationsProcess]:
    config = tmp_path / "tidings.toml"
    config.write_text(f"{CONFIG}[notifications]\nconnections = {CONNECTIONS}\nthreads = 2\n{CATEGORIES}")
    process = NotificationsProcess(config, database.url)
    try:
        yield process.start()
    finally:
        process.stop()


def send_notification(client: RawClient, number: int) -> None:
    notification = {"category": "mention", "user": "7", "title": "T", "id": f"n{number}", "at_ms": NOW_MS}
    body = json.dumps({"notifications": [notification]}).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content_Type": "application/json", "Tidings_Request": f"r{number}"}
    client.send_request("POST", "/notifications", body, **headers)


def assert_probes_are_answered(service: NotificationsProcess) -> None:
    for path in ("/healthz", "/metrics", "/readyz"):
        status = service.request("GET", path, key=None)[0]
        assert status == 200 or (path == "/readyz" and status == 503)


def test_probes_do_not_wait_for_requests_that_wait_for_the_database(
    service: NotificationsProcess, database: Sqlite
) -> None:
    with database.engine().connect() as connection, ExitStack() as stack:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        # More than there are threads.
        clients = [stack.enter_context(RawClient(service.port)) for _ in range(CONNECTIONS)]
        for number, client in enumerate(clients):
            send_notification(client, number)
        assert_probes_are_answered(service)
        refused = stack.enter_context(RawClient(service.port))
        send_notification(refused, CONNECTIONS)
        response = refused.response()
        assert (response.status, json.loads(response.body)["error"]["code"]) == (503, "unavailable")
        # What nodes know the response to their request by.
        assert response.headers["tidings-request"] == f"r{CONNECTIONS}"
        assert_probes_are_answered(service)
        connection.rollback()
        responses = [client.response() for client in clients]
        assert [response.status for response in responses] == [200] * CONNECTIONS
        values = [response.headers["tidings-request"] for response in responses]
        assert values == [f"r{number}" for number in range(CONNECTIONS)]
    assert service.metric("tidings_notifications_refused_total") == 1


@pytest.mark.parametrize(
    "part", [b"", b"POST /notifications HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "part of a head"]
)
def test_connections_without_a_request_leave_room(service: NotificationsProcess, part: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(10 * CONNECTIONS):
            stack.enter_context(RawClient(service.port)).send(part)
        for _ in range(3):
            assert_probes_are_answered(service)
        client = stack.enter_context(RawClient(service.port))
        send_notification(client, 1)
        assert client.response().status == 200
    assert service.metric("tidings_notifications_connections_shed_total") > 0


@pytest.mark.parametrize("head", ["", "Content-Length: 100000\r\n\r\n"], ids=["head", "body"])
def test_requests_that_never_end_leave_room(service: NotificationsProcess, head: str) -> None:
    """Each sends a byte again and again, so it is never idle."""
    is_over = threading.Event()

    def drip(clients: list[RawClient]) -> None:
        while not is_over.wait(0.01):
            for client in clients:
                with suppress(OSError):
                    client.send(b"x")

    with ExitStack() as stack:
        # With the reserve of the service.
        clients = [stack.enter_context(RawClient(service.port)) for _ in range(CONNECTIONS + 70)]
        for client in clients:
            client.send(f"POST /notifications HTTP/1.1\r\nHost: x\r\n{head}".encode())
        thread = threading.Thread(target=drip, args=(clients,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(is_over.set)
        for _ in range(3):
            assert_probes_are_answered(service)
        assert service.metric("tidings_notifications_connections_shed_total") > 0


@pytest.mark.parametrize("length", ["Content-Length: 4000000", "Transfer-Encoding: chunked"])
def test_large_body_without_the_key_is_not_held(service: NotificationsProcess, length: str) -> None:
    """Its end never arrives."""
    with RawClient(service.port) as client:
        client.send(f"POST /notifications HTTP/1.1\r\nHost: x\r\nTidings-Request: r1\r\n{length}\r\n\r\n".encode())
        client.send(b"186a0\r\n" + b"x" * 100_000)
        response = client.response()
        assert (response.status, json.loads(response.body)["error"]["code"]) == (401, "unauthorized")
        assert response.headers["tidings-request"] == "r1"
    assert service.metric("tidings_notifications_unauthorized_total") == 1


def test_lines_and_requests_that_arrive_at_once_are_few(service: NotificationsProcess) -> None:
    """Each would cost a thousand times as much as its bytes."""
    probe = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for data, answered in ((b"\r\n" * 4_000, 0), (probe * 10, 10), (probe * 200, 16)):
        with RawClient(service.port) as client:
            client.send(data)
            statuses = [client.response().status for _ in range(answered)]
            assert statuses == [200] * answered
            if answered != 10:
                assert client.response().status == 400
                assert client.read() == b""


def test_service_has_descriptors_for_all_its_connections(tmp_path: Path, database: Sqlite) -> None:
    """A soft limit below `connections`, as systemd's 1,024 may be."""
    config = tmp_path / "tidings.toml"
    config.write_text(f"{CONFIG}[notifications]\nconnections = 100\n{CATEGORIES}")
    process, limits = NotificationsProcess(config, database.url), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, limits[1]))
        process.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        with ExitStack() as stack:
            for _ in range(150):
                stack.enter_context(RawClient(process.port))
            assert_probes_are_answered(process)
        assert "Too many open files" not in process.log.read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        process.stop()
