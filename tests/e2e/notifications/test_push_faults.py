"""Accepted, stored once, shown once, counted right, and pushed at most once, whichever process is killed where.

A push is repeated only if the response of the push service was lost. It is never sent after its user has seen it.
"""

from __future__ import annotations

import http.client
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa

from e2e.notifications.test_faults import database_held
from support.network.certificates import Authority
from support.network.push_service import Answer, PushService
from support.processes.database import start_database
from support.processes.outbox import OutboxProcess
from support.processes.redis import RedisProcess
from support.push_scene import USER, PushScene
from support.waiting import wait_until
from tidings.contrib.outbox import Outbox, outbox_table

MakeScene = Callable[[str], PushScene]


@pytest.fixture
def make_scene(tmp_path: Path, redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeScene]:
    authority = Authority.make(tmp_path / "authority")
    # The variable of OpenSSL: the service trusts what the system trusts.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with ExitStack() as stack:

        def make(kind: str) -> PushScene:
            push_service = stack.enter_context(PushService(authority))
            database = start_database(kind)
            stack.callback(database.stop)
            scene = PushScene(tmp_path, redis, database, push_service)
            stack.callback(scene.close)
            return scene.start()

        yield make


@pytest.fixture
def scene(make_scene: MakeScene) -> PushScene:
    return make_scene("sqlite")


@pytest.fixture
def on_postgresql(make_scene: MakeScene) -> PushScene:
    return make_scene("postgresql")


def test_service_killed_before_commit_and_before_the_push_pushes_once(scene: PushScene) -> None:
    with database_held(scene):
        scene.notify(USER, "a", category="at_once")
        wait_until(scene.pending, why="the service has read it")
        scene.service.kill()
    assert (scene.rows(), scene.pushes()) == ({}, {})
    scene.service.start()
    scene.check(["a"])
    scene.notify(USER, "b", category="later")
    wait_until(lambda: "b" in scene.rows(), why="the commit")
    scene.service.kill()
    assert (scene.pushes().get("Title of b"), scene.deliveries()) == (None, 1)
    scene.make_due()
    scene.service.start()
    scene.check(["a", "b"])


def test_killed_sender_repeats_only_the_push_whose_response_was_lost(scene: PushScene) -> None:
    scene.notify(USER, "answered", category="at_once")
    scene.check(["answered"])
    event = scene.push_service.event()
    scene.push_service.answer = lambda _path: Answer(until=event)
    scene.notify(USER, "lost", category="at_once")
    wait_until(lambda: "Title of lost" in scene.pushes(), why="the push")
    scene.service.kill()
    scene.push_service.release(event)
    scene.push_service.answer = lambda _path: Answer()
    scene.make_due()
    scene.service.start()
    scene.check(["answered", "lost"], pushed={"answered": 1, "lost": 2})
    first, second = (message for message in scene.push_service.messages() if message["title"] == "Title of lost")
    # The browser replaces the first one by the second.
    assert first["id"] == second["id"]


def test_what_was_seen_is_not_pushed_by_the_service_after_a_killed_one(scene: PushScene) -> None:
    scene.notify(USER, "seen", category="later")
    wait_until(lambda: "seen" in scene.rows(), why="the commit")
    scene.see_all()
    scene.service.kill()
    scene.make_due()
    scene.push_service.answer = lambda _path: Answer(status=503, headers={"Retry-After": "600"})
    scene.service.start()
    scene.notify(USER, "seen_after_a_failure", category="at_once")
    wait_until(lambda: scene.service.metric("tidings_notifications_deliveries_total") >= 2, why="both have ended")
    scene.see_all()
    scene.service.kill()
    scene.push_service.answer = lambda _path: Answer()
    scene.make_due()
    scene.service.start()
    scene.notify(USER, "unseen", category="at_once")
    pushed = {"seen": 0, "seen_after_a_failure": 1, "unseen": 1}
    scene.check(list(pushed), pushed=pushed)


def test_database_killed_while_a_push_is_answered_repeats_nothing(on_postgresql: PushScene) -> None:
    scene = on_postgresql
    event = scene.push_service.event()
    scene.push_service.answer = lambda _path: Answer(until=event)
    scene.notify(USER, "a", category="at_once")
    wait_until(lambda: "Title of a" in scene.pushes(), why="the push")
    scene.wait_idle()
    scene.database.kill()
    scene.push_service.release(event)
    scene.notify(USER, "b", category="at_once")
    wait_until(lambda: scene.service.request("GET", "/readyz")[0] == 503, why="the service notices it")
    scene.database.start()
    scene.check(["a", "b"])


def test_redis_killed_between_commit_and_event_pushes_and_shows_once(scene: PushScene) -> None:
    with database_held(scene):
        scene.notify(USER, "a", category="at_once")
        wait_until(scene.pending, why="the service has read it")
        file = scene.redis.save()
        scene.redis.kill()
    wait_until(lambda: scene.pushes() == {"Title of a": 1}, why="the push does without Redis")
    assert scene.page.records_of("notification") == []
    scene.redis.replace_file(file)
    scene.redis.start()
    # Another Redis has another history: the page receives a gap.
    scene.check(["a"], after_gap=True)


def test_node_killed_before_the_event_shows_once_to_the_page_that_returns(scene: PushScene) -> None:
    scene.hub.kill()
    scene.notify(USER, "a", category="at_once")
    wait_until(lambda: scene.pushes() == {"Title of a": 1}, why="the push does without a node")
    scene.hub.start()
    scene.page.wait_ready(2)
    scene.check(["a"])


def test_node_killed_during_a_request_stores_and_pushes_what_is_repeated_once(scene: PushScene) -> None:
    item = {"category": "at_once", "user": USER, "title": "Title of a", "id": "a"}
    failures: list[Exception] = []

    def request() -> None:
        try:
            scene.hub.request("POST", "/api/notifications", item)
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    with database_held(scene):
        caller = threading.Thread(target=request)
        caller.start()
        wait_until(lambda: scene.hub.metric("tidings_notification_requests_active") == 1, why="the request")
        scene.hub.kill()
        caller.join(20)
    assert len(failures) == 1
    wait_until(lambda: scene.rows() == {"a": 1}, why="the commit")
    scene.hub.start()
    scene.page.wait_ready(2)
    wait_until(lambda: scene.hub.request("POST", "/api/notifications", item)[0] == 200, why="the repetition")
    scene.check(["a"])


def test_outbox_relay_killed_before_it_notes_what_redis_has_pushes_once(scene: PushScene, tmp_path: Path) -> None:
    engine = scene.database.engine()
    metadata = sa.MetaData()
    outbox_table(metadata, name="shop_outbox")
    metadata.create_all(engine)
    with engine.begin() as connection:
        Outbox(connection, table="shop_outbox").notify("at_once", user=USER, title="Title of a", id="a")
    arguments = [scene.database.url, "--config", str(scene.hub.config), "--table", "shop_outbox"]
    killed = OutboxProcess(tmp_path, *arguments, killed_when="deleted")
    scene.stack.callback(killed.stop)
    assert killed.wait() == -signal.SIGKILL
    scene.check(["a"])
    relay = OutboxProcess(tmp_path, *arguments)
    scene.stack.callback(relay.stop)

    def is_empty() -> bool:
        with engine.connect() as connection:
            return not connection.scalar(sa.text("SELECT count(*) FROM shop_outbox"))

    wait_until(is_empty, why=lambda: f"the relay: {relay.log_lines[-3:]}")
    scene.check(["a"])
