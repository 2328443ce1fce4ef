"""Each accepted notification is stored once and shown once, whichever process is killed at whichever step."""

from __future__ import annotations

import random
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from support.notification_scene import NotificationScene
from support.waiting import wait_until
from tidings.errors import HubError


class Sender:
    """Notifies a user through Redis, in a thread, until it is stopped. `ids`: those that were accepted."""

    def __init__(self, scene: NotificationScene, user: str, *, pause_s: float = 0.005) -> None:
        self._scene = scene
        self._user = user
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self.ids: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause_s):
            id_ = secrets.token_hex(6)
            try:
                self._scene.notify(self._user, id_)
            except HubError:
                # Redis was restarted: the caller tries again with the same id.
                self._repeat(id_)
            self.ids.append(id_)

    def _repeat(self, id_: str) -> None:
        while True:
            try:
                return self._scene.notify(self._user, id_)
            except HubError:
                time.sleep(0.05)

    def stop(self) -> list[str]:
        """Stop, and return the accepted ids."""
        self._stopped.set()
        self._thread.join(40)
        return self.ids


@contextmanager
def database_held(scene: NotificationScene) -> Iterator[None]:
    """Hold the lock that each transaction of the service needs."""
    lock, release = {
        "sqlite": ("BEGIN IMMEDIATE", "ROLLBACK"),
        "postgresql": ("LOCK TABLE tidings_inbox IN EXCLUSIVE MODE", "ROLLBACK"),
        "mariadb": ("LOCK TABLES tidings_inbox WRITE", "UNLOCK TABLES"),
    }[scene.database.kind]
    with scene.database.engine().connect() as connection:
        connection.exec_driver_sql(lock)
        yield
        connection.exec_driver_sql(release)


def test_notification_is_stored_and_reaches_the_connected_user_with_counts(scene: NotificationScene) -> None:
    client, other = scene.client("7"), scene.client("8")
    ids = [f"order-{number}" for number in range(20)]
    for id_ in ids:
        scene.notify("7", id_)
    scene.notify("7", ids[0])
    scene.wait_idle()
    scene.check_stored(ids)
    scene.check_received(client, ids)
    assert other.records_of("notification") == []
    assert scene.service.metric("tidings_notifications_duplicates_total") == 1


def test_service_killed_between_read_and_commit_loses_nothing(scene: NotificationScene) -> None:
    client = scene.client("7")
    with database_held(scene):
        scene.notify("7", "a")
        wait_until(scene.pending, why="the service has read it")
        scene.service.kill()
    assert scene.rows() == {}
    scene.service.start()
    scene.wait_idle()
    scene.check_stored(["a"])
    scene.check_received(client, ["a"])


def test_service_killed_between_commit_and_publish_and_acknowledgement_publishes_once(
    scene: NotificationScene,
) -> None:
    client = scene.client("7")
    with database_held(scene):
        scene.notify("7", "a")
        wait_until(scene.pending, why="the service has read it")
        # Redis answers neither the relay nor the acknowledgement.
        scene.redis.pause()
    wait_until(lambda: scene.rows() == {"a": 1}, why="the commit")
    scene.service.kill()
    # What the killed service had sent already still arrives, but nothing received an answer.
    scene.redis.resume()
    assert scene.events() == 1
    scene.service.start()
    scene.wait_idle()
    scene.check_stored(["a"])
    scene.check_received(client, ["a"])


def test_service_killed_at_random_moments_stores_and_publishes_each_once(scene: NotificationScene) -> None:
    client = scene.client("7")
    sender = Sender(scene, "7")
    for _ in range(4):
        time.sleep(random.uniform(0.0, 0.4))
        scene.service.kill()
        scene.service.start()
    ids = sender.stop()
    scene.wait_idle()
    assert len(ids) > 20
    scene.check_stored(ids)
    scene.check_received(client, ids)


def test_service_that_is_terminated_while_busy_loses_nothing(scene: NotificationScene) -> None:
    client = scene.client("7")
    sender = Sender(scene, "7", pause_s=0.001)
    for _ in range(3):
        time.sleep(0.3)
        assert scene.service.terminate() == 0, scene.service.log.read_text()[-2000:]
        # The events of what it stored are published before it ends.
        assert scene.events() == 0
        scene.service.start()
    ids = sender.stop()
    scene.wait_idle()
    scene.check_stored(ids)
    scene.check_received(client, ids)


def test_database_restarts_while_the_service_is_busy(on_postgresql: NotificationScene) -> None:
    scene = on_postgresql
    client = scene.client("7")
    sender = Sender(scene, "7")
    for _ in range(3):
        time.sleep(0.3)
        scene.database.kill()
        time.sleep(0.5)
        scene.database.start()
    ids = sender.stop()
    scene.wait_idle()
    scene.check_stored(ids)
    scene.check_received(client, ids)
    wait_until(scene.service.is_ready, why="the service is ready again")


def test_service_whose_database_only_answers_reads_is_not_ready(on_postgresql: NotificationScene) -> None:
    """As a replica after a fail-over, or a database that its operator has set to read-only."""
    scene = on_postgresql
    with scene.database.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for value, is_ready in (("on", False), ("off", True)):
            connection.exec_driver_sql(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
            wait_until(
                lambda is_ready=is_ready: scene.service.is_ready() == is_ready,
                why=f"the service is ready: {is_ready}, with read-only {value}",
            )
    scene.notify("7", "after")
    scene.wait_idle()
    scene.check_stored(["after"])


def test_redis_restarts_with_its_data(scene: NotificationScene) -> None:
    with database_held(scene):
        scene.notify("7", "a")
        wait_until(scene.pending, why="the service has read it")
        scene.redis.restart(scene.redis.save())
    scene.wait_idle()
    scene.check_stored(["a"])


def test_redis_restarts_empty_and_is_used_again(on_sqlite: NotificationScene) -> None:
    scene = on_sqlite
    scene.notify("7", "a")
    scene.wait_idle()
    scene.redis.restart(None)
    wait_until(scene.service.is_ready, why="the service is connected again")
    wait_until(lambda: scene.hub.get("/readyz")[0] == 200, why="the hub is connected again")
    client = scene.client("7")
    scene.notify("7", "b")
    scene.wait_idle()
    scene.check_stored(["a", "b"])
    client.wait(lambda self: self.records_of("notification"), why="the event")


def test_stopped_service_disturbs_no_publication_and_its_notifications_wait(on_sqlite: NotificationScene) -> None:
    scene = on_sqlite
    client = scene.client("7")
    scene.service.signal(signal.SIGSTOP)
    scene.notify("7", "a")
    started_s = time.monotonic()
    for number in range(50):
        scene.emitter.emit("n", number, user="7")
    assert time.monotonic() - started_s < 10
    client.wait(lambda self: len(self.data("user:7")) == 50, why="all publications")
    assert client.records_of("notification") == []
    scene.service.kill()
    scene.notify("7", "b")
    scene.service.start()
    scene.wait_idle()
    scene.check_stored(["a", "b"])
    scene.check_received(client, ["a", "b"])


def test_service_takes_over_what_a_killed_one_had_read(on_postgresql: NotificationScene) -> None:
    scene = on_postgresql
    client = scene.client("7")
    with database_held(scene):
        scene.notify("7", "a")
        wait_until(scene.pending, why="the service has read it")
        # It cannot store while the lock is held, so it is not ready.
        other = scene.new_service().start(ready=False)
        scene.service.kill()
        # Behind the one that the killed service has read.
        scene.notify("7", "b")
    scene.wait_idle()
    scene.check_stored(["a", "b"])
    assert other.metric("tidings_notifications_claimed_total") == 1
    client.wait(lambda self: len(self.records_of("notification")) == 2, why="both events")
