"""Requests of sessions that live on other nodes: carried there by the pump, and the answers carried back.

Behind a balancer that is not sticky, a poll may come to any node. It is sent on to the node whose id its session
id begins with, with a stamp that only nodes can make, and at most once: a request with a stamp is never sent on.
Whatever goes wrong on the way is answered as an unknown session, and the client connects anew with its cursor; a
request is never sent twice, since its first answer may have been lost with what was in it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tidings_hub import runtime
from tidings_hub.core.relay_stamp import STAMP_HEADER, Stamp, read_stamp, write_stamp
from tidings_hub.engine import engineio as protocol
from tidings_hub.engine.relay.upstream import Upstream, connected
from tidings_hub.log import log_rate_limited

if TYPE_CHECKING:
    from tidings_hub.core.node_directory import NodeDirectory, NodeLeases
    from tidings_hub.engine.connection import Waiting
    from tidings_hub.engine.http import Head
    from tidings_hub.engine.http_connection import Link
    from tidings_hub.engine.mount import Shared

_METHODS = frozenset({"GET", "POST"})
# All that the owner needs to know: what else a browser sends stays on the first node.
_KEPT = ("origin", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions")
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
# Idle connections to one node that are kept.
_IDLE_MAX = 64


class Carrying(Protocol):
    """One request, or one WebSocket, that is on its way through this node."""

    def fail(self) -> None:
        """The other node has gone."""


class Parked:
    """A request for a node that is not known: it waits for the next roll."""

    __slots__ = ("body", "head", "link", "owner", "poll", "relay", "wait_s")

    def __init__(self, relay: Relay, link: Link, head: Head, body: bytes, owner: str, *, wait_s: float) -> None:
        self.relay = relay
        self.link: Link | None = link
        self.head = head
        self.body = body
        self.owner = owner
        self.wait_s = wait_s
        self.poll: Waiting | None = None

    def end(self, _reason: str, _number: int) -> None:
        """The client has gone."""
        self.link = None

    def resume(self) -> None:
        """The roll was called."""
        if self.link is not None:
            self.relay.unpark(self, self.link)

    def abort(self) -> None:
        """Something of ours failed."""
        if self.link is not None:
            self.link.abort()


class Relay:
    """Sends requests on to other nodes, and knows a request that another node sent on.

    `look` asks for a new roll: `calling` is said before it is read, `called` or `unheard` after. `unix_s` is a clock
    that all nodes share. `keys`: stamps are made with the first and read with all of them.
    """

    def __init__(
        self,
        shared: Shared,
        nodes: NodeDirectory,
        keys: Sequence[bytes],
        *,
        look: Callable[[], object],
        unix_s: Callable[[], float],
    ) -> None:
        self.shared = shared
        self.nodes = nodes
        self.keys = list(keys)
        # Sockets to other nodes, idle ones included: they are no clients.
        self.sockets = 0
        self._look = look
        self.unix_s = unix_s
        self._carried: dict[str, set[Carrying]] = {}
        self._active = 0
        self._idle: dict[str, list[Upstream]] = {}
        # Requests that wait for the roll that is being read, and for the one after.
        self._reading: list[Parked] = []
        self._parked: list[Parked] = []

    def __len__(self) -> int:
        """How many requests and WebSockets are on their way."""
        return self._active + len(self._parked) + len(self._reading)

    # --- requests that come from another node ---

    def read(self, head: Head) -> Stamp | None:
        """What the stamp of a request says; None: it is none of ours, too old, or for another node."""
        found = read_stamp(
            self.keys,
            head.headers.get(STAMP_HEADER, ""),
            head.method,
            _target(head),
            own_id=self.nodes.own_id,
            now_s=self.unix_s(),
        )
        metrics = self.shared.metrics
        if found is None:
            metrics.relay_refused += 1
            log_rate_limited(
                self.shared.log,
                logging.WARNING,
                "relay refused",
                "a request claims to come from another node and does not prove it; is relay_secret the same on all?",
            )
        else:
            metrics.relay_taken += 1
        return found

    # --- requests that go to another node ---

    def foreign(self, link: Link, head: Head, sid: str) -> str:
        """The id of the node that this request is for; empty: it is not to be carried."""
        return "" if link.relayed or head.method not in _METHODS else self.nodes.owner_elsewhere(sid)

    def carry(self, link: Link, head: Head, body: bytes, sid: str, *, wait_s: float) -> bool:
        """Send a request on; False: it is none for another node. `wait_s`: longest wait for an answer."""
        owner = self.foreign(link, head, sid)
        if not owner:
            return False
        if len(self) >= self.shared.limits.relay_max:
            self._refuse_full(link)
            return True
        address = self.nodes.find(owner, now_s=runtime.now_s())
        if address is not None:
            self._send(link, head, body, owner, address, wait_s)
        else:
            parked = Parked(self, link, head, body, owner, wait_s=wait_s)
            link.wait(parked)
            self._parked.append(parked)
            self._look()
        return True

    def _send(self, link: Link, head: Head, body: bytes, owner: str, address: str, wait_s: float) -> None:
        stamp = Stamp(owner, self.unix_s(), link.remote, link.secure, link.host)
        request = request_bytes(head, body, write_stamp(self.keys[0], stamp, head.method, _target(head)))
        idle = self._idle.get(address)
        if idle:
            upstream = idle.pop()
        else:
            try:
                upstream = Upstream(self, connected(address), owner, address)
            except OSError as error:
                if error.errno in _FULL:
                    self._refuse_full(link)
                else:
                    self.refuse(link)
                return
        self.shared.metrics.relayed += 1
        self.began(owner, upstream)
        upstream.carry(link, request, wait_s=wait_s, upgrade=head.wants_upgrade)

    def _refuse_full(self, link: Link) -> None:
        self.shared.metrics.relay_full += 1
        link.refuse(protocol.FULL.status, protocol.FULL.body())

    def refuse(self, link: Link) -> None:
        """The node cannot be asked: its session is lost for this client, which connects anew."""
        self.shared.metrics.relay_failed += 1
        self.unknown(link)

    def unknown(self, link: Link) -> None:
        """Nobody has this session."""
        self.shared.metrics.http_refused += 1
        link.refuse(protocol.UNKNOWN_SESSION.status, protocol.UNKNOWN_SESSION.body())

    # --- what carries requests ---

    def began(self, owner: str, carrying: Carrying) -> None:
        """On its way."""
        self._carried.setdefault(owner, set()).add(carrying)
        self._active += 1

    def ended(self, owner: str, carrying: Carrying) -> None:
        """No longer. Idempotent."""
        carried = self._carried.get(owner)
        if carried is None or carrying not in carried:
            return
        carried.remove(carrying)
        self._active -= 1
        if not carried:
            del self._carried[owner]

    def keep(self, upstream: Upstream) -> bool:
        """Keep an idle connection for the next request; False: there are enough."""
        idle = self._idle.setdefault(upstream.address, [])
        if len(idle) >= _IDLE_MAX:
            return False
        idle.append(upstream)
        return True

    def forget(self, upstream: Upstream) -> None:
        """A connection was closed. Idempotent."""
        idle = self._idle.get(upstream.address)
        if idle is not None and upstream in idle:
            idle.remove(upstream)
        if not idle:
            self._idle.pop(upstream.address, None)

    # --- who is there ---

    def calling(self) -> None:
        """A roll is about to be read: it says the truth to everybody who is parked now."""
        self._reading += self._parked
        self._parked = []

    def called(self, roll: NodeLeases) -> None:
        """A roll was read."""
        for name in self.nodes.update(roll, now_s=runtime.now_s()):
            for carrying in list(self._carried.get(name, ())):
                self.shared.pump.guard(carrying.fail)
        self.shared.metrics.relay_nodes = len(self.nodes)
        self._settle()

    def unheard(self) -> None:
        """The roll could not be read: who is not known stays unknown."""
        self._settle()

    def _settle(self) -> None:
        settled, self._reading = self._reading, []
        for parked in settled:
            self.shared.pump.resume(parked)
        if self._parked:
            self._look()

    def unpark(self, parked: Parked, link: Link) -> None:
        """Send a parked request on, or say that nobody has its session."""
        address = self.nodes.find(parked.owner, now_s=runtime.now_s())
        if address is None:
            self.shared.metrics.relay_unknown += 1
            self.unknown(link)
        else:
            self._send(link, parked.head, parked.body, parked.owner, address, parked.wait_s)

    def give_up(self) -> None:
        """This node goes away: everything on its way is answered as an unknown session."""
        self._reading += self._parked
        self._parked = []
        for parked in self._reading:
            if parked.link is not None:
                self.unknown(parked.link)
        self._reading = []
        for carried in list(self._carried.values()):
            for carrying in list(carried):
                self.shared.pump.guard(carrying.fail)


def _target(head: Head) -> str:
    return f"{head.path}?{head.query}" if head.query else head.path


def request_bytes(head: Head, body: bytes, stamp: str) -> bytes:
    """The request as it goes to its owner."""
    headers = head.headers
    lines = [f"{head.method} {_target(head)} HTTP/1.1", f"host: {headers.get('host', '')}", f"{STAMP_HEADER}: {stamp}"]
    lines += [f"{name}: {headers[name]}" for name in _KEPT if name in headers]
    if head.wants_upgrade:
        lines += ["connection: Upgrade", f"upgrade: {headers['upgrade']}"]
    elif not head.keep_alive:
        # The owner's answer goes back byte for byte: it has to say that this client's connection ends.
        lines.append("connection: close")
    if head.method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
