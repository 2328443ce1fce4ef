"""Membership of a node in its cluster: its lease in the broker, and the leases of the others for its relay."""

from __future__ import annotations

import ipaddress
import logging
import socket
from functools import partial

from tidings.errors import BadConfig, TidingsError
from tidings_hub import runtime
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import is_loopback
from tidings_hub.core.node_directory import NodeDirectory, NodeLeases
from tidings_hub.engine.relay.relay import Relay
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.membership")

# Renewals per lease: two of them may fail.
_RENEWALS_PER_LEASE = 3
# Seconds until this node has accepted a connection to its own address, and again until it has responded.
_PROBE_TIMEOUT_S = 2.0
# Minimum seconds between two renewals, however many requests call `refresh_soon`.
_RENEWALS_APART_S = 0.1


_CONSEQUENCE = (
    "requests that arrive at other nodes lose their sessions. Set `advertise` to the address and port at which other"
    " nodes reach this one"
)
# More than the response to a probe has.
_RESPONSE_MAX_BYTES = 65_536


def resolve_address(advertise: str) -> str:
    """`host:port` with the host resolved to an IP address, so that other nodes need no name server.

    Raises:
        BadConfig: the host name cannot be resolved, or means every address.
    """
    host, _, port = advertise.rpartition(":")
    try:
        address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise BadConfig(
            f"advertise names the host {host}, which this machine cannot resolve: {error.strerror}"
        ) from error
    if ipaddress.ip_address(address).is_unspecified:
        raise BadConfig(
            f"advertise: {host} means every address of this machine; set the one that other nodes connect to"
        )
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


class Membership:
    """Renews this node's lease in the broker and passes the leases of all nodes to the relay.

    With an empty `address` nothing is registered: only workers of the same supervisor can reach this node.
    """

    def __init__(self, broker: Broker, nodes: NodeDirectory, metrics: Metrics, *, lease_s: float) -> None:
        self._broker = broker
        self._nodes = nodes
        self._metrics = metrics
        self._lease_s = lease_s
        self._wake = runtime.Signal()
        self._address = self._advertise = ""
        self._has_left = False
        # The broker's clock minus this process's monotonic clock. All nodes share the broker's clock, so a jump of one
        # machine's wall clock does not matter.
        self._clock_offset_s: float | None = None

    def refresh_soon(self) -> None:
        """Read the leases soon. Any greenlet and the pump may call it."""
        self._wake.set()

    def cluster_time_s(self) -> float:
        """Seconds since 1970 by the broker's clock; by this machine's clock before the first contact."""
        return runtime.unix_s() if self._clock_offset_s is None else runtime.now_s() + self._clock_offset_s

    def join(self, relay: Relay, advertise: str) -> None:
        """Register this node at `advertise`, and renew the lease in the background until `leave`.

        Raises:
            BadConfig: it is no address of one machine.
        """
        self._advertise = advertise
        self._address = resolve_address(advertise) if advertise else ""
        self._renew(relay)
        runtime.spawn(SupervisedTask("membership", partial(self._run, relay), self._metrics))

    def address_error(self) -> str:
        """Why other nodes do not reach this one at its address. Empty: they do, or it has none."""
        if not self._address:
            return ""
        host, _, port = self._address.rpartition(":")
        name = self._advertise.rpartition(":")[0]
        if is_loopback(host.strip("[]")) and not is_loopback(name.strip("[]")):
            # Debian gives the machine's own name 127.0.1.1. Other nodes would connect to themselves.
            return f"{name}, the host of `advertise`, is {host} on this machine: {_CONSEQUENCE}"
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_TIMEOUT_S)
        except OSError as error:
            return (
                f"nothing accepts connections at {self._address}, the `advertise` address of this node"
                f" ({error.strerror or error}): {_CONSEQUENCE}"
            )
        with connection:
            response = _read_health(connection, end_s=runtime.now_s() + _PROBE_TIMEOUT_S)
        if response and b'"node":"%b"' % self._nodes.own_id.encode() not in response:
            return (
                f"another server responds at {self._address}, the `advertise` address of this node: {_CONSEQUENCE}."
                " Two nodes never have the same one"
            )
        return ""

    def leave(self) -> None:
        """Give up the lease. Idempotent."""
        if self._has_left:
            return
        self._has_left = True
        if not self._address:
            return
        try:
            self._broker.renew_node_lease(self._nodes.own_id, "", lease_s=self._lease_s)
        except TidingsError as error:
            logger.warning("this node's lease was not given up and ends by itself: %s", error)

    def _run(self, relay: Relay) -> None:
        while not self._has_left:
            runtime.sleep(_RENEWALS_APART_S)
            self._wake.wait(self._lease_s / _RENEWALS_PER_LEASE)
            self._wake = runtime.Signal()
            if not self._has_left:
                self._renew(relay)

    def _renew(self, relay: Relay) -> None:
        relay.refresh_started()
        try:
            leases = self._renew_lease()
        except TidingsError as error:
            logger.debug("node leases could not be read: %s", error)
            relay.refresh_failed()
            return
        except Exception:
            logger.exception("unexpected error in the renewal of this node's lease; retrying")
            relay.refresh_failed()
            return
        if self._address:
            self._clock_offset_s = leases.now_s - runtime.now_s()
        relay.refreshed(leases)

    def _renew_lease(self) -> NodeLeases:
        if not self._address:
            # No other machine can reach this node, and it reaches no other machine.
            return NodeLeases(runtime.unix_s(), {})
        return self._broker.renew_node_lease(self._nodes.own_id, self._address, lease_s=self._lease_s)


def _read_health(connection: socket.socket, *, end_s: float) -> bytes:
    """The response to a request for `/healthz`. Empty: none in time, or of a node without room."""
    response = b""
    try:
        # Without a Host header, which a node under --dev would check.
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        # The timeout of the socket would be one per read: a server that drips would never end it.
        while len(response) < _RESPONSE_MAX_BYTES:
            left_s = end_s - runtime.now_s()
            if left_s <= 0:
                return b""
            connection.settimeout(left_s)
            received = connection.recv(_RESPONSE_MAX_BYTES)
            if not received:
                break
            response += received
    except OSError:
        return b""
    return b"" if response[9:12] in (b"429", b"503") else response
