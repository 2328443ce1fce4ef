"""What a pub/sub message is: a publication, a control message, a canary, or poison.

Poison is whatever is not tidings' own: it is counted, logged once a minute, and skipped.
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
    """Tells messages apart. Only the reader calls it, but for `canaries`."""

    def __init__(
        self,
        keys: RedisKeys,
        node_id: str,
        limits: BrokerLimits,
        metrics: Metrics,
        control: Callable[[dict[str, object]], None],
    ) -> None:
        self._live = keys.live
        self._control_name = keys.control
        self.canary_name = keys.pubsub(f"canary:{node_id}")
        self.canaries: dict[bytes, threading.Event] = {}
        self._limits = limits
        self._metrics = metrics
        self._control = control

    def channel(self, name: bytes) -> str | None:
        """The channel of a pub/sub name; None for control, canaries and what is not ours."""
        if name == self.canary_name or not name.startswith(self._live):
            return None
        return name[len(self._live) :].decode("ascii", "replace")

    def publication(self, item: Any, *, count: bool = True) -> Publication | None:
        """The publication in what hiredis parsed, if it is one."""
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

    def count_foreign(self, what: str, where: str) -> None:
        """Count a message that is not ours, and say so once a minute."""
        self._metrics.broker_poisoned += 1
        log_rate_limited(logger, logging.WARNING, "poison", "skipped %s in %s", what, where)

    def on_control(self, item: Any) -> None:
        """Deal with a canary or a control message."""
        name, message = item[1], item[2]
        if name == self.canary_name:
            event = self.canaries.get(message)
            if event is not None:
                event.set()
        elif name == self._control_name:
            self._read_control(message)

    def _read_control(self, message: bytes) -> None:
        try:
            found = json.loads(message) if len(message) <= CONTROL_MAX_BYTES else None
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("do"), str):
            self._control(found)
        else:
            self.count_foreign("a control message that is not tidings'", "control")
