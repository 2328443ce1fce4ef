"""Commands to the nodes of one process, their replies and records: the counterpart of `control.lua` and `nodes.lua`."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidings.wire.control import Command, NodeRecord, NodeReplies, read_node_record

Listener = Callable[[dict[str, object]], None]


@dataclass(slots=True)
class _PendingCommand:
    replies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    arrived: threading.Event = field(default_factory=threading.Event)


class MemoryCommands:
    """Sends commands to the listeners of this process. Threads may share it.

    A listener must be quick: it is called in the thread that sends the command.
    """

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._pending: dict[str, _PendingCommand] = {}
        self._records: dict[str, tuple[float, NodeRecord]] = {}
        self._revoked: dict[str, float] = {}

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` with every command from now on."""
        with self._lock:
            self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Stop calling `listener`. Idempotent."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def broadcast(self, message: dict[str, object]) -> int:
        """Send a control message to every node. Returns their number."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(message)
        return len(listeners)

    def request(self, order: Command, *, timeout_s: float) -> NodeReplies:
        """Send a command to every node. Returns the replies that arrive within `timeout_s` seconds."""
        end_s = self._now_s() + timeout_s
        token, pending = secrets.token_urlsafe(12), _PendingCommand()
        if order.revocation is not None:
            self.revoke(*order.revocation)
        with self._lock:
            self._pending[token] = pending
        try:
            recipients = self.broadcast(json.loads(order.to_message(token)))
            while len(pending.replies) < recipients and pending.arrived.wait(max(0.0, end_s - self._now_s())):
                pending.arrived.clear()
        finally:
            with self._lock:
                del self._pending[token]
        live_nodes = [record.node for record in self.nodes()]
        return NodeReplies(
            list(pending.replies.values()), tuple(node for node in live_nodes if node not in pending.replies)
        )

    def reply(self, token: str, reply: Mapping[str, Any]) -> None:
        """Deliver a node's reply. It is discarded if the command has ended."""
        with self._lock:
            pending = self._pending.get(token)
            if pending is not None:
                pending.replies.setdefault(str(reply.get("node")), reply)
                pending.arrived.set()

    def write_node(self, node: str, record: Mapping[str, Any] | None, *, lease_s: float) -> list[NodeRecord]:
        """Store a node's record for `lease_s` seconds, or delete it (None). Returns all live records."""
        with self._lock:
            if record is None:
                self._records.pop(node, None)
            else:
                self._records[node] = (self._now_s() + lease_s, read_node_record(record))
        return self.nodes()

    def nodes(self) -> list[NodeRecord]:
        """The live records, sorted by name."""
        now_s = self._now_s()
        with self._lock:
            self._records = {name: entry for name, entry in self._records.items() if entry[0] > now_s}
            return [record for _, (_, record) in sorted(self._records.items())]

    def revoke(self, key: str, until_s: float) -> None:
        """Store a revocation. It never shortens a stored one."""
        with self._lock:
            self._revoked[key] = max(until_s, self._revoked.get(key, until_s))

    def revoked(self, *, now_s: float) -> dict[str, float]:
        """The revocations that are in force at a unix time."""
        with self._lock:
            self._revoked = {key: until_s for key, until_s in self._revoked.items() if until_s > now_s}
            return dict(self._revoked)
