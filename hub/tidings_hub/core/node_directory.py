"""Which node owns a session, and at which address that node is reached. Leases decide it.

A node registers its address in the broker for `lease_s` seconds and renews that lease well before it ends.
The lease of a killed node ends by itself. A node that shuts down gives its lease up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Length of the random part of a session id: 15 bytes in base64. The part before it is the node's id.
SID_TAIL: Final = 20
_SID = re.compile(r"([A-Za-z0-9_-]{1,40})[A-Za-z0-9_-]{20}")


def owner_of(sid: str) -> str:
    """The id of the node that created this session id; empty if the text is no session id."""
    match = _SID.fullmatch(sid)
    return "" if match is None else match[1]


@dataclass(frozen=True, slots=True)
class NodeLease:
    """The address of a node and the seconds that its lease still lasts. Without an address: the node gave it up."""

    address: str
    left_s: float


@dataclass(frozen=True, slots=True)
class NodeLeases:
    """All nodes with a lease, and those that gave one up recently. `now_s`: the broker's clock (unix time)."""

    now_s: float
    by_node: dict[str, NodeLease]


@dataclass(slots=True)
class _KnownNode:
    address: str
    until_s: float


class NodeDirectory:
    """The addresses of the other nodes.

    `siblings` are nodes of the same supervisor: their addresses are always right. For the other nodes, the last
    `update` counts. While the broker has been unreachable for longer than `silent_s`, no lease ends: this node cannot
    know which nodes have ended, and a node that has ended rejects connections anyway.
    All times are of the caller's monotonic clock.
    """

    def __init__(self, own_id: str, siblings: Mapping[str, str], *, silent_s: float) -> None:
        self.own_id = own_id
        self._siblings = {name: address for name, address in siblings.items() if name != own_id}
        self._silent_s = silent_s
        self._known: dict[str, _KnownNode] = {}
        self._updated_s: float | None = None

    def __len__(self) -> int:
        """The number of other nodes that are known."""
        return len(self._known.keys() | self._siblings.keys())

    def update(self, leases: NodeLeases, *, now_s: float) -> list[str]:
        """Apply the leases that the broker returned; returns the ids of nodes that have ended.

        A node that is missing in `leases` keeps the rest of its lease: a broker that lost its data returns no nodes.
        """
        self._updated_s = now_s
        for name, lease in leases.by_node.items():
            if name != self.own_id and lease.address:
                self._known[name] = _KnownNode(lease.address, now_s + lease.left_s)
        ended_ids = [
            name
            for name, known in self._known.items()
            if known.until_s <= now_s or (name in leases.by_node and not leases.by_node[name].address)
        ]
        for name in ended_ids:
            del self._known[name]
        return [name for name in ended_ids if name not in self._siblings]

    def find(self, name: str, *, now_s: float) -> str | None:
        """The address of a node; None if it has no lease."""
        if name in self._siblings:
            return self._siblings[name]
        known = self._known.get(name)
        if known is None or self._updated_s is None:
            return None
        is_broker_silent = now_s - self._updated_s > self._silent_s
        return known.address if is_broker_silent or now_s < known.until_s else None

    def owner_elsewhere(self, sid: str) -> str:
        """The id of the other node that owns `sid`; empty if this node owns it, or no node."""
        owner = owner_of(sid)
        return "" if owner == self.own_id else owner

    def siblings(self) -> dict[str, str]:
        """The other nodes of the same supervisor and their addresses."""
        return dict(self._siblings)
