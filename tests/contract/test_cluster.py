"""A Redis Cluster fulfils the contracts of brokers and publishers, and the hub repairs or reports every loss in it.

The faults record a history. The checker verifies for every channel that no acknowledged publication is missing at the
sink without `lost`, that none arrived twice, and that the order is right.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from contract.broker_contract import LIMITS, BrokerContract, Keep, Make, Node, outgoing
from contract.doubts.doubted_ranges import check_doubted_ranges
from contract.presence_contract import Node as InPresence
from contract.presence_contract import PresenceContract
from contract.publisher_contract import (
    TIMEOUT_S,
    HubPublisherContract,
    NotifierContract,
    PublishingNotifier,
    Received,
    StoredIds,
    receipts,
)
from contract.test_publisher_contract import BlockingPublisher
from support.history import Listener, Recorder, check
from support.ports import free_port
from support.processes.cluster import ClusterProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.async_emitter import AsyncEmitter
from tidings.emitter import Emitter
from tidings.errors import BadConfig, TidingsError, Unavailable
from tidings.publishers import open_async_publisher, open_publisher
from tidings.publishers.base import Publisher
from tidings.publishers.redis.cluster import AsyncClusterPublisher, ClusterPublisher
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.receipts import Receipt
from tidings.redis_client.buckets import bucket_of, slot_of
from tidings.redis_client.keys import STREAM_MAX_FIELD
from tidings.redis_client.topology import Bucket, open_buckets
from tidings.wire.control import Command, disconnect
from tidings.wire.cursor import Cursor
from tidings.wire.notification import Notification, decode
from tidings.wire.presence import PresenceChange
from tidings_hub.brokers.base import Broker, BrokerLimits
from tidings_hub.brokers.cluster import ClusterBroker
from tidings_hub.brokers.doubts.doubt_script import doubt_script, pack_doubts
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.core.recovery import Gap, missed_since
from tidings_hub.metrics import Metrics

# One channel of each of four buckets, by CRC-32.
SPREAD = ("orders:1", "orders:5", "orders:2", "orders:4")
# Enough that nothing is trimmed while a test runs.
LONG = {"orders": Keep(1_000_000, 3600)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcess]:
    """One cluster for all tests of this file. Each test leaves it complete."""
    created = ClusterProcess(tmp_path_factory.mktemp("cluster"))
    try:
        created.start()
        # Replicas take over where a test wants it, not whenever the machine was busy for two seconds.
        created.configure("cluster-replica-no-failover", "yes")
        yield created
    finally:
        created.stop()


class TestPresence(PresenceContract):
    one_bucket = False

    @pytest.fixture
    def make(self, cluster: ClusterProcess, prefix: str) -> Iterator[Callable[[], Broker]]:
        created: list[Broker] = []

        def make() -> Broker:
            created.append(ClusterBroker(cluster.url(), prefix=prefix, limits=LIMITS))
            return created[-1]

        yield make
        for broker in created:
            broker.stop()

    def test_rooms_of_all_buckets_and_emitters(self, broker: Broker, cluster: ClusterProcess, prefix: str) -> None:
        node, rooms = InPresence(broker, "a"), [f"room:{number}" for number in range(12)]
        assert node.update(*(PresenceChange(room, "7", b'{"n":1}') for room in rooms)).joined == len(rooms)
        assert len(set(node.epochs)) == len(SPREAD)
        with Emitter(cluster.url(), prefix=prefix) as emitter:
            assert [emitter.presence(room).members for room in rooms] == [{"7": {"n": 1}}] * len(rooms)
        assert node.update(*(PresenceChange(room, "7", None) for room in rooms)).left == len(rooms)

        async def query_rooms() -> object:
            async with AsyncEmitter(cluster.url(), prefix=prefix) as emitter:
                return [(await emitter.presence(room)).members for room in rooms]

        assert asyncio.run(query_rooms()) == [{}] * len(rooms)


class TestBroker(BrokerContract):
    neighbours = ("orders:1", "orders:3")

    @pytest.fixture
    def make(self, cluster: ClusterProcess, prefix: str) -> Make:
        def new_broker(limits: BrokerLimits) -> Broker:
            return ClusterBroker(cluster.url(), prefix=prefix, limits=limits)

        return new_broker

    def test_a_cursor_has_a_place_in_every_bucket(self, node: Node) -> None:
        node.subscribe(*SPREAD)
        places = {}
        for channel in (*SPREAD, *SPREAD):
            place = Cursor.parse(node.publish(channel).cursor)
            places[place.epoch] = place.seq
            node.broker.read_since(SPREAD, None, limit=1)
            cursor = Cursor.parse(node.sink.publications[-1].cursor)
            assert (cursor.epoch, cursor.seq) == (place.epoch, place.seq)
            assert {epoch: cursor.seq_in(epoch) for epoch in places} == places
        assert len(places) == len(SPREAD)
        assert node.broker.position is not None
        assert {epoch: node.broker.position.seq_in(epoch) for epoch in places} == places

    def test_one_cursor_resumes_every_bucket(self, node: Node) -> None:
        node.subscribe(*SPREAD)
        for channel in SPREAD:
            node.publish(channel)
        node.broker.read_since(SPREAD, None, limit=1)
        since = Cursor.parse(node.sink.publications[-1].cursor)
        expected = {channel: [node.publish(channel).id for _ in range(3)] for channel in SPREAD}
        past = node.broker.read_since(SPREAD, since, limit=10)
        for channel in SPREAD:
            missed = missed_since(since, past.position, past.channels[channel], limit=10)
            assert not isinstance(missed, Gap)
            assert [item.id for item in missed] == expected[channel]
        # A position in one bucket does not cover the others.
        alone = Cursor(since.epoch, since.seq)
        results = [missed_since(alone, past.position, past.channels[channel], limit=10) for channel in SPREAD]
        assert sum(not isinstance(missed, Gap) for missed in results) == 1

    def test_doubt_reaches_the_node_before_the_next_publication_of_its_bucket(
        self, node: Node, cluster: ClusterProcess, prefix: str
    ) -> None:
        node.subscribe(*SPREAD)
        buckets = open_buckets(cluster.url(), prefix)
        for channel in SPREAD:
            bucket = buckets[bucket_of(channel, len(buckets))]
            doubted = Cursor.parse(node.publish(channel).cursor)
            packed = pack_doubts(bucket.keys, doubted.epoch, {channel: doubted.seq}, LIMITS)
            commands = RedisCommands(bucket.address, timeout_s=10.0, metrics=Metrics())
            commands.run_checked(packed, 1, (doubt_script(),))
            commands.close()
            later = node.publish(channel).id
            wait_until(lambda: later in node.sink.ids(channel), why="a later publication")  # noqa: B023 - called at once
            assert node.sink.doubts[-1:] == [(channel, doubted.seq, doubted.seq)]

    def test_only_doubted_cursors_are_not_recovered(self, node: Node, cluster: ClusterProcess, prefix: str) -> None:
        buckets = open_buckets(cluster.url(), prefix)
        for channel in SPREAD:
            bucket = buckets[bucket_of(channel, len(buckets))]
            node.sink.doubts.clear()
            node.subscribe(channel)
            check_doubted_ranges(node, channel, bucket.address, bucket.keys)

    def test_revocations_are_stored_in_every_bucket_and_read_from_any(
        self, node: Node, cluster: ClusterProcess, prefix: str
    ) -> None:
        end_s, later_s = time.time() + 100, time.time() + 200
        buckets = open_buckets(cluster.url(), prefix)

        def stored() -> list[dict[str, float]]:
            entries = []
            for bucket in buckets:
                with cluster.client(bucket.address.slot) as client:
                    fields = client.hgetall(bucket.keys.revoked)
                entries.append({name.decode(): float(end) for name, end in fields.items()})
            return entries

        wait_until(lambda: node.broker.state().connected, why="every bucket is connected")
        node.broker.write_revocations({"user:7": end_s})
        node.broker.run_command(Command("revoke", {"jti": "x", "until_s": end_s}), timeout_s=0.3)
        expected = {"user:7": end_s, "jti:x": end_s}
        assert stored() == [expected] * len(buckets)
        # A bucket that was away, and one that an earlier version of a hub wrote to.
        with cluster.client(buckets[2].address.slot) as client:
            client.delete(buckets[2].keys.revoked)
        with cluster.client(buckets[0].address.slot) as client:
            client.hset(buckets[0].keys.revoked, "user:7", repr(later_s))
        expected["user:7"] = later_s
        assert node.broker.revocations() == expected
        assert stored() == [expected] * len(buckets)

    @pytest.mark.parametrize("kind", [ClusterPublisher, AsyncClusterPublisher])
    def test_emitter_stores_a_revocation_in_every_bucket(
        self, node: Node, cluster: ClusterProcess, prefix: str, kind: type[ClusterPublisher | AsyncClusterPublisher]
    ) -> None:
        wait_until(lambda: node.broker.state().connected, why="every bucket is connected")
        order = Command("revoke", {"user": "7", "until_s": time.time() + 100})
        publisher = kind(cluster.url(), prefix=prefix)
        if isinstance(publisher, ClusterPublisher):
            publisher.send_command(order, timeout_s=0.3)
            publisher.close()
        else:
            asyncio.run(send_and_close(publisher, order))
        for bucket in open_buckets(cluster.url(), prefix):
            with cluster.client(bucket.address.slot) as client:
                assert client.hkeys(bucket.keys.revoked) == [b"user:7"]

    def test_backend_reads_history_from_any_cursor_and_sends_commands(
        self, node: Node, cluster: ClusterProcess, prefix: str
    ) -> None:
        node.subscribe(*SPREAD)
        for channel in SPREAD:
            node.publish(channel)
        node.broker.read_since(SPREAD, None, limit=1)
        since = Cursor.parse(node.sink.publications[-1].cursor)
        later = {channel: [node.publish(channel).id] for channel in SPREAD}
        order = disconnect(user="7", connection=None)

        async def in_asyncio() -> tuple[dict[str, list[object]], int]:
            publisher = AsyncClusterPublisher(cluster.url(), prefix=prefix)
            pages = {item: await publisher.history(item, since=since, limit=9, timeout_s=TIMEOUT_S) for item in SPREAD}
            assert await publisher.nodes(timeout_s=TIMEOUT_S) == []
            result = await publisher.send_command(order, timeout_s=0.3)
            await publisher.close()
            return {
                item: [publication["id"] for publication in page.publications] for item, page in pages.items()
            }, result.nodes

        # No hub replies here, but the node receives the command.
        assert asyncio.run(in_asyncio()) == (later, 0)
        publisher = ClusterPublisher(cluster.url(), prefix=prefix)
        pages = {item: publisher.history(item, since=since, limit=9, timeout_s=TIMEOUT_S) for item in SPREAD}
        assert {item: [publication["id"] for publication in page.publications] for item, page in pages.items()} == later
        assert publisher.nodes(timeout_s=TIMEOUT_S) == []
        assert publisher.send_command(order, timeout_s=0.3).nodes == 0
        publisher.close()
        wait_until(
            lambda: [item["do"] for item in node.sink.controls] == ["disconnect"] * 2, why="both commands were received"
        )


async def send_and_close(publisher: AsyncClusterPublisher, order: Command) -> None:
    await publisher.send_command(order, timeout_s=0.3)
    await publisher.close()


class InCluster(HubPublisherContract):
    @pytest.fixture
    def stored_ids(self, cluster: ClusterProcess, prefix: str) -> StoredIds:
        buckets = open_buckets(cluster.url(), prefix)
        put_rules(cluster, buckets)

        def stored_ids(channel: str) -> list[str]:
            bucket = buckets[bucket_of(channel, len(buckets))]
            with cluster.client(bucket.address.slot) as client:
                entries = client.xrange(bucket.keys.stream(channel))
            return [entry[b"m"].split(b" ")[4].decode() for _, entry in entries]

        return stored_ids


class TestPublisher(InCluster):
    @pytest.fixture
    def publisher(self, cluster: ClusterProcess, prefix: str, stored_ids: StoredIds) -> Iterator[Publisher]:
        publisher = open_publisher(cluster.url(), prefix=prefix)
        assert isinstance(publisher, ClusterPublisher)
        yield publisher
        publisher.close()


class TestAsyncPublisher(InCluster):
    @pytest.fixture
    def publisher(self, cluster: ClusterProcess, prefix: str, stored_ids: StoredIds) -> Iterator[Publisher]:
        publisher = BlockingPublisher(lambda: open_async_publisher(cluster.url(), prefix=prefix))
        yield publisher
        publisher.end()


class NotificationsInCluster(NotifierContract):
    @pytest.fixture
    def received(self, cluster: ClusterProcess, prefix: str) -> Received:
        buckets = open_buckets(cluster.url(), prefix)
        for bucket in buckets:
            with cluster.client(bucket.address.slot) as client:
                client.hset(bucket.keys.categories, mapping={STREAM_MAX_FIELD: b"10000", b"order_shipped": b"1"})

        def received(user: str) -> list[Notification]:
            """The notifications of a user: all of them in the bucket of the user's own channel."""
            bucket = buckets[bucket_of(f"user:{user}", len(buckets))]
            with cluster.client(bucket.address.slot) as client:
                entries = client.xrange(bucket.keys.notifications)
            return [item for item in (decode(entry[b"n"]) for _, entry in entries) if item.user == user]

        return received


class TestNotifications(NotificationsInCluster):
    @pytest.fixture
    def publisher(self, cluster: ClusterProcess, prefix: str, received: Received) -> Iterator[PublishingNotifier]:
        publisher = ClusterPublisher(cluster.url(), prefix=prefix)
        yield publisher
        publisher.close()


class TestAsyncNotifications(NotificationsInCluster):
    @pytest.fixture
    def publisher(self, cluster: ClusterProcess, prefix: str, received: Received) -> Iterator[PublishingNotifier]:
        publisher = BlockingPublisher(lambda: open_async_publisher(cluster.url(), prefix=prefix))
        yield publisher
        publisher.end()


def put_rules(cluster: ClusterProcess, buckets: list[Bucket]) -> None:
    for bucket in buckets:
        with cluster.client(bucket.address.slot) as client:
            client.hset(bucket.keys.rules, "orders", "100 3600")


@pytest.fixture(params=["threads", "asyncio"])
def open_kind(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], Publisher]]:
    """Opens blocking and asyncio publishers."""
    opened: list[Publisher] = []

    def open_(url: str, prefix: str) -> Publisher:
        threads = request.param == "threads"
        opened.append(
            ClusterPublisher(url, prefix=prefix) if threads else BlockingPublisher(lambda: new_publisher(url, prefix))
        )
        return opened[-1]

    def new_publisher(url: str, prefix: str) -> AsyncClusterPublisher:
        return AsyncClusterPublisher(url, prefix=prefix)

    yield open_
    for item in opened:
        item.end() if isinstance(item, BlockingPublisher) else item.close()


Open = Callable[[str, str], Publisher]


class TestClusterPublishers:
    def test_wrong_number_of_buckets_is_rejected(self, cluster: ClusterProcess, prefix: str, open_kind: Open) -> None:
        put_rules(cluster, open_buckets(cluster.url(4), prefix))
        publisher = open_kind(cluster.url(2), prefix)

        def error_text() -> str:
            (answer,) = publisher.publish([outgoing("orders:1")], timeout_s=1.0)
            assert isinstance(answer, TidingsError)
            return str(answer)

        # On a slow machine the first answer may be that it cannot be reached.
        wait_until(lambda: "buckets" in error_text(), why="the error names the cause")

    def test_publishers_follow_a_moved_slot(self, cluster: ClusterProcess, prefix: str, open_kind: Open) -> None:
        buckets = open_buckets(cluster.url(), prefix)
        put_rules(cluster, buckets)
        publisher = open_kind(cluster.url(), prefix)
        receipts(publisher.publish([outgoing(channel) for channel in SPREAD], timeout_s=TIMEOUT_S))
        slot = buckets[0].address.slot
        home = cluster.owner(slot)
        for target in (next(item for item in cluster.masters() if item is not home), home):
            cluster.move(slot, target)
            receipts(publisher.publish([outgoing(channel) for channel in SPREAD], timeout_s=TIMEOUT_S))

    def test_suspended_master_fails_only_its_own_items(
        self, cluster: ClusterProcess, prefix: str, open_kind: Open
    ) -> None:
        buckets = open_buckets(cluster.url(), prefix)
        put_rules(cluster, buckets)
        publisher = open_kind(cluster.url(), prefix)
        receipts(publisher.publish([outgoing(channel) for channel in SPREAD], timeout_s=TIMEOUT_S))
        owners = [cluster.owner(bucket.address.slot) for bucket in buckets]
        hanging = owners[0]
        hanging.pause()
        try:
            answers = publisher.publish([outgoing(channel) for channel in SPREAD], timeout_s=2.0)
        finally:
            hanging.resume()
        wait_until(cluster.is_complete, within_s=60)
        mine = [channel for channel in SPREAD if owners[bucket_of(channel, 4)] is hanging]
        assert 0 < len(mine) < len(SPREAD)
        failed = [channel for channel, answer in zip(SPREAD, answers, strict=True) if not isinstance(answer, Receipt)]
        assert failed == mine

    def test_cluster_url_of_a_single_redis_is_unavailable(
        self, shared_redis: RedisProcess, prefix: str, open_kind: Open
    ) -> None:
        url = f"redis+cluster://:hunter2secret@127.0.0.1:{shared_redis.port}"
        (answer,) = open_kind(url, prefix).publish([outgoing("orders:1")], timeout_s=0.3)
        assert isinstance(answer, Unavailable)
        assert "hunter2secret" not in str(answer)

    def test_plain_url_of_a_cluster_node_is_an_error_that_names_the_scheme(
        self, cluster: ClusterProcess, prefix: str
    ) -> None:
        owner = cluster.owner(slot_of("0"))
        publisher = RedisPublisher(next(item for item in cluster.masters() if item is not owner).url, prefix=prefix)

        def error_text() -> str:
            (answer,) = publisher.publish([outgoing("orders:1")], timeout_s=1.0)
            assert isinstance(answer, TidingsError)
            return str(answer)

        wait_until(lambda: "redis+cluster://" in error_text(), why="the error names the cause")
        publisher.close()

    def test_publish_without_a_listener(self, prefix: str, open_kind: Open) -> None:
        url = f"redis+cluster://user:hunter2secret@127.0.0.1:{free_port()}"
        (answer,) = open_kind(url, prefix).publish([outgoing("orders:1")], timeout_s=0.3)
        assert type(answer) is Unavailable
        assert "hunter2secret" not in str(answer)

    @pytest.mark.parametrize(
        "url",
        [
            *(
                "redis+cluster://",
                "redis+cluster://h:x",
                "redis+cluster://h/1",
                "redis+cluster://:pwsecret@h?buckets=0",
            ),
            *("redis+cluster://h?buckets=17", "redis+cluster://h?buckets=x", "redis://h", "rediss+cluster:///"),
        ],
    )
    def test_a_malformed_url_is_refused_without_repeating_it(self, url: str) -> None:
        with pytest.raises(BadConfig) as caught:
            open_buckets(url, "tidings:")
        assert "pwsecret" not in str(caught.value)


class Scene:
    """A node on the cluster and backends that publish into all buckets without pause."""

    def __init__(self, cluster: ClusterProcess, prefix: str, path: Path, *, limits: BrokerLimits = LIMITS) -> None:
        self.cluster = cluster
        self.recorder = Recorder(path)
        self.metrics = Metrics()
        self.url, self.prefix = cluster.url(), prefix
        self.buckets = open_buckets(self.url, prefix)
        self.node = Node(
            ClusterBroker(self.url, prefix=prefix, limits=limits, metrics=self.metrics), Listener(self.recorder)
        )
        self.node.broker.write_rules(LONG)
        self.node.broker.start(self.node.sink)
        self._done = threading.Event()
        self._backends: list[threading.Thread] = []
        self.connected()

    def connected(self) -> None:
        wait_until(lambda: self.node.broker.state().connected, within_s=60, why="the node reaches every bucket")

    def keep_publishing(self) -> None:
        """Run one backend per channel. A failed publish is retried with the same id, as a backend would."""
        for channel in SPREAD:
            self._backends.append(threading.Thread(target=self._publish, args=(channel,)))
            self._backends[-1].start()

    def _publish(self, channel: str) -> None:
        publisher = ClusterPublisher(self.url, prefix=self.prefix)
        for number in itertools.count():
            if self._done.is_set():
                break
            item = outgoing(channel, id=f"{channel[-1]}-{number}", idempotency_s=300)
            self.recorder.note("backend", "sending", channel, id=item.id)
            (answer,) = publisher.publish([item], timeout_s=1.0)
            while not isinstance(answer, Receipt) and not self._done.is_set():
                (answer,) = publisher.publish([item], timeout_s=1.0)
            self.recorder.acked("backend", channel, item.id, answer)
            time.sleep(0.003)
        publisher.close()

    def flow(self, count: int = 10) -> None:
        """Wait until each channel has received `count` more publications."""
        before = {channel: len(self.node.sink.ids(channel)) for channel in SPREAD}
        wait_until(
            lambda: all(len(self.node.sink.ids(channel)) >= number + count for channel, number in before.items()),
            within_s=60,
            why="publications arrive in every channel",
        )

    def flow_once(self) -> None:
        """Publish once in each channel and wait for it."""
        for channel in SPREAD:
            end = self.node.publish(channel).id
            wait_until(lambda: end in self.node.sink.ids(channel), why=f"a publication of {channel}")  # noqa: B023

    def settle(self) -> None:
        """Stop the backends, publish once more in each channel and wait for these publications."""
        self._done.set()
        for thread in self._backends:
            thread.join(60)
        self.flow_once()

    def recovered(self, channel: str, since: Cursor) -> bool:
        """Whether a client that recovers with this cursor receives all missed publications."""
        past = self.node.broker.read_since([channel], since, limit=1_000_000)
        results = missed_since(since, past.position, past.channels[channel], limit=1_000_000)
        return not isinstance(results, Gap) and not self.node.broker.is_doubted(channel, since)

    def close(self) -> None:
        self._done.set()
        for thread in self._backends:
            thread.join(60)
        self.node.broker.stop()
        self.recorder.close()


def unserved(broker: Broker) -> set[str]:
    """The names of the parts of the broker that are not served."""
    return {part.name for part in broker.state().parts if not part.is_served}


@pytest.fixture
def scene(cluster: ClusterProcess, prefix: str, tmp_path: Path) -> Iterator[Scene]:
    """A node that is subscribed to a channel of each bucket. After the test, its history is checked."""
    created = Scene(cluster, prefix, tmp_path / "history.jsonl")
    try:
        created.node.subscribe(*SPREAD)
        yield created
    finally:
        created.close()
    assert check(created.recorder.path) == []
    wait_until(cluster.is_complete, within_s=60, why="the cluster is complete again")


class TestFaults:
    def test_slot_moves_away_and_back_while_backends_publish(self, scene: Scene) -> None:
        scene.keep_publishing()
        scene.flow()
        since = Cursor.parse(scene.node.sink.publications[-1].cursor)
        slot = scene.buckets[0].address.slot
        home = scene.cluster.owner(slot)
        for target in (next(item for item in scene.cluster.masters() if item is not home), home):
            scene.cluster.move(slot, target)
            scene.flow()
        scene.settle()
        # The bucket that moved began a new epoch, and its clients were notified. The others continued unchanged.
        moved = [channel for channel in SPREAD if bucket_of(channel, 4) == 0]
        assert scene.node.sink.lost_channels() == set(moved)
        assert {channel: scene.recovered(channel, since) for channel in SPREAD} == {
            channel: channel not in moved for channel in SPREAD
        }
        assert scene.metrics.epochs > 0

    def test_a_master_dies_while_backends_publish(self, scene: Scene) -> None:
        scene.keep_publishing()
        scene.flow()
        since = Cursor.parse(scene.node.sink.publications[-1].cursor)
        owners = [scene.cluster.owner(bucket.address.slot) for bucket in scene.buckets]
        dead = owners[2]
        scene.cluster.configure("cluster-replica-no-failover", "no")
        dead.kill()
        wait_until(scene.node.sink.lost_channels, within_s=60, why="the replica took over, clients are notified")
        scene.cluster.configure("cluster-replica-no-failover", "yes")
        scene.flow()
        dead.start()
        scene.cluster.configure("cluster-replica-no-failover", "yes")
        wait_until(scene.cluster.is_complete, within_s=60, why="the old master is a replica now")
        scene.connected()
        scene.flow()
        scene.settle()
        # On a very slow machine another master may have been replaced as well.
        now = [scene.cluster.owner(bucket.address.slot) for bucket in scene.buckets]
        hit = {channel for channel in SPREAD if now[bucket_of(channel, 4)] is not owners[bucket_of(channel, 4)]}
        assert {channel for channel in SPREAD if owners[bucket_of(channel, 4)] is dead} <= hit
        assert scene.node.sink.lost_channels() == hit
        assert {channel: scene.recovered(channel, since) for channel in SPREAD} == {
            channel: channel not in hit for channel in SPREAD
        }

    def test_a_planned_failover_while_backends_publish(self, scene: Scene) -> None:
        scene.keep_publishing()
        scene.flow()
        slot = scene.buckets[3].address.slot
        before = scene.cluster.owner(slot)
        scene.cluster.replace(before)
        wait_until(lambda: scene.cluster.is_agreed(slot) and scene.cluster.owner(slot) is not before, within_s=60)
        scene.connected()
        scene.flow()
        scene.settle()

    def test_a_quiet_bucket_is_emptied(self, scene: Scene) -> None:
        before = scene.metrics.broker_reconnects
        bucket = scene.buckets[0]
        with scene.cluster.client(bucket.address.slot) as client:
            client.delete(bucket.keys.meta)
        wait_until(scene.node.sink.lost_channels, within_s=60, why="its clients are notified")
        scene.connected()
        # The link reconnected, because it could have led to a node that was cut off from its cluster.
        assert scene.metrics.broker_reconnects > before
        scene.settle()
        assert scene.node.sink.lost_channels() == {channel for channel in SPREAD if bucket_of(channel, 4) == 0}

    def test_broken_links_while_backends_publish(self, scene: Scene) -> None:
        scene.keep_publishing()
        scene.flow()
        for number in range(1, 3):
            for node in scene.cluster.masters():
                with node.client() as client:
                    client.execute_command("CLIENT KILL TYPE pubsub")
            wait_until(lambda: scene.metrics.broker_reconnects >= 4 * number, why="the link of every bucket is new")  # noqa: B023
            scene.connected()
            scene.flow()
        scene.settle()
        assert scene.node.sink.losses == []

    def test_one_bucket_away_is_named_while_the_others_are_served(self, scene: Scene) -> None:
        owners = [scene.cluster.owner(bucket.address.slot) for bucket in scene.buckets]
        frozen = owners[3]
        away = {f"bucket {bucket}" for bucket, owner in enumerate(owners) if owner is frozen}
        served = [channel for channel in SPREAD if owners[bucket_of(channel, 4)] is not frozen]
        broker = scene.node.broker
        scene.flow_once()
        frozen.pause()
        try:
            # The links have not noticed it yet.
            with owners[bucket_of(served[0], 4)].client() as client:
                client.config_set("maxmemory-policy", "allkeys-lru")
                try:
                    assert broker.eviction_policy() == "allkeys-lru"
                finally:
                    client.config_set("maxmemory-policy", "noeviction")
            # The canaries of the other buckets return, so the broker's canary does as well.
            assert broker.canary() < LIMITS.timeout_s
            assert unserved(broker) == away
            assert broker.state().can_serve
            assert all(part.last_error for part in broker.state().parts if not part.is_served)
            for channel in served:
                end = scene.node.publish(channel).id
                wait_until(lambda: end in scene.node.sink.ids(channel), why=f"{channel} is served")  # noqa: B023
        finally:
            frozen.resume()
        wait_until(scene.cluster.is_complete, within_s=60)
        scene.connected()
        assert broker.canary() < LIMITS.timeout_s
        assert unserved(broker) == set()
        scene.settle()

    def test_broken_links_of_buckets_with_many_channels(
        self, cluster: ClusterProcess, prefix: str, tmp_path: Path
    ) -> None:
        scene = Scene(cluster, prefix, tmp_path / "history.jsonl", limits=replace(LIMITS, repair_first=5))
        try:
            scene.node.subscribe(*SPREAD, *(f"orders:many-{number}" for number in range(400)))
            scene.keep_publishing()
            scene.flow()
            for number in range(1, 3):
                for node in cluster.masters():
                    with node.client() as client:
                        client.execute_command("CLIENT KILL TYPE pubsub")
                wait_until(lambda: scene.metrics.broker_reconnects >= 4 * number, why="the link of every bucket is new")  # noqa: B023
                scene.connected()
                scene.flow()
            wait_until(lambda: scene.metrics.broker_channels_unverified == 0, why="every channel is repaired")
            for number in range(0, 400, 50):
                end = scene.node.publish(f"orders:many-{number}").id
                wait_until(lambda: end in scene.node.sink.ids(f"orders:many-{number}"))  # noqa: B023
            scene.settle()
            assert scene.node.sink.losses == []
        finally:
            scene.close()
        assert check(scene.recorder.path) == []
