"""Where nodes meet: memory for one node, Redis or a Redis Cluster for several."""

from __future__ import annotations

from tidings_hub.brokers.base import Broker, BrokerLimits
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics

# What a message has besides its data: numbers, epoch, id, and the event's name in JSON.
_HEAD_MAX_BYTES = 2_048


def open_broker(settings: Settings, metrics: Metrics | None = None) -> Broker:
    """The broker that the settings name. It connects when it is started.

    Raises:
        BadConfig: the URL or the prefix is none.
    """
    limits = broker_limits(settings)
    if settings.broker.startswith("memory://"):
        from tidings_hub.brokers.memory import MemoryBroker

        return MemoryBroker(settings.broker, limits=limits, metrics=metrics)
    from tidings_hub.brokers.cluster import ClusterBroker
    from tidings_hub.brokers.redis import RedisBroker

    make = ClusterBroker if settings.broker.startswith(("redis+cluster://", "rediss+cluster://")) else RedisBroker
    return make(settings.broker, prefix=settings.prefix, node_id=settings.node_id, limits=limits, metrics=metrics)


def broker_limits(settings: Settings) -> BrokerLimits:
    """The broker's bounds, from the settings of the same meaning."""
    return BrokerLimits(
        message_max_bytes=settings.publication_max_bytes + _HEAD_MAX_BYTES,
        repair_max=settings.recovery_max,
        repair_max_bytes=settings.repair_max_bytes,
        recovery_max_bytes=settings.recovery_max_bytes,
        early_max=settings.early_max,
        held_max_bytes=settings.held_max_bytes,
        link_max_bytes=settings.link_max_bytes,
        doubts_max=settings.doubts_max,
        pointer_ttl_s=settings.pointer_ttl_s,
        timeout_s=settings.broker_timeout_s,
        linger_s=settings.linger_s,
        position_check_s=settings.position_check_s,
        canary_timeout_s=settings.canary_timeout_s,
    )
