"""Which node owns a session, and where that node is reached: decided from leases.

A node says in the broker where it is reached, for `lease_s` seconds, and says it again well before they end.
A node that was killed says nothing more, and its lease ends; one that goes away gives its lease up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# The random part of a session id: 15 bytes in base64. What stands before it is the node's id.
SID_TAIL: Final = 20
_SID = re.compile(r"([A-Za-z0-9_-]{1,40})[A-Za-z0-9_-]{20}")


def owner_of(sid: str) -> str:
    """The id of the node that made this session id; empty if no node did."""
    found = _SID.fullmatch(sid)
    return "" if found is None else found[1]


@dataclass(frozen=True, slots=True)
class NodeLease:
    """Where a node is reached, and for how many seconds it has said so. No address: it has given its lease up."""

    address: str
    left_s: float


@dataclass(frozen=True, slots=True)
class NodeLeases:
    """Every node that has a lease, or gave one up a moment ago; `now_s` is the broker's clock (unix)."""

    now_s: float
    by_node: dict[str, NodeLease]


@dataclass(slots=True)
class _KnownNode:
    address: str
    until_s: float


class NodeDirectory:
    """Where the other nodes are reached.

    `beside` are nodes of the same supervisor: their addresses are always right. Of the others the last roll counts.
    While the broker is silent for longer than `silent_s` no lease ends: nobody can know who has gone, and who has
    gone refuses connections anyway. All times are of the caller's monotonic clock.
    """

    def __init__(self, own_id: str, siblings: Mapping[str, str], *, silent_s: float) -> None:
        self.own_id = own_id
        self._siblings = {name: address for name, address in siblings.items() if name != own_id}
        self._silent_s = silent_s
        self._known: dict[str, _KnownNode] = {}
        self._called_s: float | None = None

    def __len__(self) -> int:
        """How many others are known."""
        return len(self._known.keys() | self._siblings.keys())

    def update(self, leases: NodeLeases, *, now_s: float) -> list[str]:
        """Take a roll; returns the ids of those that have gone with it.

        A node that is missing keeps what is left of its lease: a broker that came back empty knows nobody.
        """
        self._called_s = now_s
        for name, lease in leases.by_node.items():
            if name != self.own_id and lease.address:
                self._known[name] = _KnownNode(lease.address, now_s + lease.left_s)
        gone = [
            name
            for name, known in self._known.items()
            if known.until_s <= now_s or (name in leases.by_node and not leases.by_node[name].address)
        ]
        for name in gone:
            del self._known[name]
        return [name for name in gone if name not in self._siblings]

    def find(self, name: str, *, now_s: float) -> str | None:
        """The address of a node; None if it is not known to live."""
        if name in self._siblings:
            return self._siblings[name]
        known = self._known.get(name)
        if known is None or self._called_s is None:
            return None
        silent = now_s - self._called_s > self._silent_s
        return known.address if silent or now_s < known.until_s else None

    def owner_elsewhere(self, sid: str) -> str:
        """The id of the other node that `sid` belongs to; empty if it is ours or nobody's."""
        owner = owner_of(sid)
        return "" if owner == self.own_id else owner

    def siblings(self) -> dict[str, str]:
        """The other nodes of the same supervisor and their addresses."""
        return dict(self._siblings)
