"""Items that the link received while channels are repaired. They are processed after the repair."""

from __future__ import annotations

from collections import deque
from typing import Any

from tidings_hub.brokers.pubsub_link import message_bytes

_CONFIRMATION = b"subscribe"


class HeldItems:
    """Received items in order, with at most `max_bytes` of messages.

    `items`: what was received before and is not processed yet. A message beyond `max_bytes` is dropped and counted in
    `dropped`: its channel has a gap then, which is repaired.

    Confirmations of subscriptions are not held: a ping already shows that they arrived.
    """

    def __init__(self, max_bytes: int, items: deque[Any] | None = None) -> None:
        self.items: deque[Any] = deque() if items is None else items
        self.dropped = 0
        self._free_bytes = max_bytes - sum(message_bytes(item) for item in self.items)

    def add(self, item: Any) -> None:
        """Hold one item, if there is space for it."""
        if isinstance(item, list) and item and item[0] == _CONFIRMATION:
            return
        size_bytes = message_bytes(item)
        if size_bytes > self._free_bytes:
            self.dropped += 1
            return
        self._free_bytes -= size_bytes
        self.items.append(item)
