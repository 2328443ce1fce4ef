"""Brokers: memory for one node, Redis or a Redis Cluster for several."""

from __future__ import annotations

from tidings_hub.brokers.base import Broker, BrokerLimits
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics


def open_broker(settings: Settings, limits: BrokerLimits, metrics: Metrics | None = None) -> Broker:
    """The broker of the settings. It connects when it is started.

    Raises:
        BadConfig: the URL or the prefix is invalid.
    """
    if settings.broker.startswith("memory://"):
        from tidings_hub.brokers.memory import MemoryBroker

        return MemoryBroker(settings.broker, limits=limits, metrics=metrics)
    from tidings_hub.brokers.cluster import ClusterBroker
    from tidings_hub.brokers.redis import RedisBroker

    make = ClusterBroker if settings.broker.startswith(("redis+cluster://", "rediss+cluster://")) else RedisBroker
    return make(settings.broker, prefix=settings.prefix, node_id=settings.node_id, limits=limits, metrics=metrics)
