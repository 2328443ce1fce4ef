"""Barriers: what has been sent before them has come when their answer comes.

A barrier is a PING with a token on the subscriber link. Redis answers in order, so its answer follows
every message that was published before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Barrier:
    """Waits for its answer on the link number `link`; `action` runs in the reader when it comes.

    `passed` is set in any case, `ok` only if the answer came and the action ran.
    """

    link: int
    action: Callable[[], None] | None = None
    passed: threading.Event = field(default_factory=threading.Event)
    ok: bool = False

    def run(self) -> None:
        """Run the action and let go of whoever waits."""
        try:
            if self.action is not None:
                self.action()
            self.ok = True
        finally:
            self.passed.set()


class Barriers:
    """The barriers that wait, by token. Any greenlet adds, the reader takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[bytes, Barrier] = {}
        self._tokens = 0

    def new_token(self) -> bytes:
        """A token that no other PING of this node has."""
        with self._lock:
            self._tokens += 1
            return b"b%d" % self._tokens

    def add(self, token: bytes, barrier: Barrier) -> None:
        """Let a barrier wait for its token."""
        with self._lock:
            self._waiting[token] = barrier

    def pop(self, token: bytes) -> Barrier | None:
        """The barrier whose answer came, if anybody still waits for it."""
        with self._lock:
            return self._waiting.pop(token, None)

    def break_all(self) -> None:
        """The link broke: none of the answers will come."""
        with self._lock:
            broken = list(self._waiting.values())
            self._waiting.clear()
        for barrier in broken:
            barrier.passed.set()
