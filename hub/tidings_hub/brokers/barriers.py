"""Barriers on the subscriber link: they show that everything published before them has arrived.

A barrier is a PING with a token. Redis replies in order, so the reply follows every message published before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tidings_hub.brokers.completion import Completion


@dataclass(slots=True)
class Barrier:
    """Waits for its reply on the link with the number `link`. `action` runs in the reader when the reply arrives.

    `passed` is set in any case, `ok` only if the reply arrived and the action ran.
    """

    link: int
    action: Callable[[], None] | None = None
    passed: Completion = field(default_factory=Completion)
    ok: bool = False

    def run(self) -> None:
        """Run the action and wake the waiting greenlet."""
        try:
            if self.action is not None:
                self.action()
            self.ok = True
        finally:
            self.passed.set()


class Barriers:
    """The waiting barriers, by token. Any greenlet may add one; only the reader removes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[bytes, Barrier] = {}
        self._tokens = 0

    def new_token(self) -> bytes:
        """A token that is unique among the PINGs of this node."""
        with self._lock:
            self._tokens += 1
            return b"b%d" % self._tokens

    def add(self, token: bytes, barrier: Barrier) -> None:
        """Register a barrier under its token."""
        with self._lock:
            self._waiting[token] = barrier

    def pop(self, token: bytes) -> Barrier | None:
        """Remove and return the barrier of this token; None if it is no longer registered."""
        with self._lock:
            return self._waiting.pop(token, None)

    def break_all(self) -> None:
        """Wake all waiting greenlets after the link broke: no reply will arrive."""
        with self._lock:
            barriers = list(self._waiting.values())
            self._waiting.clear()
        for barrier in barriers:
            barrier.passed.set()
