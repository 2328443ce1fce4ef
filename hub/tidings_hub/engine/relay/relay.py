"""Forward requests to the node that owns their session, and return its responses.

Behind a load balancer without sticky sessions, a poll can arrive at any node. A session id begins with the id of its
node. The relay forwards the request to that node, with a stamp that only nodes of this hub can create. A request with a
stamp is never forwarded again.

If anything fails on the way, the client gets "unknown session" and reconnects with its cursor. A request is never sent
twice, because the first response may be lost together with the packets in it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tidings_hub import runtime
from tidings_hub.core.relay_stamp import STAMP_HEADER, Stamp, read_stamp, write_stamp
from tidings_hub.engine.protocols import engineio
from tidings_hub.engine.relay.parked_request import ParkedRequest
from tidings_hub.engine.relay.upstream import Upstream, connect
from tidings_hub.log import log_rate_limited

if TYPE_CHECKING:
    from tidings_hub.core.node_directory import NodeDirectory, NodeLeases
    from tidings_hub.engine.http_connection import HttpConnection
    from tidings_hub.engine.mount import EngineContext
    from tidings_hub.engine.protocols.http_request import RequestHead
    from tidings_hub.engine.relay.splice import Transfer

_METHODS = frozenset({"GET", "POST"})
# The headers that the owner needs. All others that a browser sends stay on this node.
_FORWARDED_HEADERS = (
    "origin", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions",
)  # fmt: skip
_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
# Idle connections kept per node.
_IDLE_MAX = 64


class Relay:
    """Forwards requests to other nodes, and verifies requests that other nodes forwarded.

    `request_refresh` requests a refresh of `nodes`. The caller reports it by `refresh_started` and then by `refreshed`
    or `refresh_failed`. `cluster_time_s`: a clock that all nodes share (unix). `keys`: the first one signs stamps, all
    of them verify stamps.
    """

    def __init__(
        self,
        context: EngineContext,
        nodes: NodeDirectory,
        keys: Sequence[bytes],
        *,
        request_refresh: Callable[[], object],
        cluster_time_s: Callable[[], float],
    ) -> None:
        self.context = context
        self.nodes = nodes
        self.keys = list(keys)
        # Number of sockets to other nodes, idle ones included. They do not count as client connections.
        self.sockets = 0
        self._request_refresh = request_refresh
        self.cluster_time_s = cluster_time_s
        self._transfers: dict[str, set[Transfer]] = {}
        self._transfer_count = 0
        self._idle: dict[str, list[Upstream]] = {}
        # Requests that wait for the refresh that is running, and for the one after it.
        self._awaiting_refresh: list[ParkedRequest] = []
        self._parked: list[ParkedRequest] = []

    def __len__(self) -> int:
        """Number of requests and WebSockets that are being forwarded or wait for a refresh."""
        return self._transfer_count + len(self._parked) + len(self._awaiting_refresh)

    # --- requests from other nodes ---

    def verify_stamp(self, head: RequestHead) -> Stamp | None:
        """Return the stamp of a request. None: its signature is wrong, it expired, or it is for another node."""
        stamp = read_stamp(
            self.keys,
            head.headers.get(STAMP_HEADER, ""),
            head.method,
            _target_of(head),
            own_id=self.nodes.own_id,
            now_s=self.cluster_time_s(),
        )
        metrics = self.context.metrics
        if stamp is None:
            metrics.relay_refused += 1
            log_rate_limited(
                self.context.log,
                logging.WARNING,
                "relay refused",
                "a relayed request has no valid stamp of another node; is relay_secret the same on all nodes?",
            )
        else:
            metrics.relay_taken += 1
        return stamp

    # --- requests to other nodes ---

    def owner_elsewhere(self, http_connection: HttpConnection, head: RequestHead, sid: str) -> str:
        """Return the id of the other node that owns `sid`, or an empty string if the request must not be forwarded."""
        if http_connection.is_relayed or head.method not in _METHODS:
            return ""
        return self.nodes.owner_elsewhere(sid)

    def forward(
        self, http_connection: HttpConnection, head: RequestHead, body: bytes, sid: str, *, wait_s: float
    ) -> bool:
        """Forward a request to the owner of `sid`. Return False if there is no other owner.

        `wait_s`: the longest time until the response.
        """
        owner = self.owner_elsewhere(http_connection, head, sid)
        if not owner:
            return False
        if len(self) >= self.context.limits.relay_max or not self.context.room.has_relay_room():
            self._refuse_full(http_connection)
            return True
        address = self.nodes.find(owner, now_s=runtime.now_s())
        if address is not None:
            self._send(http_connection, head, body, owner, address, wait_s)
        else:
            parked = ParkedRequest(self, http_connection, head, body, owner, wait_s=wait_s)
            http_connection.wait_for(parked)
            self._parked.append(parked)
            self._request_refresh()
        return True

    def _send(
        self, http_connection: HttpConnection, head: RequestHead, body: bytes, owner: str, address: str, wait_s: float
    ) -> None:
        if head.method == "GET" and http_connection.is_closed_by_client():
            # This node was frozen meanwhile. A proxy may have repeated the poll elsewhere, and the session went on. The
            # owner would take it for the next poll, and its packets would be lost.
            http_connection.abort()
            return
        stamp = Stamp(
            owner, self.cluster_time_s(), http_connection.remote, http_connection.secure, http_connection.host
        )
        request = request_bytes(head, body, write_stamp(self.keys[0], stamp, head.method, _target_of(head)))
        upstream = self._pop_idle(address)
        if upstream is None:
            try:
                upstream = Upstream(self, connect(address), owner, address)
            except OSError as error:
                if error.errno in _NO_RESOURCES:
                    self._refuse_full(http_connection)
                else:
                    self.refuse_unreachable(http_connection)
                return
        self.context.metrics.relayed += 1
        self.track(owner, upstream)
        upstream.send(http_connection, request, wait_s=wait_s, upgrade=head.wants_websocket)

    def _pop_idle(self, address: str) -> Upstream | None:
        """An idle connection. One on which anything arrived is closed: it would be the response to this request."""
        idle = self._idle.get(address)
        while idle:
            upstream = idle.pop()
            if upstream.is_reusable():
                return upstream
            upstream.fail()
        return None

    def _refuse_full(self, http_connection: HttpConnection) -> None:
        self.context.metrics.relay_full += 1
        http_connection.refuse(engineio.RELAY_FULL.status, engineio.RELAY_FULL.body())

    def refuse_unreachable(self, http_connection: HttpConnection) -> None:
        """Respond with "unknown session", so that the client reconnects: the session's node is unreachable."""
        self.context.metrics.relay_failed += 1
        self.refuse_unknown(http_connection)

    def refuse_unknown(self, http_connection: HttpConnection) -> None:
        """Respond with "unknown session": no live node has it."""
        self.context.metrics.http_refused += 1
        http_connection.refuse(engineio.UNKNOWN_SESSION.status, engineio.UNKNOWN_SESSION.body())

    # --- called by transfers ---

    def track(self, owner: str, transfer: Transfer) -> None:
        """Register a transfer to the node `owner`."""
        self._transfers.setdefault(owner, set()).add(transfer)
        self._transfer_count += 1

    def untrack(self, owner: str, transfer: Transfer) -> None:
        """Remove a finished transfer. Idempotent."""
        transfers = self._transfers.get(owner)
        if transfers is None or transfer not in transfers:
            return
        transfers.remove(transfer)
        self._transfer_count -= 1
        if not transfers:
            del self._transfers[owner]

    def keep_idle(self, upstream: Upstream) -> bool:
        """Keep an idle connection for the next request. False: there are enough idle connections."""
        idle = self._idle.setdefault(upstream.address, [])
        if len(idle) >= _IDLE_MAX:
            return False
        idle.append(upstream)
        return True

    def forget_idle(self, upstream: Upstream) -> None:
        """Remove a closed connection from the idle ones. Idempotent."""
        idle = self._idle.get(upstream.address)
        if idle is not None and upstream in idle:
            idle.remove(upstream)
        if not idle:
            self._idle.pop(upstream.address, None)

    # --- refreshes of the node directory ---

    def refresh_started(self) -> None:
        """Assign all parked requests to the refresh that starts now: it will decide about them."""
        self._awaiting_refresh += self._parked
        self._parked = []

    def refreshed(self, leases: NodeLeases) -> None:
        """Update the directory, fail transfers to nodes that are gone, and continue the parked requests."""
        for name in self.nodes.update(leases, now_s=runtime.now_s()):
            for transfer in list(self._transfers.get(name, ())):
                self.context.pump.call_safely(transfer.fail)
        self.context.metrics.relay_nodes = len(self.nodes)
        self._resume_all_parked()

    def refresh_failed(self) -> None:
        """Continue the parked requests without new leases: an unknown node stays unknown."""
        self._resume_all_parked()

    def _resume_all_parked(self) -> None:
        waiting, self._awaiting_refresh = self._awaiting_refresh, []
        for parked in waiting:
            self.context.pump.resume(parked)
        if self._parked:
            self._request_refresh()

    def resume_parked(self, parked: ParkedRequest, http_connection: HttpConnection) -> None:
        """Forward a parked request, or respond with "unknown session" if its node is still unknown."""
        address = self.nodes.find(parked.owner, now_s=runtime.now_s())
        if address is None:
            self.context.metrics.relay_unknown += 1
            self.refuse_unknown(http_connection)
        else:
            self._send(http_connection, parked.head, parked.body, parked.owner, address, parked.wait_s)

    def fail_all(self) -> None:
        """Respond to everything with "unknown session", because this node shuts down."""
        self._awaiting_refresh += self._parked
        self._parked = []
        for parked in self._awaiting_refresh:
            if parked.http_connection is not None:
                self.refuse_unknown(parked.http_connection)
        self._awaiting_refresh = []
        for transfers in list(self._transfers.values()):
            for transfer in list(transfers):
                self.context.pump.call_safely(transfer.fail)


def _target_of(head: RequestHead) -> str:
    return f"{head.path}?{head.query}" if head.query else head.path


def request_bytes(head: RequestHead, body: bytes, stamp: str) -> bytes:
    """Serialize a request for its owner."""
    headers = head.headers
    host = headers.get("host", "")
    lines = [f"{head.method} {_target_of(head)} HTTP/1.1", f"host: {host}", f"{STAMP_HEADER}: {stamp}"]
    lines += [f"{name}: {headers[name]}" for name in _FORWARDED_HEADERS if name in headers]
    if head.wants_websocket:
        lines += ["connection: Upgrade", "upgrade: websocket"]
    elif not head.keep_alive:
        # The owner's response goes back to the client unchanged, so it must close this client's connection.
        lines.append("connection: close")
    if head.method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
