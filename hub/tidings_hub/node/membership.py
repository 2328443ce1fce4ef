"""This node among the others: its lease in the broker, and the roll that its relay goes by."""

from __future__ import annotations

import logging
import socket

from tidings.errors import BadConfig, TidingsError
from tidings_hub import runtime
from tidings_hub.brokers.base import Broker
from tidings_hub.core.node_directory import NodeDirectory, NodeLeases
from tidings_hub.engine.relay.relay import Relay

logger = logging.getLogger("tidings.membership")

# A lease is renewed so often while it lasts: two rounds may fail.
_ROUNDS = 3
# Least time between two rolls, however many requests ask for one.
_APART_S = 0.1


def resolve_address(advertise: str) -> str:
    """`host:port` with the host's address: whoever reads it must not have to ask a name server.

    Raises:
        BadConfig: the name is not known.
    """
    host, _, port = advertise.rpartition(":")
    try:
        address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise BadConfig(f"advertise names the host {host}, which is not known here: {error.strerror}") from error
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


class Membership:
    """Keeps one node's lease and calls the roll. `address` empty: the node is only reached by those beside it."""

    def __init__(self, broker: Broker, nodes: NodeDirectory, *, lease_s: float) -> None:
        self._broker = broker
        self._nodes = nodes
        self._lease_s = lease_s
        self._wake = runtime.Signal()
        self._address = ""
        self._left = False
        # The broker's clock minus ours (monotonic): the same for all nodes, and nobody's jumps disturb it.
        self._clock_offset_s: float | None = None

    def refresh_soon(self) -> None:
        """Call the roll soon. For any greenlet, and the pump."""
        self._wake.set()

    def cluster_time_s(self) -> float:
        """The clock that all nodes share, as far as the broker has been heard."""
        return runtime.unix_s() if self._clock_offset_s is None else runtime.now_s() + self._clock_offset_s

    def join(self, relay: Relay, address: str) -> None:
        """Say that this node is reached at `address`, now and then again and again, until `leave`."""
        self._address = address
        self._renew(relay)
        runtime.spawn(self._run, relay)

    def leave(self) -> None:
        """Give the lease up."""
        if self._left:
            return
        self._left = True
        if not self._address:
            return
        try:
            self._broker.renew_node_lease(self._nodes.own_id, "", lease_s=self._lease_s)
        except TidingsError as error:
            logger.warning("the lease could not be given up and ends by itself: %s", error)

    def _run(self, relay: Relay) -> None:
        while not self._left:
            runtime.sleep(_APART_S)
            self._wake.wait(self._lease_s / _ROUNDS)
            self._wake = runtime.Signal()
            if not self._left:
                self._renew(relay)

    def _renew(self, relay: Relay) -> None:
        relay.calling()
        try:
            roll = self._roll()
        except TidingsError as error:
            logger.debug("the roll could not be called: %s", error)
            relay.unheard()
            return
        except Exception:
            logger.exception("a mistake in calling the roll")
            relay.unheard()
            return
        if self._address:
            self._clock_offset_s = roll.now_s - runtime.now_s()
        relay.called(roll)

    def _roll(self) -> NodeLeases:
        if not self._address:
            # Nobody else can reach it, and it asks nobody else.
            return NodeLeases(runtime.unix_s(), {})
        return self._broker.renew_node_lease(self._nodes.own_id, self._address, lease_s=self._lease_s)
