"""Every broker fulfils the same contract."""

from __future__ import annotations

import pytest

from contract.broker_contract import BrokerContract, Make
from support.processes.redis import RedisProcess
from tidings.publishers.memory.store import MemoryStore
from tidings_hub.brokers.base import Broker, BrokerLimits
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.brokers.redis import RedisBroker


class TestMemory(BrokerContract):
    @pytest.fixture
    def make(self) -> Make:
        def new_broker(limits: BrokerLimits) -> Broker:
            return MemoryBroker(limits=limits, store=MemoryStore())

        return new_broker


class TestRedis(BrokerContract):
    @pytest.fixture
    def make(self, shared_redis: RedisProcess, prefix: str) -> Make:
        def new_broker(limits: BrokerLimits) -> Broker:
            return RedisBroker(shared_redis.url, prefix=prefix, limits=limits)

        return new_broker
