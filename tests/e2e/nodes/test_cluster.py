"""Two nodes on a Redis Cluster: stock clients switch between them with one cursor for all buckets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from e2e.nodes.test_faults import CHANNELS, Backend, Scene
from support.history import Recorder
from support.network.proxy import Proxy
from support.processes.client import ClientProcess
from support.processes.cluster import ClusterProcess
from support.processes.hub import API_KEY, HubProcess, token
from support.waiting import wait_until
from tidings import Emitter
from tidings.redis_client.buckets import bucket_of
from tidings.redis_client.topology import open_buckets


class ClusterScene(Scene):
    """A cluster, two hubs on it, a proxy in front of one of them, clients, and a backend that publishes."""

    def __init__(self, folder: Path) -> None:
        for name in ("cluster", "hub0", "hub1"):
            (folder / name).mkdir()
        self.cluster = ClusterProcess(folder / "cluster").start()
        url = self.cluster.url()
        self.buckets = open_buckets(url, "tidings:")
        self.hubs = [HubProcess(folder / f"hub{number}", "--broker", url).start() for number in (0, 1)]
        self.hub = self.hubs[0]
        self.proxy = Proxy(self.hub.port, plain=True)
        self.backend_file = folder / "backend.jsonl"
        self.recorder = Recorder(self.backend_file)
        self.backend = Backend(url, self.recorder)
        proxy_url = f"http://127.0.0.1:{self.proxy.port}"
        self.clients = [
            ClientProcess(kind, proxy_url, token=token(f"u-{kind}", "orders:*"), channels=CHANNELS)
            for kind in ("js-websocket", "python-polling", "sse")
        ]
        for client in self.clients:
            client.wait_ready()
        self.backend.start()
        self.wait_published()

    def change_nodes(self, times: int) -> None:
        """Switch all clients to the other node, and wait until they are connected."""
        for _ in range(times):
            ready = [len(client.records_of("ready")) for client in self.clients]
            self.wait_published(20)
            self.hub = self.hubs[self.hub is self.hubs[0]]
            self.proxy.lead_to(self.hub.port)
            for client, before in zip(self.clients, ready, strict=True):
                client.wait_ready(before + 1)
            self.wait_published(20)

    def close(self) -> None:
        self.backend.stop()
        self.backend.close()
        for client in self.clients:
            client.stop()
        self.proxy.close()
        for hub in self.hubs:
            hub.stop()
        self.cluster.stop()
        self.recorder.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[ClusterScene]:
    with closing(ClusterScene(tmp_path)) as new_scene:
        yield new_scene


def test_stock_client_recovers_in_all_buckets(scene: ClusterScene) -> None:
    scene.backend.stop()
    channels = [f"orders:stock-{number}" for number in range(12)]
    assert len({bucket_of(channel, len(scene.buckets)) for channel in channels}) == len(scene.buckets)
    proxy_url = f"http://127.0.0.1:{scene.proxy.port}"
    client = ClientProcess("stock-websocket", proxy_url, token=token("stock", "orders:*"), channels=channels[:6])
    scene.clients.append(client)
    client.wait_ready()
    client.request("tidings:subscribe", {"channels": channels[6:]})
    expected: dict[str, list[int]] = {channel: [] for channel in channels}

    def publish(n: int) -> None:
        for channel in channels:
            scene.hub.publish(channel, "updated", {"n": n})
            expected[channel].append(n)

    publish(0)
    for disconnects in (1, 2):
        client.wait(
            lambda client: len(client.data()) == sum(map(len, expected.values())), why="all publications so far"
        )
        scene.proxy.refuse()
        client.wait(
            lambda client, count=disconnects: len(client.records_of("disconnect")) == count, why="the disconnect"
        )
        publish(disconnects)
        scene.hub = scene.hubs[scene.hub is scene.hubs[0]]
        scene.proxy.lead_to(scene.hub.port)
        scene.proxy.accept_again()
        client.wait_ready(disconnects + 1)
    publish(3)
    client.wait(lambda client: len(client.data()) >= sum(map(len, expected.values())), why="all publications")
    assert {channel: [data["n"] for data in client.data(channel)] for channel in channels} == expected
    assert [item["recovered"] for item in client.records_of("connect")] == [False, True, True]
    assert len({item["id"] for item in client.records_of("connect")}) == 1


def test_publications_are_acknowledged_in_every_bucket(scene: ClusterScene) -> None:
    channels = [f"orders:acked-{number}" for number in range(12)]
    assert len({bucket_of(channel, len(scene.buckets)) for channel in channels}) == len(scene.buckets)
    for hub in scene.hubs:
        client = ClientProcess("stock-websocket", hub.url, token=token("a", "orders:*"), channels=channels, acks=True)
        scene.clients.append(client)
        client.wait_ready()
    with Emitter(scene.cluster.url()) as direct, Emitter(scene.hub.url, api_key=API_KEY) as over_http:
        for emitter in (direct, over_http):
            for receipt in emitter.emit("acked", 1, channels=channels, ack=True):
                report = receipt.wait(acks=2)
                assert (report.recipients, len(report.nodes), report.missing) == (2, 2, ())


def test_clients_survive_node_and_master_changes_under_load(scene: ClusterScene) -> None:
    assert len({bucket_of(channel, len(scene.buckets)) for channel in CHANNELS}) > 1
    scene.change_nodes(3)
    assert scene.is_recovered()
    # Only clients whose library supports recovery resumed their sessions.
    assert sum(hub.metric("tidings_sessions_recovered_total") for hub in scene.hubs) == 3
    # The slot of a bucket moves, so its clients on both nodes receive a gap.
    slot = scene.buckets[bucket_of(CHANNELS[0], len(scene.buckets))].address.slot
    owner = scene.cluster.owner(slot)
    scene.cluster.move(slot, next(item for item in scene.cluster.masters() if item is not owner))
    scene.wait_published()
    wait_until(scene.is_loss_reported, why="the clients receive a gap")
    scene.change_nodes(1)
    # A master is killed, and its replica takes over.
    scene.cluster.owner(scene.buckets[bucket_of(CHANNELS[1], len(scene.buckets))].address.slot).kill()
    scene.wait_published()
    for hub in scene.hubs:
        wait_until(lambda: hub.get("/readyz")[0] == 200, within_s=60, why="the node is ready again")  # noqa: B023
    scene.wait_published()
    scene.change_nodes(1)
    scene.settle()
