"""Ingress: durable queues that nodes consume, and messages of other emitters on Redis (`pubsub`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidings.errors import TidingsError
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings_hub.config.settings import Settings
from tidings_hub.ingress.queue import QueueIngress
from tidings_hub.metrics import Metrics

__all__ = ["QueueIngress", "open_ingress"]


def open_ingress(
    settings: Settings,
    publish: Callable[[Sequence[OutgoingPublication]], list[Receipt | TidingsError]],
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
            metrics=metrics,
        )
        for name, source in settings.ingress.queues.items()
    ]
