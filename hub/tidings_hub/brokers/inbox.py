"""Classifies a pub/sub message: a publication, doubted cursors, a control message, a canary, or a foreign message.

A foreign message is one that no tidings program sent. It is counted, logged once a minute, and skipped.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Container
from typing import Any

from tidings.errors import BadPacket
from tidings.redis_client.keys import RedisKeys
from tidings.wire.publication import Publication, decode
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.doubts.doubt_script import DoubtMessage, read_message
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
    ) -> None:
        self._live = keys.live
        self._control_name = keys.control
        self._doubts_name = keys.doubts
        self.canary_channel = f"canary:{node_id}"
        self.canary_name = keys.pubsub(self.canary_channel)
        self.canaries: dict[bytes, threading.Event] = {}
        self._limits = limits
        self._metrics = metrics

    def channel(self, name: bytes) -> str | None:
        """The channel of a pub/sub name; None for control messages, canaries and foreign names."""
        if name == self.canary_name or not name.startswith(self._live):
            return None
        return name[len(self._live) :].decode("ascii", "replace")

    def publication(self, item: Any, *, among: Container[str] | None = None) -> Publication | None:
        """The publication in an item that hiredis parsed; None for anything else. A foreign message is counted.

        `among`: only a publication of these channels, and without counting, because the item is processed later.
        """
        if not (isinstance(item, list) and len(item) == 3 and item[0] == b"message"):
            return None
        channel = self.channel(item[1])
        if channel is None or (among is not None and channel not in among):
            return None
        try:
            return decode(channel, item[2], max_bytes=self._limits.message_max_bytes)
        except BadPacket as error:
            if among is None:
                self.count_foreign(str(error), channel)
            return None

    def doubts(self, item: Any) -> DoubtMessage | None:
        """The doubted cursors in an item that is no publication; None for anything else."""
        if not (isinstance(item, list) and len(item) == 3 and item[0] == b"message" and item[1] == self._doubts_name):
            return None
        try:
            return read_message(item[2])
        except BadPacket as error:
            self.count_foreign(str(error), "doubts")
            return None

    def count_foreign(self, cause: str, channel: str) -> None:
        """Count a foreign message, and log it at most once a minute."""
        self._metrics.broker_poisoned += 1
        log_rate_limited(logger, logging.WARNING, "poison", "skipped a message in %s: %s", channel, cause)

    def command(self, item: Any) -> dict[str, object] | None:
        """The command in a message that is no publication; None for a canary, which wakes its greenlet."""
        name, message = item[1], item[2]
        if name == self.canary_name:
            # The token is the body of a publication, at its end.
            event = self.canaries.get(message.rpartition(b" ")[2])
            if event is not None:
                event.set()
        elif name == self._control_name:
            return self._read_command(message)
        return None

    def _read_command(self, message: bytes) -> dict[str, object] | None:
        try:
            control = json.loads(message) if len(message) <= CONTROL_MAX_BYTES else None
        except (ValueError, RecursionError):
            control = None
        if isinstance(control, dict) and isinstance(control.get("do"), str):
            return control
        self.count_foreign("not a control message of tidings", "control")
        return None
