"""Every broker fulfils the same contract."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from contract.broker_contract import LIMITS, RULES, BrokerContract, Make, Node, outgoing
from support.history import Listener, Recorder
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.publishers.memory.store import MemoryStore
from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import Broker, BrokerLimits
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.core.recovery import Gap, missed_since


class PausedListener(Listener):
    """A sink whose first delivery takes until `may_continue` is set."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.has_begun, self.may_continue = threading.Event(), threading.Event()

    def deliver(self, publications: list[Publication]) -> None:
        self.has_begun.set()
        self.may_continue.wait(LIMITS.timeout_s)
        super().deliver(publications)


class TestMemory(BrokerContract):
    @pytest.fixture
    def make(self) -> Make:
        def new_broker(limits: BrokerLimits) -> Broker:
            return MemoryBroker(limits=limits, store=MemoryStore())

        return new_broker

    def test_subscription_waits_for_a_delivery_that_has_begun(self, make: Make, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path / "history.jsonl")
        sink = PausedListener(recorder)
        broker = make(LIMITS)
        broker.write_rules(RULES)
        broker.start(sink)
        try:
            broker.subscribe(["orders:1"])
            broker.publish_many([outgoing("orders:1")])
            assert sink.has_begun.wait(LIMITS.timeout_s)
            waiting = threading.Thread(target=broker.subscribe, args=(["orders:2"],))
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()
            sink.may_continue.set()
            waiting.join(LIMITS.timeout_s)
            assert not waiting.is_alive()
            assert len(sink.publications) == 1
        finally:
            sink.may_continue.set()
            broker.stop()
            recorder.close()


class TestRedis(BrokerContract):
    def test_clients_that_missed_the_same_share_one_read(self, node: Node, shared_redis: RedisProcess) -> None:
        broker = node.broker
        assert isinstance(broker, RedisBroker)
        node.subscribe("orders:1")
        start = Cursor.parse(node.publish("orders:1").cursor)
        for _ in range(50):
            node.publish("orders:1")
        before = scripts_run(shared_redis)
        lookups = [broker.submit_read_since(["orders:1"], start, limit=100) for _ in range(300)]
        snapshots = [broker.wait_for(lookup).channels["orders:1"] for lookup in lookups]
        assert {len(snapshot.publications) for snapshot in snapshots} == {50}
        # The lookups also check the broker now and then. The first one may start before the others are submitted.
        assert scripts_run(shared_redis) - before <= 10
        assert len({id(snapshot) for snapshot in snapshots}) <= 10

    def test_shared_read_keeps_the_doubts_of_each_client(
        self, node: Node, prefix: str, shared_redis: RedisProcess
    ) -> None:
        broker = node.broker
        assert isinstance(broker, RedisBroker)
        node.subscribe("orders:1")
        cursors = [Cursor.parse(node.publish("orders:1").cursor) for _ in range(10)]
        doubts = {"@": cursors[0].epoch, "*": f"{cursors[1].seq} {cursors[2].seq}"}
        doubts["orders:1"] = f"{cursors[5].seq} {cursors[6].seq}"
        with shared_redis.client() as client:
            client.hset(RedisKeys(prefix).doubts, mapping=doubts)
        lookups = [broker.submit_read_since(["orders:1"], cursor, limit=100) for cursor in cursors]
        results = []
        for cursor, lookup in zip(cursors, lookups, strict=True):
            snapshot = broker.wait_for(lookup)
            results.append(missed_since(cursor, snapshot.position, snapshot.channels["orders:1"], limit=100))
        for number in (1, 2, 5, 6):
            assert results[number] == Gap("doubted")
        for number in (7, 8, 9):
            assert isinstance(results[number], list)

    def test_recoveries_together_stay_within_the_bytes_of_one_read(self, make: Make, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path / "small.jsonl")
        small = replace(LIMITS, recovery_max_bytes=2_000, recovery_round_max_bytes=4_000)
        broker = make(small)
        assert isinstance(broker, RedisBroker)
        broker.write_rules(RULES)
        broker.start(Listener(recorder))
        try:
            wait_until(lambda: broker.state().connected, why="the broker connects")
            names = [f"orders:{number}" for number in range(12)]
            start = broker.read_since(names, None, limit=1).position
            broker.publish_many([outgoing(name, data=b'"%b"' % (b"x" * 1_000)) for name in names])
            lookups = [broker.submit_read_since([name], start, limit=10) for name in names]
            for name, lookup in zip(names, lookups, strict=True):
                snapshot = broker.wait_for(lookup)
                missed = missed_since(start, snapshot.position, snapshot.channels[name], limit=10)
                assert isinstance(missed, list), missed
                assert len(missed) == 1
            # One caller alone: what does not fit is a gap.
            snapshot = broker.read_since(names, start, limit=10)
            results = [missed_since(start, snapshot.position, snapshot.channels[name], limit=10) for name in names]
            assert sum(isinstance(result, list) for result in results) == 3
        finally:
            broker.stop()
            recorder.close()

    def test_recovery_is_not_cut_because_another_one_reads_more_of_its_channels(
        self, make: Make, tmp_path: Path
    ) -> None:
        recorder = Recorder(tmp_path / "deep.jsonl")
        broker = make(replace(LIMITS, recovery_max_bytes=4_000, recovery_round_max_bytes=6_000))
        assert isinstance(broker, RedisBroker)
        broker.write_rules(RULES)
        broker.start(Listener(recorder))
        try:
            wait_until(lambda: broker.state().connected, why="the broker connects")
            names = [f"orders:{number}" for number in range(4)]
            old = broker.read_since(names, None, limit=1).position
            for _ in range(3):
                broker.publish_many([outgoing(name, data=b'"%b"' % (b"x" * 1_000)) for name in names])
            late = broker.read_since(names, None, limit=1).position
            for name in names:
                broker.publish(name, outgoing(name).body, id="", idempotency_s=0)
            # Both wait for the same round, and the second one reads more of each channel than fits the round.
            first = broker.submit_read_since(names, late, limit=10)
            broker.submit_read_since(names, old, limit=10)
            snapshot = broker.wait_for(first)
            results = [missed_since(late, snapshot.position, snapshot.channels[name], limit=10) for name in names]
            assert [len(result) for result in results if isinstance(result, list)] == [1, 1, 1, 1]
        finally:
            broker.stop()
            recorder.close()

    @pytest.fixture
    def make(self, shared_redis: RedisProcess, prefix: str) -> Make:
        def new_broker(limits: BrokerLimits) -> Broker:
            return RedisBroker(shared_redis.url, prefix=prefix, limits=limits)

        return new_broker


def scripts_run(redis: RedisProcess) -> int:
    """Scripts that Redis has run since its start."""
    with redis.client() as client:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])
