"""Heartbeat of a node: a small record with a lease, written to the broker at an interval.

Every node reads all records from the broker with one request. They state which nodes are alive and how many
connections, sessions and channels each of them has.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable

from tidings import __version__
from tidings.errors import TidingsError
from tidings.wire.control import NodeRecord
from tidings_hub.log import log_rate_limited
from tidings_hub.services.hub import Hub

logger = logging.getLogger("tidings.nodes")

# A node still counts as alive after two failed heartbeats in a row.
_LEASE_INTERVALS = 3


class NodeHeartbeat:
    """Writes this node's record until `withdraw`. `address` is where the node listens."""

    def __init__(self, hub: Hub, *, address: str, sleep: Callable[[float], None]) -> None:
        self._hub = hub
        self._address = address
        self._sleep = sleep
        self._started_s = round(hub.wall_s(), 1)
        self._was_written = False
        self._withdrawn = False

    def run(self) -> None:
        """Send a heartbeat every `node_record_s` seconds. Runs in its own greenlet."""
        interval_s = self._hub.settings.node_record_s
        while not self._withdrawn:
            try:
                self.send()
            except TidingsError as error:
                # The lease lasts for two more intervals. Readiness reports whether the broker is reachable.
                logger.debug("heartbeat failed: %s", error)
            except Exception:
                logger.exception("unexpected error in the heartbeat; retrying")
            self._sleep(interval_s)

    def send(self) -> None:
        """Write the record once, and count the nodes that are alive.

        Raises:
            Unavailable: the broker did not accept the record.
        """
        hub = self._hub
        if self._was_written:
            self._check_name(hub.broker.nodes())
        lease_s = hub.settings.node_record_s * _LEASE_INTERVALS
        hub.metrics.nodes = len(hub.broker.write_node(hub.settings.node_id, self.record(), lease_s=lease_s))
        self._was_written = True

    def _check_name(self, records: Iterable[NodeRecord]) -> None:
        """Log if another node with the same name has replaced the record of this one."""
        own = self._hub.settings.node_id, self._address, self._started_s
        for record in records:
            if record.node == own[0] and (record.node, record.address, record.started_s) != own:
                log_rate_limited(
                    *(logger, logging.ERROR, "node id"),
                    "another node, which listens on %s, has the node_id %s as well: give each node its own. Until then "
                    "commands do not report a node that did not reply, and requests are relayed to the wrong node",
                    *(record.address, record.node),
                )

    def withdraw(self) -> None:
        """Stop, and remove the record. If the broker is unreachable, the record ends with its lease."""
        self._withdrawn = True
        try:
            self._hub.broker.write_node(self._hub.settings.node_id, None, lease_s=0)
        except TidingsError as error:
            logger.debug("this node's record was not removed and ends with its lease: %s", error)

    def record(self) -> dict[str, object]:
        """The fields of `tidings.wire.control.NodeRecord`, as JSON."""
        hub = self._hub
        by_transport = Counter(session.connection.transport for session in hub.sessions())
        return {
            "node": hub.settings.node_id,
            "address": self._address,
            "version": __version__,
            "started_s": self._started_s,
            "at_s": round(hub.wall_s(), 1),
            "connections": {name: by_transport[name] for name in ("websocket", "polling", "sse")},
            "sessions": len(hub.sessions()),
            "channels": len(hub.subscriptions),
            "subscriptions": hub.metrics.subscriptions,
        }
