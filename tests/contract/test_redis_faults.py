"""Faults between a node and a real Redis.

Every test records a history. The checker then verifies for every channel that no acknowledged publication is missing
at the sink without `lost`, that none arrived twice, and that the order is right.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from contract.broker_contract import LIMITS, RULES, outgoing
from support.history import Listener, Recorder, check
from support.network.proxy import Proxy
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.errors import Unavailable, UnknownNamespace
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.receipts import Receipt
from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.brokers.repair import LOOKUP_CHUNK
from tidings_hub.core.recovery import Gap, missed_since
from tidings_hub.core.session_records import ClaimedSession, RecordOperation, SessionRecord, WriteResult
from tidings_hub.metrics import Metrics

KEYS = RedisKeys()


@dataclass
class Scene:
    """A Redis with a proxy, a node that connects through the proxy, and a backend that connects directly."""

    redis: RedisProcess
    recorder: Recorder
    proxy: Proxy
    sink: Listener
    broker: RedisBroker
    metrics: Metrics
    backend: RedisPublisher
    busy: list[threading.Thread] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Scene:
        self.broker.write_rules(RULES)
        self.broker.start(self.sink)
        return self

    def connected(self) -> Scene:
        wait_until(lambda: self.broker.state().connected, why="the node is connected")
        return self

    def subscribe(self, *channels: str) -> None:
        self.broker.subscribe(channels)
        for channel in channels:
            self.recorder.note("node", "subscribed", channel, cursor=str(self.broker.position))

    def publish(self, channel: str, *, timeout_s: float = 20.0) -> Receipt:
        (answer,) = self.backend.publish([self._sending(channel)], timeout_s=timeout_s)
        assert isinstance(answer, Receipt), answer
        self.recorder.acked("backend", channel, answer.id, answer)
        return answer

    def _sending(self, channel: str) -> Any:
        item = outgoing(channel)
        self.recorder.note("backend", "sending", channel, id=item.id)
        return item

    def keep_publishing(self, *channels: str, pause_s: float = 0.002) -> None:
        """Publish round robin in the background, until `quiet`. A failed publish is retried, as a backend would."""

        def work() -> None:
            backend = RedisPublisher(self.redis.url)
            for channel in itertools.cycle(channels):
                if self._stop.is_set():
                    break
                item = self._sending(channel)
                answer = backend.publish([item], timeout_s=0.5)[0]
                while not isinstance(answer, Receipt) and not self._stop.is_set():
                    answer = backend.publish([item], timeout_s=0.5)[0]
                self.recorder.acked("backend", channel, item.id, answer)
                time.sleep(pause_s)
            backend.close()

        thread = threading.Thread(target=work)
        self.busy.append(thread)
        thread.start()

    def quiet(self) -> None:
        self._stop.set()
        for thread in self.busy:
            thread.join(60)
        self.busy.clear()

    def settle(self, *channels: str) -> None:
        """Publish once more in each channel and wait for it. Publications missing then will never arrive."""
        self.quiet()
        for channel in channels:
            end = self.publish(channel)
            wait_until(lambda: end.id in self.sink.ids(channel), why=f"the last publication of {channel}")  # noqa: B023

    def close(self) -> None:
        self.quiet()
        self.broker.stop()
        self.backend.close()
        self.proxy.close()
        self.redis.stop()
        self.recorder.close()


Build = Callable[..., Scene]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Makes a scene. After the test, its history is checked."""
    worlds: list[Scene] = []

    def built(*options: str, started: bool = True, limits: BrokerLimits = LIMITS) -> Scene:
        folder = tmp_path / "redis"
        folder.mkdir()
        redis = RedisProcess(folder, *options)
        if started:
            redis.start()
        recorder, proxy, metrics = Recorder(tmp_path / "history.jsonl"), Proxy(redis.port), Metrics()
        broker = RedisBroker(proxy.url, limits=limits, metrics=metrics)
        scene = Scene(redis, recorder, proxy, Listener(recorder), broker, metrics, RedisPublisher(redis.url))
        worlds.append(scene)
        return scene.start()

    yield built
    for scene in worlds:
        scene.close()
        assert check(scene.recorder.path) == []


@pytest.fixture
def scene(build: Build) -> Scene:
    return build().connected()


def recovered(scene: Scene, channel: str, cursor: Cursor) -> list[str] | None:
    """The ids that a client receives when it resumes with `cursor`; None: it receives `recovered: false`."""
    past = scene.broker.read_since([channel], cursor, limit=1000)
    result = missed_since(cursor, past.position, past.channels[channel], limit=1000)
    if isinstance(result, Gap) or scene.broker.is_doubted(channel, cursor):
        return None
    return [item.id for item in result]


def link_id(client: Any) -> int:
    """The id of the node's subscriber connection in Redis."""
    (client_id,) = [int(item["id"]) for item in client.client_list(_type="pubsub")]
    return client_id


def arguments_of(entry: Any) -> int:
    """The number of arguments of a command in the slow log, which shows 32 and the number of the others."""
    words = entry["command"].split(b" ")
    if words[-2:] == [b"more", b"arguments)"]:
        return 31 + int(words[-3].lstrip(b"("))
    return len(words)


class TestOutages:
    def test_short_outage_is_repaired_from_the_streams(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "orders:2", "gone:1")
        scene.publish("gone:1")
        scene.keep_publishing("orders:1", "orders:2")
        for _ in range(3):
            before = len(scene.sink.publications)
            wait_until(lambda: len(scene.sink.publications) > before + 20)  # noqa: B023
            scene.proxy.cut()
        wait_until(lambda: scene.metrics.broker_reconnects >= 3)
        scene.settle("orders:1", "orders:2", "gone:1")
        assert scene.sink.losses == []
        assert scene.metrics.gaps_repaired > 0
        seqs = [item.seq for item in scene.sink.publications]
        assert seqs == sorted(seqs)

    def test_loss_of_a_volatile_channel_is_reported(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "gone:1", "gone:quiet")
        scene.proxy.refuse()
        wait_until(lambda: not scene.broker.state().connected)
        scene.publish("gone:1")
        missed_one = scene.publish("orders:1")
        scene.proxy.accept_again()
        scene.connected()
        scene.settle("orders:1", "gone:1", "gone:quiet")
        assert scene.sink.lost_channels() == {"gone:1"}
        assert scene.sink.ids("orders:1")[0] == missed_one.id

    def test_trimmed_publications_are_reported(self, scene: Scene) -> None:
        scene.subscribe("brief:1", "orders:1")
        scene.proxy.refuse()
        wait_until(lambda: not scene.broker.state().connected)
        scene.publish("orders:1")
        for _ in range(250):
            scene.publish("brief:1")
        scene.proxy.accept_again()
        scene.connected()
        scene.settle("brief:1", "orders:1")
        assert scene.sink.lost_channels() == {"brief:1"}

    def test_killed_link_is_repaired(self, scene: Scene) -> None:
        scene.subscribe("orders:1")
        scene.keep_publishing("orders:1")
        with scene.redis.client() as client:
            for number in range(1, 4):
                client.client_kill_filter(_id=link_id(client))
                wait_until(lambda: scene.metrics.broker_reconnects == number)  # noqa: B023
                scene.connected()
        scene.settle("orders:1")
        assert scene.sink.losses == []

    def test_paused_redis_continues_where_it_was(self, scene: Scene) -> None:
        scene.subscribe("orders:1")
        scene.keep_publishing("orders:1")
        scene.redis.pause()
        wait_until(lambda: not scene.broker.state().connected, why="the heartbeat notices")
        scene.redis.resume()
        resumed_s = time.monotonic()
        scene.connected()
        # 2 s is the promise; the rest is for a machine with better things to do.
        assert time.monotonic() - resumed_s < 6
        scene.settle("orders:1")
        assert scene.sink.losses == []

    def test_silent_network_is_detected(self, scene: Scene) -> None:
        scene.subscribe("orders:1")
        scene.proxy.pause()
        wait_until(lambda: not scene.broker.state().connected, why="the heartbeat notices")
        scene.publish("orders:1")
        scene.proxy.resume()
        scene.connected()
        scene.settle("orders:1")
        assert scene.sink.losses == []

    def test_slow_network_does_not_break_the_link(self, scene: Scene) -> None:
        scene.proxy.delay_s = 0.05
        scene.subscribe("orders:1")
        scene.keep_publishing("orders:1", pause_s=0.01)
        wait_until(lambda: len(scene.sink.publications) > 50)
        scene.settle("orders:1")
        assert (scene.sink.losses, scene.metrics.broker_reconnects) == ([], 0)

    def test_many_channels_are_all_repaired(self, scene: Scene) -> None:
        channels = [f"orders:{number}" for number in range(2_500)]
        scene.subscribe(*channels)
        scene.proxy.refuse()
        wait_until(lambda: not scene.broker.state().connected)
        for channel in channels[::10]:
            scene.publish(channel)
        scene.proxy.accept_again()
        scene.connected()
        wait_until(lambda: len(scene.sink.publications) == 250)
        assert scene.sink.losses == []
        assert [item.channel for item in scene.sink.publications] == channels[::10]
        assert scene.metrics.broker_channels_unverified == 0
        scene.settle(*channels[::500])

    def test_channels_with_the_newest_publications_are_repaired_first(self, build: Build) -> None:
        scene = build(limits=replace(LIMITS, repair_first=1)).connected()
        channels = [f"orders:{number}" for number in range(3)]
        scene.subscribe(*channels)
        scene.publish("orders:1")
        scene.publish("orders:2")
        wait_until(lambda: len(scene.sink.publications) == 2)
        scene.proxy.refuse()
        wait_until(lambda: not scene.broker.state().connected)
        for channel in channels:
            scene.publish(channel)
        scene.proxy.accept_again()
        wait_until(lambda: len(scene.sink.publications) == 5)
        # The other two are repaired in one step, in order of seq.
        assert [item.channel for item in scene.sink.publications[2:]] == ["orders:2", "orders:0", "orders:1"]
        wait_until(lambda: scene.metrics.broker_channels_unverified == 0)
        assert scene.sink.losses == []
        scene.settle(*channels)

    def test_part_of_a_repair_is_delivered_before_the_next_one_is_read(self, build: Build) -> None:
        """Otherwise all parts would be in memory at the same time, each with `repair_max_bytes`."""
        scene = build(limits=replace(LIMITS, repair_first=1)).connected()
        channels = [f"orders:{number}" for number in range(LOOKUP_CHUNK + 101)]
        scene.subscribe(*channels)
        for channel in channels:
            scene.publish(channel)
        wait_until(lambda: len(scene.sink.publications) == len(channels))
        scene.proxy.refuse()
        wait_until(lambda: not scene.broker.state().connected)
        # All but the first channel to be repaired, which has the newest publication.
        late = channels[:-1]
        for channel in late:
            scene.publish(channel)
        scene.proxy.accept_again()
        wait_until(lambda: len(scene.sink.publications) == len(channels) + len(late))
        repaired = [item.channel for item in scene.sink.publications[len(channels) :]]
        # Those with the newest publications first; in each part in order of seq.
        assert repaired == late[-LOOKUP_CHUNK:] + late[:-LOOKUP_CHUNK]
        assert scene.sink.losses == []
        scene.settle(channels[0], channels[-1])

    def test_cursor_beyond_a_channel_that_is_repaired_later_is_doubted(self, build: Build) -> None:
        """A client may receive the later publication, disconnect, and return with a cursor that claims too much."""
        scene = build(limits=replace(LIMITS, repair_first=1)).connected()
        scene.subscribe("orders:late", "orders:first")
        start = Cursor.parse(scene.publish("orders:first").cursor)
        wait_until(lambda: len(scene.sink.publications) == 1)
        scene.proxy.refuse()
        wait_until(lambda: not scene.broker.state().connected)
        missed = scene.publish("orders:late")
        later = Cursor.parse(scene.publish("orders:first").cursor)
        scene.proxy.accept_again()
        wait_until(lambda: scene.sink.ids("orders:late") == [missed.id])
        assert recovered(scene, "orders:late", start) == [missed.id]
        assert recovered(scene, "orders:late", later) is None
        after = Cursor.parse(scene.publish("orders:first").cursor)
        assert recovered(scene, "orders:late", after) == []
        scene.settle("orders:late", "orders:first")

    def test_many_channels_under_load_lose_nothing_when_the_link_breaks(self, build: Build) -> None:
        scene = build(limits=replace(LIMITS, repair_first=100)).connected()
        channels = [f"orders:{number}" for number in range(2_000)]
        scene.subscribe(*channels)
        scene.keep_publishing(*channels, pause_s=0)
        for number in range(1, 4):
            before = len(scene.sink.publications)
            wait_until(lambda: len(scene.sink.publications) > before + 500)  # noqa: B023
            scene.proxy.cut()
            wait_until(lambda: scene.metrics.broker_reconnects == number)  # noqa: B023
            scene.connected()
        wait_until(lambda: scene.metrics.broker_channels_unverified == 0, why="every channel is repaired")
        scene.settle(*channels[::100])
        assert scene.sink.losses == []
        assert scene.metrics.gaps_repaired > 0

    def test_reconnect_and_position_check_use_bounded_commands(self, build: Build) -> None:
        scene = build(limits=replace(LIMITS, repair_first=1_500)).connected()
        channels = [f"orders:{number}" for number in range(3_500)]
        scene.subscribe(*channels)
        with scene.redis.client() as client:
            client.config_set("slowlog-max-len", 100_000)
            client.config_set("slowlog-log-slower-than", 0)
            scene.proxy.refuse()
            wait_until(lambda: not scene.broker.state().connected)
            for channel in channels[::2]:
                scene.publish(channel)
            scene.proxy.accept_again()
            scene.connected()
            wait_until(lambda: len(scene.sink.publications) == len(channels[::2]))
            wait_until(lambda: scene.metrics.broker_channels_unverified == 0)
            checks = scene.metrics.position_checks
            wait_until(lambda: scene.metrics.position_checks > checks + 1)
            commands = [(entry["command"].split(b" ")[0], arguments_of(entry)) for entry in client.slowlog_get(100_000)]
        subscribed = [count for name, count in commands if name == b"SUBSCRIBE"]
        called = [count for name, count in commands if name == b"EVALSHA"]
        # 1,000 names; 1,000 channels with two keys and a seq each, and the head of the call.
        assert sum(subscribed) >= len(channels)
        assert max(subscribed) <= 1_001
        assert max(called) <= 3_020
        assert scene.sink.losses == []
        scene.settle(*channels[::500])

    def test_many_revocations_are_read_in_parts(self, build: Build) -> None:
        scene = build().connected()
        until_s = {f"jti:{number}": time.time() + 900 for number in range(5_000)}
        scene.broker.write_revocations(until_s)
        with scene.redis.client() as client:
            client.config_resetstat()
            assert scene.broker.revocations() == until_s
            calls = {name: int(stats["calls"]) for name, stats in client.info("commandstats").items()}
        assert calls["cmdstat_hscan"] >= 4, "no part takes Redis long"
        assert "cmdstat_hgetall" not in calls

    def test_subscription_of_a_channel_is_not_delayed_by_those_that_are_repaired_later(self, build: Build) -> None:
        scene = build(limits=replace(LIMITS, repair_first=1)).connected()
        channels = [f"orders:{number}" for number in range(3_000)]
        scene.subscribe(*channels)
        scene.proxy.cut()
        wait_until(lambda: scene.metrics.broker_reconnects == 1)
        scene.subscribe("orders:new", "orders:2999")
        end = scene.publish("orders:2999")
        wait_until(lambda: end.id in scene.sink.ids("orders:2999"))
        wait_until(lambda: scene.metrics.broker_channels_unverified == 0)
        scene.settle("orders:new", *channels[::500])
        assert scene.sink.losses == []

    def test_link_closed_for_a_full_output_buffer_is_repaired(self, build: Build) -> None:
        """Redis closes the connection of a subscriber whose output buffer is full."""
        limits = replace(LIMITS, position_check_s=60.0)
        scene = build("--client-output-buffer-limit", "pubsub 1mb 1mb 1", limits=limits).connected()
        scene.subscribe("orders:1")
        with scene.redis.client() as client:
            link = link_id(client)
            scene.proxy.pause()
            data = b'"' + b"x" * 60_000 + b'"'
            published = 0
            while link in [int(item["id"]) for item in client.client_list(_type="pubsub")]:
                item = outgoing("orders:1", data=data)
                scene.recorder.note("backend", "sending", "orders:1", id=item.id)
                result = scene.backend.publish([item], timeout_s=20)[0]
                scene.recorder.acked("backend", "orders:1", item.id, result)
                published += 1
                assert published < 5_000
        scene.proxy.resume()
        scene.connected()
        scene.settle("orders:1")
        assert len(scene.sink.publications) == published + 1 or scene.sink.lost_channels() == {"orders:1"}


class TestBounds:
    def test_missing_reply_is_counted(self, build: Build) -> None:
        scene = build(limits=replace(LIMITS, timeout_s=1.0)).connected()
        scene.subscribe("orders:1")
        scene.proxy.pause()
        with pytest.raises(Unavailable):
            scene.broker.read_since(["orders:1"], None, limit=1)
        assert scene.metrics.broker_timeouts > 0
        scene.proxy.resume()
        scene.connected()
        scene.settle("orders:1")

    def test_one_caller_at_a_time_waits_for_a_redis_that_is_away(self, build: Build) -> None:
        scene = build(limits=replace(LIMITS, timeout_s=0.5)).connected()
        scene.subscribe("orders:1")
        scene.proxy.pause()

        def publish() -> None:
            (answer,) = scene.broker.publish_many([outgoing("gone:1")])
            assert isinstance(answer, Unavailable)
            raise answer

        calls: list[Callable[[], object]] = [
            lambda: scene.broker.read_since(["orders:1"], None, limit=1),
            lambda: scene.broker.subscribe([f"orders:{time.monotonic_ns()}"]),
            lambda: scene.broker.history("orders:1", since=None, limit=1, newest=True),
            publish,
        ]
        for call in calls:
            for _ in range(50):
                with pytest.raises(Unavailable):
                    call()
        refused = scene.metrics.broker_calls_refused
        assert refused.keys() == {"channels", "queries", "publishes"}
        assert min(refused.values()) > 25
        # Channels that were refused take no memory.
        assert scene.broker.state().channels < 20
        scene.broker.subscribe(["orders:1"])
        scene.proxy.resume()
        scene.connected()

        def answers() -> bool:
            try:
                scene.broker.read_since(["orders:1"], None, limit=1)
            except Unavailable:
                return False
            return True

        wait_until(answers, why="calls are tried again")
        scene.settle("orders:1")

    def test_doubt_beyond_its_limit_is_counted(self, build: Build) -> None:
        scene = build(limits=replace(LIMITS, doubts_max=1)).connected()
        scene.subscribe("orders:1", "orders:2", "orders:3")
        for number in (1, 2):
            scene.proxy.drop(f"orders:{number}", skip=1)
            for _ in range(2):
                scene.publish(f"orders:{number}")
            scene.publish("orders:3")
            scene.publish(f"orders:{number}")
            wait_until(lambda: scene.metrics.gaps_repaired == number, why="the gap is repaired")  # noqa: B023
        assert scene.metrics.doubts_widened == 1
        scene.settle("orders:1", "orders:2", "orders:3")

    def test_pointer_has_a_ttl(self, build: Build) -> None:
        """Emitters read the setting beside the rules, so it also applies to their publications."""
        scene = build(limits=replace(LIMITS, pointer_ttl_s=20_000)).connected()
        scene.subscribe("orders:looked", "orders:published")
        scene.publish("orders:published")
        with scene.redis.client() as client:
            assert not client.exists(KEYS.pointer("orders:looked"))
            assert 19_000 < client.ttl(KEYS.pointer("orders:published")) <= 20_000
            client.hset(KEYS.rules, ":pointer_ttl_s", "poison")
            scene.publish("orders:published")
            assert client.ttl(KEYS.pointer("orders:published")) > 600_000
        scene.settle("orders:looked")


class TestAnotherRedis:
    """Restarts: every older cursor yields `recovered: false`, because there is no proof that nothing is missing."""

    @pytest.mark.parametrize("file", ["same", "empty", "older"])
    def test_restarted_redis_with_new_old_or_current_data(self, scene: Scene, file: str) -> None:
        scene.subscribe("orders:1", "gone:1")
        scene.publish("orders:1")
        older = scene.redis.save()
        scene.keep_publishing("orders:1", "gone:1")
        wait_until(lambda: len(scene.sink.publications) > 30)
        cursor = scene.broker.position
        assert cursor is not None
        content = None if file == "empty" else older if file == "older" else scene.redis.save()
        scene.redis.kill()
        wait_until(lambda: not scene.broker.state().connected)
        scene.redis.replace_file(content)
        scene.redis.start()
        start_s = time.monotonic()
        scene.connected()
        assert time.monotonic() - start_s < 6
        wait_until(lambda: scene.sink.lost_channels() == {"orders:1", "gone:1"}, why="clients are notified")
        assert scene.broker.position is not None
        assert scene.broker.position.epoch != cursor.epoch
        assert recovered(scene, "orders:1", cursor) is None
        before = len(scene.sink.publications)
        wait_until(lambda: len(scene.sink.publications) > before + 10, why="publications arrive again")
        scene.settle("orders:1", "gone:1")

    def test_node_starts_while_redis_is_down(self, build: Build) -> None:
        scene = build(started=False, limits=replace(LIMITS, timeout_s=0.3))
        with pytest.raises(Unavailable):
            scene.broker.subscribe(["orders:1"])
        with pytest.raises(Unavailable):
            scene.broker.canary()
        assert scene.broker.position is None
        scene.redis.start()
        scene.connected()
        scene.subscribe("orders:1")
        scene.settle("orders:1")
        assert scene.sink.losses == []
        assert 0 <= scene.broker.canary() < 5

    def test_subscribed_channel_is_active_once_redis_is_reachable(self, build: Build) -> None:
        scene = build(started=False, limits=replace(LIMITS, timeout_s=20.0))
        waiting = threading.Thread(target=scene.subscribe, args=("orders:1",))
        waiting.start()
        scene.redis.start()
        waiting.join(20)
        assert not waiting.is_alive()
        scene.settle("orders:1")

    def test_channel_whose_caller_gave_up_becomes_active_as_well(self, build: Build) -> None:
        scene = build(started=False, limits=replace(LIMITS, timeout_s=0.2))
        with pytest.raises(Unavailable):
            scene.broker.subscribe(["orders:1"])
        scene.redis.start()
        scene.connected()
        wait_until(lambda: scene.metrics.broker_channels_unverified == 0, why="it is subscribed and active")
        scene.settle("orders:1")

    def test_emptied_redis_reports_a_loss(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "gone:1")
        scene.publish("orders:1")
        cursor = Cursor.parse(scene.publish("gone:1").cursor)
        wait_until(lambda: len(scene.sink.publications) == 2)
        with scene.redis.client() as client:
            client.flushall()
        wait_until(lambda: scene.sink.lost_channels() == {"orders:1", "gone:1"}, why="clients are notified")
        scene.settle("orders:1", "gone:1")
        assert recovered(scene, "orders:1", cursor) is None
        assert scene.metrics.epochs == 1
        assert scene.metrics.broker_reconnects == 0

    def test_redis_emptied_during_publications(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "orders:2")
        scene.keep_publishing("orders:1", "orders:2")
        wait_until(lambda: len(scene.sink.publications) > 20)
        with scene.redis.client() as client:
            client.flushall()
        wait_until(lambda: scene.sink.lost_channels() == {"orders:1", "orders:2"}, why="clients are notified")
        scene.settle("orders:1", "orders:2")

    def test_deleted_rules_are_written_again(self, scene: Scene) -> None:
        with scene.redis.client() as client:
            client.delete(KEYS.rules)
        scene.subscribe("orders:1")
        scene.settle("orders:1")
        assert scene.sink.losses == []

    def test_missing_rule_is_written_again_and_rules_of_others_stay(self, scene: Scene) -> None:
        """Without its rule, a publish to a namespace is refused, while canaries and other namespaces are published."""
        with scene.redis.client() as client:
            client.hset(KEYS.rules, "newer", "5 60")
            stored = client.hgetall(KEYS.rules)
            for gone in (["orders"], ["orders", "canary", ":pointer_ttl_s"]):
                client.hdel(KEYS.rules, *gone)
                wait_until(lambda: client.hgetall(KEYS.rules) == stored, why="the node restored the rules")
        scene.subscribe("orders:1")
        scene.settle("orders:1")
        assert scene.sink.losses == []

    def test_node_publishes_although_a_rule_is_missing(self, scene: Scene) -> None:
        """Publications of a queue would be dead-lettered, although nothing is wrong with them."""
        with scene.redis.client() as client:
            for number in range(20):
                client.hdel(KEYS.rules, "orders")
                items = [outgoing("orders:1"), outgoing("nowhere:1"), outgoing("orders:2")]
                answers = scene.broker.publish_many(items)
                assert [type(answer) for answer in answers] == [Receipt, UnknownNamespace, Receipt], number
            assert client.hexists(KEYS.rules, "orders")

    def test_session_record_does_not_outlive_its_epoch(self, scene: Scene) -> None:
        """A restored Redis may have a session record that was claimed or changed since."""
        record = SessionRecord(RecordOperation.CREATE, "key", "one", 60, "u", b"x")
        assert scene.broker.write_sessions([record]) == [WriteResult.OK]
        with scene.redis.client() as client:
            client.hset(KEYS.meta, mapping={"run_id": "of-another", "checked_ms": 0})
        assert scene.broker.write_sessions([replace(record, operation=RecordOperation.TOUCH)]) == [WriteResult.MISSING]
        assert scene.broker.claim_session("key", "u") is None
        assert scene.broker.write_sessions([replace(record, owner="two")]) == [WriteResult.OK]
        assert scene.broker.claim_session("key", "") == ClaimedSession("two", "u", b"x")

    def test_decreased_sequence_starts_a_new_epoch(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "orders:2")
        cursor = [scene.publish(f"orders:{1 + number % 2}") for number in range(20)][-1].cursor
        wait_until(lambda: len(scene.sink.publications) == 20)
        with scene.redis.client() as client:
            client.hset(KEYS.meta, "seq", 3)
        wait_until(lambda: scene.sink.lost_channels() == {"orders:1", "orders:2"}, why="clients are notified")
        scene.settle("orders:1", "orders:2")
        assert recovered(scene, "orders:1", Cursor.parse(cursor)) is None
        assert scene.broker.position is not None
        assert scene.broker.position.epoch != Cursor.parse(cursor).epoch


class TestLostMessages:
    def test_lost_message_in_a_busy_channel_is_repaired(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "orders:2")
        scene.proxy.drop("orders:1", skip=5)
        scene.keep_publishing("orders:1", "orders:2")
        wait_until(lambda: scene.metrics.gaps_repaired == 1)
        scene.settle("orders:1", "orders:2")
        assert (scene.proxy.dropped, scene.sink.losses) == (1, [])

    def test_several_lost_messages_in_a_row_are_repaired(self, scene: Scene) -> None:
        scene.subscribe("orders:1")
        scene.proxy.drop("orders:1", skip=2, times=7)
        for _ in range(12):
            scene.publish("orders:1")
        scene.settle("orders:1")
        assert (scene.proxy.dropped, scene.sink.losses) == (7, [])

    def test_loss_in_a_volatile_channel_is_reported(self, scene: Scene) -> None:
        scene.subscribe("gone:1")
        scene.proxy.drop("gone:1", skip=1)
        for _ in range(3):
            scene.publish("gone:1")
        wait_until(lambda: scene.sink.lost_channels() == {"gone:1"})
        scene.settle("gone:1")

    @pytest.mark.parametrize("channel", ["orders:1", "gone:1"])
    def test_lost_last_message_is_repaired_by_the_position_check(self, scene: Scene, channel: str) -> None:
        """No later publication shows the gap: the position check finds it."""
        scene.subscribe(channel)
        scene.proxy.drop(channel)
        receipt = scene.publish(channel)
        if channel == "orders:1":
            wait_until(lambda: scene.sink.ids(channel) == [receipt.id], why="it is repaired")
            assert scene.sink.losses == []
        else:
            wait_until(lambda: scene.sink.lost_channels() == {channel}, why="the gap is reported")
        assert scene.proxy.dropped == 1

    def test_later_cursor_of_another_channel_is_doubted(self, build: Build) -> None:
        """The client's cursor is too far ahead, since it received the later publication of the other channel."""
        scene = build(limits=replace(LIMITS, position_check_s=60.0)).connected()
        # The first check runs at once; after it none disturbs.
        wait_until(lambda: scene.metrics.position_checks == 1)
        scene.subscribe("orders:1", "orders:2")
        early = Cursor.parse(scene.publish("orders:2").cursor)
        scene.proxy.drop("orders:1")
        dropped = scene.publish("orders:1")
        late = Cursor.parse(scene.publish("orders:2").cursor)
        wait_until(lambda: len(scene.sink.publications) == 2)
        assert recovered(scene, "orders:1", late) is None
        assert recovered(scene, "orders:2", late) == []
        assert recovered(scene, "orders:1", early) == [dropped.id]
        assert scene.sink.ids("orders:1") == [dropped.id]
        after = Cursor.parse(scene.publish("orders:2").cursor)
        assert recovered(scene, "orders:1", after) == []
        scene.settle("orders:1", "orders:2")

    def test_loss_while_a_channel_is_activated(self, scene: Scene) -> None:
        """A loss during a subscription is repaired or reported, wherever it occurs."""
        scene.proxy.drop("orders:1", times=10)
        scene.keep_publishing("orders:1", pause_s=0.001)
        scene.subscribe("orders:1")
        wait_until(lambda: len(scene.sink.publications) > 20)
        scene.settle("orders:1")

    def test_random_mix_of_all_faults(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "orders:2")
        scene.proxy.drop("orders:1", times=-1)
        # The pause keeps the dropped publications within the 100 of each stream.
        scene.keep_publishing("orders:1", "orders:2", pause_s=0.02)
        wait_until(lambda: len(scene.sink.ids("orders:1")) > 30, why="position checks repair the dropped messages")
        scene.proxy.drop_no_more()
        scene.settle("orders:1", "orders:2")


def message(seq: int, prev: int, epoch: str, *, id: str = "forged", data: bytes = b"1") -> bytes:
    return b't1 %d %d %b %b 1 - 9 "updated",%b' % (seq, prev, epoch.encode(), id.encode(), data)


class TestForeignMessages:
    def poison(self, scene: Scene, channel: str, messages: Sequence[bytes]) -> None:
        with scene.redis.client() as client:
            for item in messages:
                assert client.publish(KEYS.pubsub(channel), item) == 1

    def test_foreign_messages_are_skipped(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "orders:2")
        receipt = Cursor.parse(scene.publish("orders:1").cursor)
        poison = [
            b"",
            b"\x80\x04K\x01.",
            b'{"method":"emit","event":"x"}',
            b"t2" + message(receipt.seq + 1, receipt.seq, receipt.epoch)[2:],
            b"t1 x y z",
            message(-1, 0, receipt.epoch),
            message(receipt.seq + 1, receipt.seq, receipt.epoch, data=b'"\xff\xfe"'),
            message(receipt.seq + 1, receipt.seq, receipt.epoch, data=b'"\n"'),
            message(10**30, 1, receipt.epoch),
            b"t1 1 0 e " + b"x" * 1_000_000,
            b"t1 " + b"1" * 5_000 + b" 0 e id 1 - 3 " + b'"e",1',
            b"[" * 100_000,
        ]
        for item in poison:
            self.poison(scene, "orders:1", [item])
            scene.publish("orders:1")
            scene.publish("orders:2")
        with scene.redis.client() as client:
            for item in (b"", b"[]", b"null", b"{}", b"[" * 10_000, b'{"do":' + b"1" * 20_000 + b"}", b"\xff"):
                client.publish(KEYS.control, item)
        scene.settle("orders:1", "orders:2")
        assert scene.metrics.broker_poisoned == len(poison) + 7
        assert (scene.sink.losses, scene.sink.controls, scene.metrics.broker_reconnects) == ([], [], 0)

    def test_forged_seqs_are_counted(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "gone:1")
        last = Cursor.parse(scene.publish("orders:1").cursor)
        loose = Cursor.parse(scene.publish("gone:1").cursor)
        wait_until(lambda: len(scene.sink.publications) == 2)
        forged = [
            message(last.seq + 1_000_000, last.seq, last.epoch),
            message(last.seq + 100, last.seq + 50, last.epoch),
            message(9_223_372_036_854_775_807, last.seq, last.epoch),
            message(last.seq + 1, last.seq, "anotherepoch"),
            message(1, 0, "anotherepoch"),
        ]
        self.poison(scene, "orders:1", forged)
        self.poison(scene, "gone:1", [message(loose.seq + 50_000, loose.seq, loose.epoch)])
        scene.settle("orders:1", "gone:1")
        assert scene.metrics.broker_poisoned == len(forged) + 1
        assert (scene.sink.losses, scene.metrics.epochs) == ([], 0)

    def test_a_replayed_message_is_dropped(self, scene: Scene) -> None:
        scene.subscribe("orders:1")
        scene.publish("orders:1")
        with scene.redis.client() as client:
            ((_, entry),) = client.xrange(KEYS.stream("orders:1"))
        scene.publish("orders:1")
        self.poison(scene, "orders:1", [entry[b"m"]] * 3)
        scene.settle("orders:1")
        assert (scene.metrics.broker_replays, scene.sink.losses) == (3, [])

    def test_foreign_entry_in_a_stream_is_a_gap(self, scene: Scene) -> None:
        scene.subscribe("orders:1", "orders:2")
        last = Cursor.parse(scene.publish("orders:1").cursor)
        scene.proxy.refuse()
        wait_until(lambda: not scene.broker.state().connected)
        with scene.redis.client() as client:
            number = client.hincrby(KEYS.meta, "seq", 1)
            client.xadd(KEYS.stream("orders:1"), {"x": "y" * 10, "m": "z"}, id=f"{number}-0")
            client.set(KEYS.pointer("orders:1"), number)
            client.set(KEYS.stream("orders:2"), "not a stream")
        scene.publish("orders:2")
        scene.proxy.accept_again()
        scene.connected()
        assert recovered(scene, "orders:1", last) is None
        scene.settle("orders:1", "orders:2")
        assert scene.sink.lost_channels() == {"orders:1"}

    def test_endless_message_breaks_the_link_but_not_the_node(self, build: Build) -> None:
        scene = build(limits=replace(LIMITS, link_max_bytes=2_000_000)).connected()
        scene.subscribe("orders:1")
        self.poison(scene, "orders:1", [b"x" * 20_000_000])
        wait_until(lambda: scene.metrics.broker_reconnects == 1)
        scene.connected()
        scene.settle("orders:1")
        assert (scene.sink.losses, scene.metrics.broker_oversize) == ([], 1)


def test_password_is_not_in_the_state_or_an_error(tmp_path: Path) -> None:
    redis = RedisProcess(tmp_path, "--requirepass", "right").start()
    recorder = Recorder(tmp_path / "history.jsonl")
    broker = RedisBroker(f"redis://:hunter2secret@127.0.0.1:{redis.port}/0", limits=replace(LIMITS, timeout_s=0.5))
    try:
        broker.start(Listener(recorder))
        wait_until(lambda: broker.state().last_error)
        with pytest.raises(Unavailable) as caught:
            broker.subscribe(["orders:1"])
        assert "hunter2secret" not in broker.state().last_error + str(caught.value) + repr(broker.state())
    finally:
        broker.stop()
        redis.stop()
        recorder.close()


def test_stopped_broker_has_no_connection_left(build: Build) -> None:
    scene = build().connected()
    scene.subscribe("orders:1")
    scene.settle("orders:1")
    client = scene.redis.client()
    before = {entry["addr"] for entry in client.client_list()}
    # The reader reads through its own pool what it missed while the link was down.
    scene.proxy.cut()
    wait_until(lambda: scene.metrics.broker_reconnects > 0, why="the link is up again")
    scene.settle("orders:1")
    opened = {entry["addr"] for entry in client.client_list()} - before
    assert len(opened) >= 2
    scene.broker.stop()
    wait_until(
        lambda: opened.isdisjoint(entry["addr"] for entry in client.client_list()), why="its connections are closed"
    )
    client.close()
