"""Channels without a publication cost the broker nothing, and a lost pointer is never taken for one of them.

docs/architecture.md#why-horizon has the proof. Each test takes one of its conditions away. Those of evictions are in
test_horizon_evictions.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.broker_contract import LIMITS, RULES, outgoing
from support.history import Listener, Recorder, check
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.publishers.memory.store import MemoryStore
from tidings.receipts import Receipt
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import load_script, pack_call
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.lookup_script import pack_rules
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.core.recovery import Gap, missed_since
from tidings_hub.metrics import Metrics

KEYS = RedisKeys()
FRESH = 2_000


class Node:
    """A node on a Redis of its own. It checks no positions by itself while a test looks."""

    def __init__(self, redis: RedisProcess, recorder: Recorder, limits: BrokerLimits) -> None:
        self.metrics, self.sink = Metrics(), Listener(recorder)
        self.broker = RedisBroker(redis.url, limits=limits, metrics=self.metrics)
        self.broker.write_rules(RULES)
        self.broker.start(self.sink)
        wait_until(lambda: self.broker.state().connected, why="the node connects")
        self.redis: Any = redis.client()

    def publish(self, channel: str) -> Cursor:
        item = outgoing(channel)
        self.sink.recorder.note("backend", "sending", channel, id=item.id)
        (answer,) = self.broker.publish_many([item])
        assert isinstance(answer, Receipt), answer
        self.sink.recorder.acked("backend", channel, item.id, answer)
        return Cursor.parse(answer.cursor)

    def subscribe(self, *channels: str) -> None:
        self.broker.subscribe(channels)
        for channel in channels:
            self.sink.recorder.note("node", "subscribed", channel, cursor=str(self.broker.position))

    def has_recovered(self, channel: str, cursor: Cursor) -> bool:
        past = self.broker.read_since([channel], cursor, limit=100)
        return not isinstance(missed_since(cursor, past.position, past.channels[channel], limit=100), Gap)

    def key_names(self) -> set[bytes]:
        return set(self.redis.keys(KEYS.base + b"*"))


SELDOM = replace(LIMITS, position_check_s=3600.0)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path / "history.jsonl")
    yield recorder
    recorder.close()
    assert check(recorder.path) == []


@pytest.fixture
def node(redis: RedisProcess, recorder: Recorder) -> Iterator[Node]:
    node = Node(redis, recorder, SELDOM)
    yield node
    node.broker.stop()
    node.redis.close()


class TestNothingIsWritten:
    def test_fresh_channel_names_leave_no_key(self, node: Node) -> None:
        before = node.key_names()
        for start in range(0, FRESH, 100):
            names = [f"orders:fresh-{number}" for number in range(start, start + 100)]
            node.broker.subscribe(names)
            node.broker.read_since(names, node.broker.position, limit=10)
            node.broker.unsubscribe(names)
        wait_until(lambda: node.broker.state().channels == 0, why="the channels are unsubscribed")
        assert node.key_names() - before == set()

    def test_fresh_channel_names_leave_nothing_in_memory(self, recorder: Recorder) -> None:
        store = MemoryStore()
        broker = MemoryBroker(limits=SELDOM, store=store)
        broker.write_rules(RULES)
        broker.start(Listener(recorder))
        try:
            names = [f"orders:fresh-{number}" for number in range(FRESH)]
            broker.subscribe(names)
            broker.read_since(names, broker.position, limit=10)
            assert store.channels_stored == 0
        finally:
            broker.stop()

    def test_a_channel_without_publications_is_recovered(self, node: Node) -> None:
        start = node.publish("orders:other")
        node.subscribe("orders:new")
        node.publish("orders:other")
        assert node.has_recovered("orders:new", start)

    def test_first_publication_reaches_nodes_that_subscribed_at_different_times(
        self, node: Node, redis: RedisProcess, tmp_path: Path
    ) -> None:
        recorder = Recorder(tmp_path / "other.jsonl")
        other = Node(redis, recorder, replace(LIMITS, position_check_s=0.1))
        try:
            start = node.publish("orders:other")
            node.subscribe("orders:new", "gone:new")
            node.publish("orders:other")
            other.subscribe("orders:new", "gone:new")
            checks = other.metrics.position_checks
            wait_until(lambda: other.metrics.position_checks > checks + 2, why="the positions are checked")
            ends = [node.publish(channel) for channel in ("orders:new", "gone:new", "orders:other", "orders:new")]
            for reader in (node, other):
                wait_until(lambda: reader.sink.ids("orders:new")[1:] and reader.sink.ids("gone:new"))  # noqa: B023
                assert (reader.sink.losses, reader.metrics.gaps) == ([], 0)
            assert node.has_recovered("orders:new", start)
            assert node.has_recovered("gone:new", ends[1])
            assert not node.has_recovered("gone:new", start)
        finally:
            other.broker.stop()
            recorder.close()

    def test_lost_first_publication_of_a_channel_is_repaired(self, node: Node) -> None:
        node.subscribe("orders:new")
        node.publish("orders:other")
        # Stored and not sent, as on a link that lost it.
        node.redis.client_kill_filter(_type="pubsub")
        first = node.publish("orders:new")
        wait_until(lambda: node.sink.ids("orders:new"), why="the first publication is repaired")
        assert node.sink.losses == []
        assert node.has_recovered("orders:new", first)


class TestStreams:
    """Redis reserves 4 KiB for the first node of a stream. A channel with little history does not need them."""

    def bytes_each(self, node: Node, count: int) -> float:
        before = node.redis.info("memory")["used_memory"]
        items = [outgoing(f"orders:{number}", data=b'"%b"' % (b"x" * 200), idempotency_s=0) for number in range(count)]
        for start in range(0, count, 100):
            assert all(isinstance(answer, Receipt) for answer in node.broker.publish_many(items[start : start + 100]))
        return float(node.redis.info("memory")["used_memory"] - before) / count

    def test_channel_with_one_publication_costs_less_than_a_kilobyte(self, node: Node) -> None:
        assert self.bytes_each(node, FRESH) < 1_000

    @pytest.mark.parametrize("refused", ["-copy", "-rename"])
    def test_stream_stays_as_it_is_where_copies_are_refused(self, node: Node, refused: str) -> None:
        node.redis.acl_setuser("default", enabled=True, commands=[refused], keys=["*"], channels=["*"], nopass=True)
        start = node.publish("orders:1")
        node.publish("orders:1")
        assert node.has_recovered("orders:1", start)
        assert len(node.broker.history("orders:1", since=None, limit=9, newest=False)[1]) == 2
        assert not [name for name in node.key_names() if name.endswith(b":copy")]

    def test_stream_expires_with_its_rule(self, node: Node) -> None:
        for _ in range(3):
            node.publish("orders:1")
            assert 3_500 < node.redis.ttl(KEYS.stream("orders:1")) <= 3_600
        assert not [name for name in node.key_names() if name.endswith(b":copy")]


class TestLostPointers:
    """What was published, or may have been, is never `recovered: true`, whatever took the pointer."""

    @pytest.fixture
    def start(self, node: Node) -> Cursor:
        """A cursor after which something was published in `orders:1` and `gone:1`, and nothing in `orders:quiet`."""
        start = node.publish("orders:other")
        node.publish("orders:1")
        node.publish("gone:1")
        assert node.has_recovered("orders:quiet", start)
        return start

    def assert_past_is_unknown(self, node: Node, start: Cursor) -> None:
        """`gone:1` has lost its pointer, and `orders:quiet` never had one: the node cannot know which is which."""
        node.redis.delete(KEYS.pointer("gone:1"))
        now = node.publish("orders:other")
        assert not any(node.has_recovered(name, start) for name in ("gone:1", "orders:quiet"))
        assert node.has_recovered("orders:quiet", now)

    def test_expired_pointers(self, node: Node, start: Cursor) -> None:
        """What expired is as old as the marks that are dropped with it."""
        marks = node.redis.hget(KEYS.meta, "marks").split()
        node.redis.hset(KEYS.meta, "marks", b" ".join([marks[0], marks[1], b"1"]))
        self.assert_past_is_unknown(node, start)

    def test_clock_of_redis_that_went_back(self, node: Node, start: Cursor) -> None:
        ahead_ms = (int(node.redis.time()[0]) + LIMITS.pointer_ttl_s) * 1000
        node.redis.hset(KEYS.meta, "checked_ms", ahead_ms)
        self.assert_past_is_unknown(node, start)

    def test_pointers_that_live_shorter(self, node: Node, start: Cursor) -> None:
        run(node, pack_rules(KEYS, {b"*": b"10 60"}, replace(LIMITS, pointer_ttl_s=LIMITS.pointer_ttl_s + 1)))
        assert node.has_recovered("orders:quiet", start)
        run(node, pack_rules(KEYS, {b"*": b"10 60"}, LIMITS))
        self.assert_past_is_unknown(node, start)

    def test_hub_that_has_not_said_how_long_pointers_live(self, node: Node, start: Cursor) -> None:
        node.redis.hdel(KEYS.meta, "pointer_ttl_s", "marks")
        self.assert_past_is_unknown(node, start)

    def test_deleted_pointer_beside_a_stream(self, node: Node, start: Cursor) -> None:
        node.redis.delete(KEYS.pointer("orders:1"))
        assert not node.has_recovered("orders:1", start)
        assert node.has_recovered("orders:1", node.publish("orders:other"))

    def test_another_epoch(self, node: Node, start: Cursor) -> None:
        node.redis.hset(KEYS.meta, mapping={"epoch": "another", "seq": start.seq + 1000})
        later = Cursor("another", start.seq + 500)
        wait_until(lambda: str(node.broker.position).startswith("another"), why="the node follows")
        assert not node.has_recovered("orders:quiet", later)


def run(node: Node, packed: bytes) -> None:
    connection = node.redis.connection_pool.get_connection()
    connection.send_packed_command([packed])
    assert connection.read_response() == 1
    node.redis.connection_pool.release(connection)


def test_many_first_publications_at_once(node: Node) -> None:
    """Channels of one batch, published by several backends, while the node subscribes: none is lost or reported."""
    names = [f"orders:fresh-{number}" for number in range(400)]
    node.publish("orders:other")

    def work(part: list[str]) -> None:
        for name in part:
            node.subscribe(name)
            node.publish(name)

    workers = [threading.Thread(target=work, args=(names[number::4],)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    wait_until(lambda: all(node.sink.ids(name) for name in names), why="all first publications arrive")
    assert (node.sink.losses, node.metrics.gaps) == ([], 0)


def test_call_of_the_rules_names_meta_and_rules() -> None:
    assert pack_call(load_script("tidings_hub.brokers", "rules.lua"), (KEYS.meta, KEYS.rules), ())[:4] == b"*5\r\n"
