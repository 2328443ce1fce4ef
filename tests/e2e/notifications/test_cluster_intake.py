"""The service on a Redis Cluster: one stream in each bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.notification_scene import NotificationScene
from support.processes.cluster import ClusterProcess
from support.processes.database import Database, start_database
from tidings.redis_client.topology import open_buckets

USERS = [str(number) for number in range(24)]


class ClusterScene(NotificationScene):
    """A scene on a cluster. `cluster` runs; the scene does not stop it."""

    def __init__(self, folder: Path, cluster: ClusterProcess, database: Database) -> None:
        super().__init__(folder, cluster.nodes[0], database, broker_url=cluster.url())
        self._cluster = cluster

    def lengths(self) -> list[int]:
        """Entries of each bucket's stream that are not removed."""
        counts = []
        for bucket in open_buckets(self._cluster.url(), self.prefix):
            with self._cluster.client(bucket.address.slot) as client:
                counts.append(int(client.xlen(bucket.keys.notifications)))
        return counts

    def waiting(self) -> int:
        """See `NotificationScene`."""
        return sum(self.lengths())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[ClusterScene]:
    with ExitStack() as stack:
        (tmp_path / "cluster").mkdir()
        cluster = ClusterProcess(tmp_path / "cluster", replicas=False)
        stack.callback(cluster.stop)
        cluster.start()
        database = start_database("sqlite")
        stack.callback(database.stop)
        scene = ClusterScene(tmp_path, cluster, database)
        stack.callback(scene.close)
        scene.start()
        yield scene


def test_notifications_of_all_buckets_are_stored_once_and_reach_their_users(scene: ClusterScene) -> None:
    clients = {user: scene.client(user) for user in USERS[:4]}
    for user in USERS:
        scene.notify(user, f"first-{user}")
    scene.wait_idle()
    scene.service.terminate()
    for user in USERS:
        scene.notify(user, f"second-{user}")
    # They wait in every bucket.
    assert all(scene.lengths()), scene.lengths()
    scene.service.start()
    scene.wait_idle()
    scene.check_stored([f"{name}-{user}" for name in ("first", "second") for user in USERS])
    for user, client in clients.items():
        scene.check_received(client, [f"first-{user}", f"second-{user}"])
