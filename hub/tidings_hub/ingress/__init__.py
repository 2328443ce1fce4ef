"""Ingress: durable queues that nodes consume, and messages of other emitters on Redis (`pubsub`)."""

from __future__ import annotations

from tidings_hub.config.settings import Settings
from tidings_hub.ingress.crash_guard import Acquire
from tidings_hub.ingress.message_intake import Publish
from tidings_hub.ingress.notification_handover import Store
from tidings_hub.ingress.queue import QueueIngress
from tidings_hub.metrics import Metrics

__all__ = ["QueueIngress", "open_ingress"]


def open_ingress(
    settings: Settings,
    publish: Publish,
    store: Store,
    acquire_lease: Acquire,
    metrics: Metrics,
) -> list[QueueIngress]:
    """One ingress for each queue in the settings. Each connects when it is started.

    Raises:
        MissingExtra: kombu is not installed. BadConfig: kombu has no such transport.
    """
    return [
        QueueIngress(
            name,
            source,
            node_id=settings.node_id,
            data_max_bytes=settings.publication_max_bytes,
            publish=publish,
            store=store,
            acquire_lease=acquire_lease,
            # A publish, and the release of its lease.
            attempt_max_s=2 * settings.broker_timeout_s + 1,
            metrics=metrics,
        )
        for name, source in settings.ingress.queues.items()
    ]
