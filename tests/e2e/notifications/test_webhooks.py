"""A notification that its user does not see reaches the webhook of its category, signed: a real service and backend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.network.hook_server import SECRET, Handler, HookServer, respond, stall
from support.notification_node import NOW_MS
from support.processes.database import Sqlite
from support.processes.hub import CONFIG
from support.processes.notifications import NotificationsProcess
from support.waiting import wait_until


@pytest.fixture
def backend() -> Iterator[HookServer]:
    with HookServer() as server:
        yield server


@pytest.fixture
def slow_backend() -> Iterator[HookServer]:
    with HookServer() as server:
        server.answer = stall
        yield server


@pytest.fixture
def service(tmp_path: Path, backend: HookServer, slow_backend: HookServer) -> Iterator[NotificationsProcess]:
    database = Sqlite()
    config = tmp_path / "tidings.toml"
    config.write_text(f"""broker = "memory://"
{CONFIG}
[hooks]
secret = "{SECRET}"
allow_private = true
timeout_s = 1
connections = 4
[notifications.categories.late]
webhook = "{backend.url}"
push_after_s = 1
[notifications.categories.slow]
webhook = "{slow_backend.url}"
push_after_s = 0
""")
    process = NotificationsProcess(config, database.url, "--to", "http://127.0.0.1:9")
    try:
        yield process.start()
    finally:
        process.stop()
        database.stop()


def notify(service: NotificationsProcess, id_: str, *, category: str = "late") -> None:
    item = {"user": "7", "id": id_, "title": f"Title of {id_}", "category": category, "at_ms": NOW_MS}
    status, answer = service.request("POST", "/notifications", {"notifications": [item]})
    assert (status, "error" in answer["results"][0]) == (200, False), answer


def rows(service: NotificationsProcess, query: str) -> list[Any]:
    """The first column of a query of its database."""
    with sa.create_engine(service.database_url, poolclass=sa.NullPool).connect() as connection:
        return list(connection.scalars(sa.text(query)))


def titles(server: HookServer) -> list[Any]:
    return sorted(request["notification"]["title"] for request in server.requests_of("notification"))


def test_unseen_notification_reaches_the_webhook_signed(service: NotificationsProcess, backend: HookServer) -> None:
    notify(service, "seen")
    service.request("POST", "/inbox/mark", {"user": "7", "action": "seen", "all": True})
    notify(service, "unseen")
    wait_until(lambda: service.metric("tidings_notifications_deliveries_total") >= 2)
    (request,) = backend.requests
    assert (request["hook"], request["user"]) == ("notification", "7")
    assert request["notification"]["title"] == "Title of unseen"
    assert request["counts"] == {"unseen": 1, "unread": 2}


def test_failed_webhook_is_repeated_and_a_refused_one_is_not(
    service: NotificationsProcess, backend: HookServer
) -> None:
    statuses = [503, 200, 404]

    def answer(handler: Handler, request: dict[str, Any]) -> None:
        respond({}, statuses.pop(0))(handler, request)

    backend.answer = answer
    notify(service, "a")
    wait_until(lambda: len(backend.requests) == 2, within_s=40)
    first, second = backend.requests
    assert first == second
    waits = "a delivery waits for its next attempt (webhook, late): 127.0.0.1: 503"
    wait_until(lambda: waits in service.log.read_text())
    notify(service, "b")
    wait_until(lambda: service.metric("tidings_notifications_deliveries_total") >= 3)
    assert titles(backend) == ["Title of a", "Title of a", "Title of b"]
    wait_until(lambda: "a delivery failed (webhook, late): status 404" in service.log.read_text())


def test_webhook_says_when_it_is_tried_again(service: NotificationsProcess, backend: HookServer) -> None:
    answers = [respond({}, 429, **{"Retry-After": "600"}), respond({})]

    def answer(handler: Handler, request: dict[str, Any]) -> None:
        answers.pop(0)(handler, request)

    backend.answer = answer
    notify(service, "later")
    wait_until(lambda: service.metric("tidings_notifications_deliveries_total") >= 1)
    # The first pause without the header is at most 10 s.
    (due_ms,) = rows(service, "SELECT due_ms FROM tidings_delivery")
    assert due_ms - time.time() * 1000 > 500_000
    notify(service, "now")
    wait_until(lambda: titles(backend) == ["Title of later", "Title of now"])


def test_accepted_webhook_is_not_repeated_whatever_its_response_holds(
    service: NotificationsProcess, backend: HookServer
) -> None:
    backend.answer = respond(b"x" * 100_000)
    notify(service, "a")
    wait_until(lambda: service.metric("tidings_notifications_deliveries_total") >= 1)
    assert rows(service, "SELECT due_ms FROM tidings_delivery") == []
    assert titles(backend) == ["Title of a"]


def test_slow_webhook_delays_no_other(
    service: NotificationsProcess, backend: HookServer, slow_backend: HookServer
) -> None:
    for number in range(10):
        notify(service, f"slow{number}", category="slow")
    wait_until(lambda: len(slow_backend.requests) >= 1)
    notify(service, "b")
    wait_until(lambda: titles(backend) == ["Title of b"])


def test_killed_service_sends_it_after_its_restart(service: NotificationsProcess, backend: HookServer) -> None:
    notify(service, "a")
    service.kill()
    assert backend.requests == []
    service.start()
    wait_until(lambda: titles(backend) == ["Title of a"])
