"""Clients whose CONNECT was refused with a code after which they reconnect, and when each is closed.

A stock client resets its back-off when its transport opens. Closed at once, it returns about once a second, and some
hundred clients use up a node whose broker is away. So the hub closes it after the pause that the SDK makes by itself.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

C = TypeVar("C")

# As in the SDK's back-off (sdk_js/src/core/backoff.js).
BASE_S = 1.0
# After so long without a refusal the pauses are short again. Few clients need no long ones.
QUIET_S = 2.0


class HeldRefusals(Generic[C]):
    """The longer clients are refused, the longer their pauses: between 0 and that time, at most `pause_max_s`."""

    def __init__(self, pause_max_s: float) -> None:
        self._pause_max_s = pause_max_s
        self._held: dict[C, tuple[float, str]] = {}
        self._since_s = 0.0
        self._last_s = -math.inf

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, client: object) -> bool:
        return client in self._held

    def hold(self, client: C, code: str, *, now_s: float, draw: float) -> None:
        """Refuse a client: `pop_due` returns it with `code` after its pause. `draw`: a random number in [0, 1).

        A client that is held already keeps its first pause. Otherwise one that repeats CONNECT would never be closed.
        """
        if now_s - self._last_s > QUIET_S:
            self._since_s = now_s
        self._last_s = now_s
        due_s = now_s + draw * min(max(now_s - self._since_s, BASE_S), self._pause_max_s)
        self._held.setdefault(client, (due_s, code))

    def discard(self, client: C) -> None:
        """Forget a client that has closed. Idempotent."""
        self._held.pop(client, None)

    def pop_due(self, now_s: float) -> list[tuple[C, str]]:
        """Remove and return the clients whose pause is over, with their codes."""
        due = [(client, code) for client, (at_s, code) in self._held.items() if at_s <= now_s]
        for client, _ in due:
            del self._held[client]
        return due
