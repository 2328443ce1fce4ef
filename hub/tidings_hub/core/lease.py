"""How long a node may rely on a lease in the broker. A lease makes one node at a time do something.

Each PUBLISH of another emitter reaches every node that listens, and must be published once. So a node listens only
while it has the lease. No two nodes process the same message, even if one of them was suspended in between:

- A node measures the lease by its own clock, from before its request. So its lease ends before the broker's.
- Messages that it read before that were sent before another node could start to listen.

The limit: a broker may lose the lease (its clock jumps, a failover discards it) and grant it to another node. Until the
first node requests it again, at most a third of a lease later, both nodes may publish the same message.
"""

from __future__ import annotations

from enum import Enum


class LeaseReply(Enum):
    """The broker's reply to a node that requests a lease."""

    DENIED = 0
    ACQUIRED = 1
    RENEWED = 2


class LeaseTerm:
    """One node's leases of one name, one after another. `term` counts them: work of an older term is discarded."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._until_s: float | None = None
        self.term = 0

    def update(self, reply: LeaseReply, *, requested_s: float) -> None:
        """Apply the broker's reply to a request that was sent at `requested_s`."""
        if reply is LeaseReply.DENIED:
            self._until_s = None
            return
        if reply is LeaseReply.ACQUIRED or self._until_s is None:
            # The previous lease had ended. Another node may have had it in between.
            self.term += 1
        self._until_s = requested_s + self._lease_s

    def is_held(self, now_s: float) -> bool:
        """Whether this node certainly has the lease."""
        return self._until_s is not None and now_s < self._until_s

    def is_unbroken(self, term: int, now_s: float) -> bool:
        """Whether this node has had the lease without interruption since that term began."""
        return term == self.term and self.is_held(now_s)
