"""Nodes of one process: orders, answers and records, as `control.lua` and `nodes.lua` keep them in Redis."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidings.wire.control import Answers, NodeRecord, Order, read_node

Listener = Callable[[dict[str, object]], None]


@dataclass(slots=True)
class _Waiting:
    said: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    more: threading.Event = field(default_factory=threading.Event)


class MemoryCommands:
    """Safe to share between threads. A listener must be quick and is called from the thread that asks."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._waiting: dict[str, _Waiting] = {}
        self._records: dict[str, tuple[float, NodeRecord]] = {}
        self._revoked: dict[str, float] = {}

    def add_listener(self, listener: Listener) -> None:
        """Give `listener` every order from now on."""
        with self._lock:
            self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Stop that. Idempotent."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def broadcast(self, message: dict[str, object]) -> int:
        """Give a control message to every node; how many there are."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(message)
        return len(listeners)

    def request(self, order: Order, *, timeout_s: float) -> Answers:
        """What every node says to an order, as far as the answers come within `timeout_s` seconds."""
        end_s = self._now_s() + timeout_s
        token, waiting = secrets.token_urlsafe(12), _Waiting()
        if order.revocation is not None:
            self.revoke(*order.revocation)
        with self._lock:
            self._waiting[token] = waiting
        try:
            heard = self.broadcast(json.loads(order.message(token)))
            while len(waiting.said) < heard and waiting.more.wait(max(0.0, end_s - self._now_s())):
                waiting.more.clear()
        finally:
            with self._lock:
                del self._waiting[token]
        living = [record.node for record in self.nodes()]
        return Answers(list(waiting.said.values()), tuple(node for node in living if node not in waiting.said))

    def reply(self, token: str, said: Mapping[str, Any]) -> None:
        """A node's answer; nobody may be waiting for it any more."""
        with self._lock:
            waiting = self._waiting.get(token)
            if waiting is not None:
                waiting.said.setdefault(str(said.get("node")), said)
                waiting.more.set()

    def write_node(self, node: str, record: Mapping[str, Any] | None, *, lease_s: float) -> list[NodeRecord]:
        """Keep a node's record for `lease_s` seconds, or drop it (None); all that hold."""
        with self._lock:
            if record is None:
                self._records.pop(node, None)
            else:
                self._records[node] = (self._now_s() + lease_s, read_node(record))
        return self.nodes()

    def nodes(self) -> list[NodeRecord]:
        """The records that hold, by name."""
        now_s = self._now_s()
        with self._lock:
            self._records = {name: kept for name, kept in self._records.items() if kept[0] > now_s}
            return [record for _, (_, record) in sorted(self._records.items())]

    def revoke(self, key: str, until_s: float) -> None:
        """Remember a revocation; an earlier end than the known one changes nothing."""
        with self._lock:
            self._revoked[key] = max(until_s, self._revoked.get(key, until_s))

    def revoked(self, *, now_s: float) -> dict[str, float]:
        """The revocations that hold at a unix time."""
        with self._lock:
            self._revoked = {key: until_s for key, until_s in self._revoked.items() if until_s > now_s}
            return dict(self._revoked)
