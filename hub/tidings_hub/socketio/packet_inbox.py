"""What one client sent, and its disconnect, while another packet of it is handled."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.socketio.packet import Packet

logger = logging.getLogger("tidings.socketio")
# A search visits every client, so it frees this share of the bound at once.
_SHED_SHARE = 8


class PacketInbox:
    """Packets in the order of receipt, and the reason of a disconnect as text. It begins with one of them."""

    __slots__ = ("_bounds", "_waiting", "memory_bytes")

    def __init__(self, first: Packet | str, bounds: InboxBounds) -> None:
        self._bounds = bounds
        self._waiting = deque((first,))
        self.memory_bytes = _memory_bytes(first)
        bounds.total_bytes += self.memory_bytes

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def first(self) -> Packet | str:
        """The next one, which stays."""
        return self._waiting[0]

    def add(self, work: Packet | str) -> bool:
        """Append. False: there is no room for the packet. A disconnect always has room, and so has a single packet."""
        bounds, added_bytes = self._bounds, _memory_bytes(work)
        memory_bytes = self.memory_bytes + added_bytes
        is_full = len(self._waiting) >= bounds.packets_max or memory_bytes > bounds.max_bytes
        if is_full and self._waiting and not isinstance(work, str):
            return False
        self._waiting.append(work)
        self.memory_bytes = memory_bytes
        bounds.total_bytes += added_bytes
        return True

    def pop(self) -> Packet | str:
        """Remove the next one and return it."""
        work = self._waiting.popleft()
        removed_bytes = _memory_bytes(work)
        self.memory_bytes -= removed_bytes
        self._bounds.total_bytes -= removed_bytes
        return work

    def clear(self) -> None:
        """Remove all."""
        self._waiting.clear()
        self._bounds.total_bytes -= self.memory_bytes
        self.memory_bytes = 0

    def drop_packets(self) -> None:
        """Remove all packets. The reason of a disconnect stays."""
        reasons = [work for work in self._waiting if isinstance(work, str)]
        self.clear()
        self._waiting.extend(reasons)


class WaitingClient(Protocol):
    """A client whose packets may wait."""

    inbox: PacketInbox | None

    def end(self, code: str) -> None:
        """Close the connection with a code of `tidings.codes`. Idempotent."""


class InboxBounds:
    """How much may wait, and how much does, about: data can use twenty times as much as what the client sent.

    Each packet was within the client's inbound rate, so this node is too slow for its clients. Those that are closed
    reconnect (`full`).

    `packets_max`, `max_bytes`: of one client. `total_max_bytes`: of all clients of the node.
    """

    __slots__ = ("_metrics", "max_bytes", "packets_max", "total_bytes", "total_max_bytes")

    def __init__(self, *, packets_max: int, max_bytes: int, total_max_bytes: int, metrics: Metrics) -> None:
        self.packets_max = packets_max
        self.max_bytes = max_bytes
        self.total_max_bytes = total_max_bytes
        self.total_bytes = 0
        self._metrics = metrics

    def shed(self, clients: Iterable[WaitingClient]) -> None:
        """Close those with the most waiting bytes, until there is room again."""
        waiting = [(client.inbox.memory_bytes, client, client.inbox) for client in clients if client.inbox is not None]
        waiting.sort(key=lambda entry: entry[0], reverse=True)
        left_max_bytes = self.total_max_bytes - self.total_max_bytes // _SHED_SHARE
        for memory_bytes, client, inbox in waiting:
            if self.total_bytes <= left_max_bytes or not memory_bytes:
                break
            self._metrics.inboxes_shed += 1
            # It adds the reason of the disconnect.
            client.end("full")
            inbox.drop_packets()
        log_rate_limited(
            logger,
            logging.WARNING,
            "inboxes shed",
            "the events that wait for this node took more than inboxes_max_bytes = %d; the clients with the most were"
            " closed with full, and reconnect",
            self.total_max_bytes,
        )


def _memory_bytes(work: Packet | str) -> int:
    return 0 if isinstance(work, str) else work.memory_bytes
