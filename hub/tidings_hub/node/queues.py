"""The bounds on clients that wait for this node, filled from `Settings`."""

from __future__ import annotations

from tidings_hub import runtime
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics
from tidings_hub.services.connect_queue import ConnectQueue
from tidings_hub.socketio.packet_inbox import InboxBounds


def connect_queue(settings: Settings, metrics: Metrics) -> ConnectQueue:
    """The clients that wait for the answer to their CONNECT."""
    return ConnectQueue(
        waits_max=settings.connect_queue,
        timeout_s=settings.connect_queue_timeout_s,
        pause_max_s=settings.refusal_pause_max_s,
        metrics=metrics,
        now_s=runtime.now_s,
    )


def inbox_bounds(settings: Settings, metrics: Metrics) -> InboxBounds:
    """The events that wait for earlier ones of the same client."""
    return InboxBounds(
        packets_max=settings.inbox_packets_max,
        max_bytes=settings.inbox_max_bytes,
        total_max_bytes=settings.inboxes_max_bytes,
        metrics=metrics,
    )
