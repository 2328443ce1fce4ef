"""Every broker keeps the same contract about presence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract.presence_contract import LIMITS, Make, Node, PresenceContract, users
from support.processes.redis import RedisProcess
from tidings.publishers.memory.store import MemoryStore
from tidings_hub.brokers.base import Broker
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.brokers.redis import RedisBroker


class TestMemory(PresenceContract):
    @pytest.fixture
    def make(self) -> Make:
        store = MemoryStore()
        return lambda: MemoryBroker(limits=LIMITS, store=store)


class TestRedis(PresenceContract):
    @pytest.fixture
    def make(self, shared_redis: RedisProcess, prefix: str) -> Iterator[Make]:
        brokers: list[Broker] = []

        def make() -> Broker:
            brokers.append(RedisBroker(shared_redis.url, prefix=prefix, limits=LIMITS))
            return brokers[-1]

        yield make
        for broker in brokers:
            broker.stop()

    def test_no_keys_are_left_behind(self, shared_redis: RedisProcess, prefix: str, broker: Broker) -> None:
        node, other = Node(broker, "a", list_max=2), Node(broker, "b")
        node.enter("7", "8", "9")
        node.leave("7", "8", "9")
        other.enter("7", channel="hall:1")
        other.leave("7", channel="hall:1")
        with shared_redis.client() as client:
            names = {name.decode().removeprefix(f"{prefix}{{0}}:") for name in client.scan_iter(f"{prefix}*")}
        pointers = {"p:tidings:presence:room:1", "p:tidings:presence:hall:1"}
        assert names == {"meta", "presence", "presence:leases", "presence:namespaces", *pointers}

    def test_an_emptied_redis_rejects_the_incarnation(self, shared_redis: RedisProcess, prefix: str) -> None:
        broker = RedisBroker(shared_redis.url, prefix=prefix, limits=LIMITS)
        node = Node(broker, "a")
        node.enter("7")
        with shared_redis.client() as client:
            client.delete(*client.scan_iter(f"{prefix}*"))
        assert not node.update().known
        node.name, node.epochs = "a2", [""]
        assert node.enter("7").joined == 1
        assert users(broker) == {"7"}
        broker.stop()
