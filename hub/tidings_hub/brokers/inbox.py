"""Classifies a pub/sub message: a publication, a control message, a canary, or a foreign message.

A foreign message is one that no tidings program sent. It is counted, logged once a minute, and skipped.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from tidings.errors import BadPacket
from tidings.redis_client.keys import RedisKeys
from tidings.wire.publication import Publication, decode
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

CONTROL_MAX_BYTES = 16_384


class Inbox:
    """Decodes messages. Only the reader calls it. Other greenlets register their events in `canaries`."""

    def __init__(
        self,
        keys: RedisKeys,
        node_id: str,
        limits: BrokerLimits,
        metrics: Metrics,
        deliver_control: Callable[[dict[str, object]], None],
    ) -> None:
        self._live = keys.live
        self._control_name = keys.control
        self.canary_name = keys.pubsub(f"canary:{node_id}")
        self.canaries: dict[bytes, threading.Event] = {}
        self._limits = limits
        self._metrics = metrics
        self._deliver_control = deliver_control

    def channel(self, name: bytes) -> str | None:
        """The channel of a pub/sub name; None for control messages, canaries and foreign names."""
        if name == self.canary_name or not name.startswith(self._live):
            return None
        return name[len(self._live) :].decode("ascii", "replace")

    def publication(self, item: Any, *, count: bool = True) -> Publication | None:
        """The publication in an item that hiredis parsed; None for anything else. `count`: count foreign messages."""
        if not (isinstance(item, list) and len(item) == 3 and item[0] == b"message"):
            return None
        channel = self.channel(item[1])
        if channel is None:
            return None
        try:
            return decode(channel, item[2], max_bytes=self._limits.message_max_bytes)
        except BadPacket as error:
            if count:
                self.count_foreign(str(error), channel)
            return None

    def count_foreign(self, cause: str, channel: str) -> None:
        """Count a foreign message, and log it at most once a minute."""
        self._metrics.broker_poisoned += 1
        log_rate_limited(logger, logging.WARNING, "poison", "skipped a message in %s: %s", channel, cause)

    def on_control(self, item: Any) -> None:
        """Deliver a control message, or wake the greenlet that waits for this canary."""
        name, message = item[1], item[2]
        if name == self.canary_name:
            event = self.canaries.get(message)
            if event is not None:
                event.set()
        elif name == self._control_name:
            self._read_control(message)

    def _read_control(self, message: bytes) -> None:
        try:
            control = json.loads(message) if len(message) <= CONTROL_MAX_BYTES else None
        except (ValueError, RecursionError):
            control = None
        if isinstance(control, dict) and isinstance(control.get("do"), str):
            self._deliver_control(control)
        else:
            self.count_foreign("not a control message of tidings", "control")
