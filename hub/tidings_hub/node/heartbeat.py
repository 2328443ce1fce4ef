"""What this node says of itself to the others: a small record with a lease, written at an interval.

So one read tells which nodes live and how many connections, sessions and channels all of them have.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from tidings import __version__
from tidings.errors import TidingsError
from tidings_hub.services.hub import Hub

logger = logging.getLogger("tidings.nodes")

# A node that could not write twice in a row still counts as living.
_LEASE_INTERVALS = 3


class NodeHeartbeat:
    """Writes the record until the node ends. `address` is where the node listens."""

    def __init__(self, hub: Hub, *, address: str, sleep: Callable[[float], None]) -> None:
        self._hub = hub
        self._address = address
        self._sleep = sleep
        self._started_s = hub.wall_s()
        self._ended = False

    def run(self) -> None:
        """Write it for ever. Runs in a greenlet of its own."""
        interval_s = self._hub.settings.node_record_s
        while not self._ended:
            try:
                self.send()
            except TidingsError as error:
                # The lease goes on for a while; whether the broker can be reached, readiness tells.
                logger.debug("this node's record was not written: %s", error)
            except Exception:
                logger.exception("a mistake in writing this node's record")
            self._sleep(interval_s)

    def send(self) -> None:
        """Write it once.

        Raises:
            Unavailable: the broker did not take it.
        """
        hub = self._hub
        lease_s = hub.settings.node_record_s * _LEASE_INTERVALS
        hub.metrics.nodes = len(hub.broker.write_node(hub.settings.node_id, self.record(), lease_s=lease_s))

    def withdraw(self) -> None:
        """Tell the others that this node ends, if that is possible."""
        self._ended = True
        try:
            self._hub.broker.write_node(self._hub.settings.node_id, None, lease_s=0)
        except TidingsError as error:
            logger.debug("this node's record could not be removed, its lease ends it: %s", error)

    def record(self) -> dict[str, object]:
        """`tidings.wire.control.NodeRecord`, as an object."""
        hub = self._hub
        by_transport = Counter(session.connection.transport for session in hub.sessions())
        return {
            "node": hub.settings.node_id,
            "address": self._address,
            "version": __version__,
            "started_s": round(self._started_s, 1),
            "at_s": round(hub.wall_s(), 1),
            "connections": {name: by_transport[name] for name in ("websocket", "polling", "sse")},
            "sessions": len(hub.sessions()),
            "channels": len(hub.subscriptions),
            "subscriptions": hub.metrics.subscriptions,
        }
