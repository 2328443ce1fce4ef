"""What one client sent, and its disconnect, while another packet of it is handled."""

from __future__ import annotations

from collections import deque

from tidings_hub.socketio.packet import Packet

# Packets of one connection that wait while another one is handled. Each was within the client's inbound rate, so a
# client with more is closed as `full`: this node is too slow for it.
INBOX_MAX = 1000
# Memory of these packets, about: data can use twenty times as much as what the client sent.
INBOX_MAX_BYTES = 16_777_216


class PacketInbox:
    """Packets in the order of receipt, and the reason of a disconnect as text. It begins with one of them."""

    __slots__ = ("_memory_bytes", "_waiting")

    def __init__(self, first: Packet | str) -> None:
        self._waiting = deque((first,))
        self._memory_bytes = _memory_bytes(first)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def first(self) -> Packet | str:
        """The next one, which stays."""
        return self._waiting[0]

    def add(self, work: Packet | str) -> bool:
        """Append. False: there is no room for the packet. A disconnect always has room, and so has a single packet."""
        memory_bytes = self._memory_bytes + _memory_bytes(work)
        is_full = len(self._waiting) >= INBOX_MAX or memory_bytes > INBOX_MAX_BYTES
        if is_full and self._waiting and not isinstance(work, str):
            return False
        self._waiting.append(work)
        self._memory_bytes = memory_bytes
        return True

    def pop(self) -> Packet | str:
        """Remove the next one and return it."""
        work = self._waiting.popleft()
        self._memory_bytes -= _memory_bytes(work)
        return work

    def clear(self) -> None:
        """Remove all."""
        self._waiting.clear()
        self._memory_bytes = 0


def _memory_bytes(work: Packet | str) -> int:
    return 0 if isinstance(work, str) else work.memory_bytes
