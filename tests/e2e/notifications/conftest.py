"""Scenes of the notification service, on databases of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.notification_scene import NotificationScene
from support.processes.database import KINDS, start_database
from support.processes.redis import RedisProcess

MakeScene = Callable[[str], NotificationScene]


@pytest.fixture
def make_scene(tmp_path: Path, redis: RedisProcess) -> Iterator[MakeScene]:
    """Makes a scene on a database of a kind; the hub and the service run."""
    with ExitStack() as stack:

        def make(kind: str) -> NotificationScene:
            database = start_database(kind)
            stack.callback(database.stop)
            scene = NotificationScene(tmp_path, redis, database)
            stack.callback(scene.close)
            return scene.start()

        yield make


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, make_scene: MakeScene) -> NotificationScene:
    """A scene on each database."""
    return make_scene(request.param)


@pytest.fixture
def on_sqlite(make_scene: MakeScene) -> NotificationScene:
    """A scene on SQLite."""
    return make_scene("sqlite")


@pytest.fixture
def on_postgresql(make_scene: MakeScene) -> NotificationScene:
    """A scene on PostgreSQL."""
    return make_scene("postgresql")
