"""Finds the message that kills nodes: one that was being handled when a node died, twice.

The queue marks a message that it delivered before as redelivered: a node died, stopped or lost its connection. A node
handles such a message alone, and has a lease on it meanwhile. A lease that is still there on the next delivery means
that the second node died while it handled this message. A node that lives releases its leases.
"""

from __future__ import annotations

import logging
import secrets
import time
from enum import Enum
from typing import Protocol

from tidings.errors import TidingsError
from tidings_hub.core.lease import LeaseReply

logger = logging.getLogger("tidings.ingress")

# A queue delivers within seconds (AMQP), or after `redelivery_s`, which is at most an hour.
_LEASE_S = 2 * 3600.0
# Only has to exist until its reply.
_PROBE_S = 1.0
# Leases that could not be released, because the broker was unreachable. Later ones replace the oldest.
_UNRELEASED_MAX = 100


class Acquire(Protocol):
    """`Broker.acquire_lease`."""

    def __call__(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        """Acquire or renew a lease, or release it with `lease_s` 0. Raises Unavailable."""


class CrashVerdict(Enum):
    """What to do with a redelivered message."""

    HANDLE = "handle it, then call `finish`"
    WAIT = "another node may still handle it: ask again"
    CRASHED = "a node died while it handled this message"


class CrashGuard:
    """The leases on redelivered messages of one queue. `acquire`: the broker's.

    `attempt_max_s`: the longest time in which a living node handles one message, and releases it.
    """

    def __init__(self, acquire: Acquire, *, node_id: str, attempt_max_s: float) -> None:
        self._acquire = acquire
        self._attempt_max_s = attempt_max_s
        # Unique per process: a node that restarts must not pass for its predecessor, which died.
        self._holder = f"{node_id}.{secrets.token_hex(6)}"
        self._unreleased: dict[str, None] = {}
        self._denied_key = ""
        self._denied_at_s = 0.0

    def begin(self, key: str) -> CrashVerdict:
        """Ask before each attempt to handle a redelivered message.

        Raises:
            Unavailable: the broker did not answer.
        """
        for other in list(self._unreleased):
            self._acquire(f"queued:{other}", self._holder, lease_s=0.0)
            del self._unreleased[other]
        # The reply proves that the broker answers now. A request that it reads only after this node has died would
        # look like a death in the middle of the work.
        self._acquire(f"queued-probe:{self._holder}", self._holder, lease_s=_PROBE_S)
        if self._acquire(f"queued:{key}", self._holder, lease_s=_LEASE_S) is not LeaseReply.DENIED:
            self._denied_key = ""
            return CrashVerdict.HANDLE
        now_s = time.monotonic()
        if self._denied_key != key:
            self._denied_key, self._denied_at_s = key, now_s
        return CrashVerdict.CRASHED if now_s - self._denied_at_s >= self._attempt_max_s else CrashVerdict.WAIT

    def finish(self, key: str) -> None:
        """The attempt is over, and this node lives."""
        try:
            self._acquire(f"queued:{key}", self._holder, lease_s=0.0)
        except TidingsError as error:
            logger.debug("a lease on a queued message could not be released; it is tried again: %s", error)
            self._unreleased[key] = None
            if len(self._unreleased) > _UNRELEASED_MAX:
                self._unreleased.pop(next(iter(self._unreleased)))
