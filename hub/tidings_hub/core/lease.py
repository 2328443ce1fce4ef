"""Doing something on one node at a time: what a node may believe of a lease in the broker.

Each PUBLISH of another emitter reaches every node that listens, and must be published once. So a node listens
only while it has the lease. Why no message is taken by two nodes, even if one of them stood still in between: a
node goes by its own clock, from before it asked (`until_s`), so it stops to believe before the broker does. What it
read before that was sent before the lease could end, and so before another node could begin to listen. Where that
ends: a broker that forgets the lease (its clock jumps, a failover loses it) may give it away at once, and for a third
of a lease, until it asks again, a node may publish what another one does.
"""

from __future__ import annotations

from enum import Enum


class LeaseReply(Enum):
    """What the broker says to a node that asks for a lease."""

    DENIED = 0
    ACQUIRED = 1
    RENEWED = 2


class LeaseTerm:
    """One node's leases of one name, one after another. `term` counts them: what belongs to an older one is void."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._until_s: float | None = None
        self.term = 0

    def update(self, reply: LeaseReply, *, requested_s: float) -> None:
        """The broker answered to a question that was asked at that time."""
        if reply is LeaseReply.DENIED:
            self._until_s = None
            return
        if reply is LeaseReply.ACQUIRED or self._until_s is None:
            # It had ended, perhaps for long enough that another node had it in between.
            self.term += 1
        self._until_s = requested_s + self._lease_s

    def is_held(self, now_s: float) -> bool:
        """Whether this node has the lease for certain."""
        return self._until_s is not None and now_s < self._until_s

    def is_unbroken(self, term: int, now_s: float) -> bool:
        """Whether it has had it without a break since that term began."""
        return term == self.term and self.is_held(now_s)
