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
from tidings.errors import Unavailable
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.receipts import Receipt
from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.core.recovery import Gap, missed_since
from tidings_hub.core.session_records import ClaimedSession, RecordOperation, SessionRecord, WriteResult
from tidings_hub.metrics import Metrics

KEYS = RedisKeys()


@dataclass
class World:
    """A Redis, a proxy before it, a node behind the proxy, and a backend that goes to Redis directly."""

    redis: RedisProcess
    recorder: Recorder
    proxy: Proxy
    sink: Listener
    broker: RedisBroker
    metrics: Metrics
    backend: RedisPublisher
    busy: list[threading.Thread] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> World:
        self.broker.write_rules(RULES)
        self.broker.start(self.sink)
        return self

    def connected(self) -> World:
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
        """Publish round robin in the background, until `quiet`. What fails is published again, as a backend would."""

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
        """Publish once more in each channel and wait for that: what has not come by then never will."""
        self.quiet()
        for channel in channels:
            end = self.publish(channel)
            wait_until(lambda: end.id in self.sink.ids(channel), why=f"the end of {channel} comes")  # noqa: B023

    def close(self) -> None:
        self.quiet()
        self.broker.stop()
        self.backend.close()
        self.proxy.close()
        self.redis.stop()
        self.recorder.close()


Build = Callable[..., World]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Makes a world; when the test has ended, its history must hold."""
    worlds: list[World] = []

    def built(*options: str, started: bool = True, limits: BrokerLimits = LIMITS) -> World:
        folder = tmp_path / "redis"
        folder.mkdir()
        redis = RedisProcess(folder, *options)
        if started:
            redis.start()
        recorder, proxy, metrics = Recorder(tmp_path / "history.jsonl"), Proxy(redis.port), Metrics()
        broker = RedisBroker(proxy.url, limits=limits, metrics=metrics)
        world = World(redis, recorder, proxy, Listener(recorder), broker, metrics, RedisPublisher(redis.url))
        worlds.append(world)
        return world.start()

    yield built
    for world in worlds:
        world.close()
        assert check(world.recorder.path) == []


@pytest.fixture
def world(build: Build) -> World:
    return build().connected()


def recovered(world: World, channel: str, cursor: Cursor) -> list[str] | None:
    """The ids that a client receives when it resumes with `cursor`; None: it receives `recovered: false`."""
    past = world.broker.read_since([channel], cursor, limit=1000)
    result = missed_since(cursor, past.position, past.channels[channel], limit=1000)
    if isinstance(result, Gap) or world.broker.is_doubted(channel, cursor):
        return None
    return [item.id for item in result]


def link_id(client: Any) -> int:
    """The id of the node's subscriber connection in Redis."""
    (client_id,) = [int(item["id"]) for item in client.client_list(_type="pubsub")]
    return client_id


class TestOutages:
    def test_a_short_cut_is_repaired_from_the_streams(self, world: World) -> None:
        world.subscribe("orders:1", "orders:2", "gone:1")
        world.publish("gone:1")
        world.keep_publishing("orders:1", "orders:2")
        for _ in range(3):
            before = len(world.sink.publications)
            wait_until(lambda: len(world.sink.publications) > before + 20)  # noqa: B023
            world.proxy.cut()
        wait_until(lambda: world.metrics.broker_reconnects >= 3)
        world.settle("orders:1", "orders:2", "gone:1")
        assert world.sink.losses == []
        assert world.metrics.gaps_repaired > 0
        seqs = [item.seq for item in world.sink.publications]
        assert seqs == sorted(seqs)

    def test_loss_of_a_volatile_channel_is_reported(self, world: World) -> None:
        world.subscribe("orders:1", "gone:1", "gone:quiet")
        world.proxy.refuse()
        wait_until(lambda: not world.broker.state().connected)
        world.publish("gone:1")
        missed_one = world.publish("orders:1")
        world.proxy.accept_again()
        world.connected()
        world.settle("orders:1", "gone:1", "gone:quiet")
        assert world.sink.lost_channels() == {"gone:1"}
        assert world.sink.ids("orders:1")[0] == missed_one.id

    def test_trimmed_publications_are_reported(self, world: World) -> None:
        world.subscribe("brief:1", "orders:1")
        world.proxy.refuse()
        wait_until(lambda: not world.broker.state().connected)
        world.publish("orders:1")
        for _ in range(250):
            world.publish("brief:1")
        world.proxy.accept_again()
        world.connected()
        world.settle("brief:1", "orders:1")
        assert world.sink.lost_channels() == {"brief:1"}

    def test_the_link_killed_by_its_id(self, world: World) -> None:
        world.subscribe("orders:1")
        world.keep_publishing("orders:1")
        with world.redis.client() as client:
            for number in range(1, 4):
                client.client_kill_filter(_id=link_id(client))
                wait_until(lambda: world.metrics.broker_reconnects == number)  # noqa: B023
                world.connected()
        world.settle("orders:1")
        assert world.sink.losses == []

    def test_paused_redis_continues_where_it_was(self, world: World) -> None:
        world.subscribe("orders:1")
        world.keep_publishing("orders:1")
        world.redis.pause()
        wait_until(lambda: not world.broker.state().connected, why="the heartbeat notices")
        world.redis.resume()
        resumed_s = time.monotonic()
        world.connected()
        # 2 s is the promise; the rest is for a machine with better things to do.
        assert time.monotonic() - resumed_s < 6
        world.settle("orders:1")
        assert world.sink.losses == []

    def test_a_silent_network_is_noticed(self, world: World) -> None:
        world.subscribe("orders:1")
        world.proxy.pause()
        wait_until(lambda: not world.broker.state().connected, why="the heartbeat notices")
        world.publish("orders:1")
        world.proxy.resume()
        world.connected()
        world.settle("orders:1")
        assert world.sink.losses == []

    def test_a_slow_network_is_no_outage(self, world: World) -> None:
        world.proxy.delay_s = 0.05
        world.subscribe("orders:1")
        world.keep_publishing("orders:1", pause_s=0.01)
        wait_until(lambda: len(world.sink.publications) > 50)
        world.settle("orders:1")
        assert (world.sink.losses, world.metrics.broker_reconnects) == ([], 0)

    def test_many_channels_are_all_repaired(self, world: World) -> None:
        channels = [f"orders:{number}" for number in range(2_500)]
        world.subscribe(*channels)
        world.proxy.refuse()
        wait_until(lambda: not world.broker.state().connected)
        for channel in channels[::10]:
            world.publish(channel)
        world.proxy.accept_again()
        world.connected()
        wait_until(lambda: len(world.sink.publications) == 250)
        assert world.sink.losses == []
        assert [item.channel for item in world.sink.publications] == channels[::10]
        world.settle(*channels[::500])

    def test_a_link_that_is_read_too_slowly(self, build: Build) -> None:
        """Redis itself cuts a subscriber whose output buffer is full."""
        limits = replace(LIMITS, position_check_s=60.0)
        world = build("--client-output-buffer-limit", "pubsub 1mb 1mb 1", limits=limits).connected()
        world.subscribe("orders:1")
        with world.redis.client() as client:
            link = link_id(client)
            world.proxy.pause()
            data = b'"' + b"x" * 60_000 + b'"'
            sent = 0
            while link in [int(item["id"]) for item in client.client_list(_type="pubsub")]:
                item = outgoing("orders:1", data=data)
                world.recorder.note("backend", "sending", "orders:1", id=item.id)
                answer = world.backend.publish([item], timeout_s=20)[0]
                world.recorder.acked("backend", "orders:1", item.id, answer)
                sent += 1
                assert sent < 5_000
        world.proxy.resume()
        world.connected()
        world.settle("orders:1")
        assert len(world.sink.publications) == sent + 1 or world.sink.lost_channels() == {"orders:1"}


class TestBounds:
    def test_an_answer_that_does_not_come_is_counted(self, build: Build) -> None:
        world = build(limits=replace(LIMITS, timeout_s=1.0)).connected()
        world.subscribe("orders:1")
        world.proxy.pause()
        with pytest.raises(Unavailable):
            world.broker.read_since(["orders:1"], None, limit=1)
        assert world.metrics.broker_timeouts > 0
        world.proxy.resume()
        world.connected()
        world.settle("orders:1")

    def test_doubt_beyond_its_bound_is_counted(self, build: Build) -> None:
        world = build(limits=replace(LIMITS, doubts_max=1)).connected()
        world.subscribe("orders:1", "orders:2", "orders:3")
        for number in (1, 2):
            world.proxy.drop(f"orders:{number}", skip=1)
            for _ in range(2):
                world.publish(f"orders:{number}")
            world.publish("orders:3")
            world.publish(f"orders:{number}")
            wait_until(lambda: world.metrics.gaps_repaired == number, why="the gap is repaired")  # noqa: B023
        assert world.metrics.doubts_widened == 1
        world.settle("orders:1", "orders:2", "orders:3")

    def test_pointer_ttl(self, build: Build) -> None:
        """Emitters find it beside the rules, so it holds for what they publish, too."""
        world = build(limits=replace(LIMITS, pointer_ttl_s=20_000)).connected()
        world.subscribe("orders:looked")
        world.publish("orders:published")
        with world.redis.client() as client:
            for channel in ("orders:looked", "orders:published"):
                assert 19_000 < client.ttl(KEYS.pointer(channel)) <= 20_000
            client.hset(KEYS.rules, ":pointer_ttl_s", "poison")
            world.publish("orders:published")
            assert client.ttl(KEYS.pointer("orders:published")) > 600_000
        world.settle("orders:looked")


class TestAnotherRedis:
    """Restarts: every older cursor yields `recovered: false`, because there is no proof that nothing is missing."""

    @pytest.mark.parametrize("file", ["same", "empty", "older"])
    def test_killed_and_started_again(self, world: World, file: str) -> None:
        world.subscribe("orders:1", "gone:1")
        world.publish("orders:1")
        older = world.redis.save()
        world.keep_publishing("orders:1", "gone:1")
        wait_until(lambda: len(world.sink.publications) > 30)
        cursor = world.broker.position
        assert cursor is not None
        content = None if file == "empty" else older if file == "older" else world.redis.save()
        world.redis.kill()
        wait_until(lambda: not world.broker.state().connected)
        world.redis.replace_file(content)
        world.redis.start()
        back_s = time.monotonic()
        world.connected()
        assert time.monotonic() - back_s < 6
        wait_until(lambda: world.sink.lost_channels() == {"orders:1", "gone:1"}, why="clients are notified")
        assert world.broker.position is not None
        assert world.broker.position.epoch != cursor.epoch
        assert recovered(world, "orders:1", cursor) is None
        before = len(world.sink.publications)
        wait_until(lambda: len(world.sink.publications) > before + 10, why="publications come again")
        world.settle("orders:1", "gone:1")

    def test_down_at_start(self, build: Build) -> None:
        world = build(started=False, limits=replace(LIMITS, timeout_s=0.3))
        with pytest.raises(Unavailable):
            world.broker.subscribe(["orders:1"])
        with pytest.raises(Unavailable):
            world.broker.canary()
        assert world.broker.position is None
        world.redis.start()
        world.connected()
        world.subscribe("orders:1")
        world.settle("orders:1")
        assert world.sink.losses == []
        assert 0 <= world.broker.canary() < 5

    def test_subscribed_channel_is_active_once_redis_is_reachable(self, build: Build) -> None:
        world = build(started=False, limits=replace(LIMITS, timeout_s=20.0))
        waiting = threading.Thread(target=world.subscribe, args=("orders:1",))
        waiting.start()
        world.redis.start()
        waiting.join(20)
        assert not waiting.is_alive()
        world.settle("orders:1")

    def test_emptied_while_running(self, world: World) -> None:
        world.subscribe("orders:1", "gone:1")
        world.publish("orders:1")
        cursor = Cursor.parse(world.publish("gone:1").cursor)
        wait_until(lambda: len(world.sink.publications) == 2)
        with world.redis.client() as client:
            client.flushall()
        wait_until(lambda: world.sink.lost_channels() == {"orders:1", "gone:1"}, why="clients are notified")
        world.settle("orders:1", "gone:1")
        assert recovered(world, "orders:1", cursor) is None
        assert world.metrics.epochs == 1
        assert world.metrics.broker_reconnects == 0

    def test_emptied_while_busy(self, world: World) -> None:
        world.subscribe("orders:1", "orders:2")
        world.keep_publishing("orders:1", "orders:2")
        wait_until(lambda: len(world.sink.publications) > 20)
        with world.redis.client() as client:
            client.flushall()
        wait_until(lambda: world.sink.lost_channels() == {"orders:1", "orders:2"}, why="clients are notified")
        world.settle("orders:1", "orders:2")

    def test_vanished_rules_are_written_again(self, world: World) -> None:
        with world.redis.client() as client:
            client.delete(KEYS.rules)
        world.subscribe("orders:1")
        world.settle("orders:1")
        assert world.sink.losses == []

    def test_session_record_does_not_outlive_its_epoch(self, world: World) -> None:
        """A Redis that may be older than it was may have a note that was taken, or changed, long ago."""
        note = SessionRecord(RecordOperation.CREATE, "key", "one", 60, "u", b"x")
        assert world.broker.write_sessions([note]) == [WriteResult.OK]
        with world.redis.client() as client:
            client.hset(KEYS.meta, mapping={"run_id": "of-another", "checked_ms": 0})
        assert world.broker.write_sessions([replace(note, operation=RecordOperation.TOUCH)]) == [WriteResult.MISSING]
        assert world.broker.claim_session("key", "u") is None
        assert world.broker.write_sessions([replace(note, owner="two")]) == [WriteResult.OK]
        assert world.broker.claim_session("key", "") == ClaimedSession("two", "u", b"x")

    def test_a_sequence_that_goes_backwards_in_the_same_process(self, world: World) -> None:
        world.subscribe("orders:1", "orders:2")
        cursor = [world.publish(f"orders:{1 + number % 2}") for number in range(20)][-1].cursor
        wait_until(lambda: len(world.sink.publications) == 20)
        with world.redis.client() as client:
            client.hset(KEYS.meta, "seq", 3)
        wait_until(lambda: world.sink.lost_channels() == {"orders:1", "orders:2"}, why="clients are notified")
        world.settle("orders:1", "orders:2")
        assert recovered(world, "orders:1", Cursor.parse(cursor)) is None
        assert world.broker.position is not None
        assert world.broker.position.epoch != Cursor.parse(cursor).epoch


class TestLostMessages:
    def test_one_in_the_middle_of_a_busy_channel(self, world: World) -> None:
        world.subscribe("orders:1", "orders:2")
        world.proxy.drop("orders:1", skip=5)
        world.keep_publishing("orders:1", "orders:2")
        wait_until(lambda: world.metrics.gaps_repaired == 1)
        world.settle("orders:1", "orders:2")
        assert (world.proxy.dropped, world.sink.losses) == (1, [])

    def test_several_in_a_row(self, world: World) -> None:
        world.subscribe("orders:1")
        world.proxy.drop("orders:1", skip=2, times=7)
        for _ in range(12):
            world.publish("orders:1")
        world.settle("orders:1")
        assert (world.proxy.dropped, world.sink.losses) == (7, [])

    def test_loss_in_a_volatile_channel_is_reported(self, world: World) -> None:
        world.subscribe("gone:1")
        world.proxy.drop("gone:1", skip=1)
        for _ in range(3):
            world.publish("gone:1")
        wait_until(lambda: world.sink.lost_channels() == {"gone:1"})
        world.settle("gone:1")

    @pytest.mark.parametrize("channel", ["orders:1", "gone:1"])
    def test_the_last_one_before_a_silence(self, world: World, channel: str) -> None:
        """No later publication shows the gap: the position check finds it."""
        world.subscribe(channel)
        world.proxy.drop(channel)
        receipt = world.publish(channel)
        if channel == "orders:1":
            wait_until(lambda: world.sink.ids(channel) == [receipt.id], why="it is repaired")
            assert world.sink.losses == []
        else:
            wait_until(lambda: world.sink.lost_channels() == {channel}, why="the gap is reported")
        assert world.proxy.dropped == 1

    def test_later_cursor_of_another_channel_is_doubted(self, build: Build) -> None:
        """The client's cursor is too far ahead, since it received the later publication of the other channel."""
        world = build(limits=replace(LIMITS, position_check_s=60.0)).connected()
        # The first check runs at once; after it none disturbs.
        wait_until(lambda: world.metrics.position_checks == 1)
        world.subscribe("orders:1", "orders:2")
        early = Cursor.parse(world.publish("orders:2").cursor)
        world.proxy.drop("orders:1")
        dropped = world.publish("orders:1")
        late = Cursor.parse(world.publish("orders:2").cursor)
        wait_until(lambda: len(world.sink.publications) == 2)
        assert recovered(world, "orders:1", late) is None
        assert recovered(world, "orders:2", late) == []
        assert recovered(world, "orders:1", early) == [dropped.id]
        assert world.sink.ids("orders:1") == [dropped.id]
        after = Cursor.parse(world.publish("orders:2").cursor)
        assert recovered(world, "orders:1", after) == []
        world.settle("orders:1", "orders:2")

    def test_loss_while_a_channel_is_activated(self, world: World) -> None:
        """Whatever is lost around a subscription, the subscriber is not deceived."""
        world.proxy.drop("orders:1", times=10)
        world.keep_publishing("orders:1", pause_s=0.001)
        world.subscribe("orders:1")
        wait_until(lambda: len(world.sink.publications) > 20)
        world.settle("orders:1")

    def test_all_faults_for_a_while(self, world: World) -> None:
        world.subscribe("orders:1", "orders:2")
        world.proxy.drop("orders:1", times=-1)
        # Slowly enough for the streams, which keep a hundred.
        world.keep_publishing("orders:1", "orders:2", pause_s=0.02)
        wait_until(lambda: len(world.sink.ids("orders:1")) > 30, why="checks repair what never comes")
        world.proxy.drop_no_more()
        world.settle("orders:1", "orders:2")


def message(seq: int, prev: int, epoch: str, *, id: str = "forged", data: bytes = b"1") -> bytes:
    return b't1 %d %d %b %b 1 - 9 "updated",%b' % (seq, prev, epoch.encode(), id.encode(), data)


class TestPoison:
    def poison(self, world: World, channel: str, messages: Sequence[bytes]) -> None:
        with world.redis.client() as client:
            for item in messages:
                assert client.publish(KEYS.pubsub(channel), item) == 1

    def test_foreign_messages_are_skipped(self, world: World) -> None:
        world.subscribe("orders:1", "orders:2")
        receipt = Cursor.parse(world.publish("orders:1").cursor)
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
            self.poison(world, "orders:1", [item])
            world.publish("orders:1")
            world.publish("orders:2")
        with world.redis.client() as client:
            for item in (b"", b"[]", b"null", b"{}", b"[" * 10_000, b'{"do":' + b"1" * 20_000 + b"}", b"\xff"):
                client.publish(KEYS.control, item)
        world.settle("orders:1", "orders:2")
        assert world.metrics.broker_poisoned == len(poison) + 7
        assert (world.sink.losses, world.sink.controls, world.metrics.broker_reconnects) == ([], [], 0)

    def test_forged_numbers(self, world: World) -> None:
        world.subscribe("orders:1", "gone:1")
        last = Cursor.parse(world.publish("orders:1").cursor)
        loose = Cursor.parse(world.publish("gone:1").cursor)
        wait_until(lambda: len(world.sink.publications) == 2)
        forged = [
            message(last.seq + 1_000_000, last.seq, last.epoch),
            message(last.seq + 100, last.seq + 50, last.epoch),
            message(9_223_372_036_854_775_807, last.seq, last.epoch),
            message(last.seq + 1, last.seq, "anotherepoch"),
            message(1, 0, "anotherepoch"),
        ]
        self.poison(world, "orders:1", forged)
        self.poison(world, "gone:1", [message(loose.seq + 50_000, loose.seq, loose.epoch)])
        world.settle("orders:1", "gone:1")
        assert world.metrics.broker_poisoned == len(forged) + 1
        assert (world.sink.losses, world.metrics.epochs) == ([], 0)

    def test_a_replayed_message_is_dropped(self, world: World) -> None:
        world.subscribe("orders:1")
        world.publish("orders:1")
        with world.redis.client() as client:
            ((_, entry),) = client.xrange(KEYS.stream("orders:1"))
        world.publish("orders:1")
        self.poison(world, "orders:1", [entry[b"m"]] * 3)
        world.settle("orders:1")
        assert (world.metrics.broker_replays, world.sink.losses) == (3, [])

    def test_foreign_entry_in_a_stream_is_a_gap(self, world: World) -> None:
        world.subscribe("orders:1", "orders:2")
        last = Cursor.parse(world.publish("orders:1").cursor)
        world.proxy.refuse()
        wait_until(lambda: not world.broker.state().connected)
        with world.redis.client() as client:
            number = client.hincrby(KEYS.meta, "seq", 1)
            client.xadd(KEYS.stream("orders:1"), {"x": "y" * 10, "m": "z"}, id=f"{number}-0")
            client.set(KEYS.pointer("orders:1"), number)
            client.set(KEYS.stream("orders:2"), "not a stream")
        world.publish("orders:2")
        world.proxy.accept_again()
        world.connected()
        assert recovered(world, "orders:1", last) is None
        world.settle("orders:1", "orders:2")
        assert world.sink.lost_channels() == {"orders:1"}

    def test_a_message_that_never_ends_breaks_the_link_and_not_the_node(self, build: Build) -> None:
        world = build(limits=replace(LIMITS, link_max_bytes=2_000_000)).connected()
        world.subscribe("orders:1")
        self.poison(world, "orders:1", [b"x" * 20_000_000])
        wait_until(lambda: world.metrics.broker_reconnects == 1)
        world.connected()
        world.settle("orders:1")
        assert (world.sink.losses, world.metrics.broker_oversize) == ([], 1)


def test_a_password_is_in_no_state_and_no_error(tmp_path: Path) -> None:
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
