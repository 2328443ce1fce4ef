"""Clients whose CONNECT arrived and is not answered yet: how many there are, and how long each may wait.

The wait is the hub's: its workers are busy, or the broker does not reply. So it does not count against the client's
connect timeout. The deadlines of clients that arrived together are spread, because a stock client always reconnects
within 0.5 to 1.5 s after a close.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

C = TypeVar("C")

# The last part of the longest wait, over which the deadlines are spread.
_SPREAD = 1 / 3


@dataclass(slots=True)
class ConnectWait:
    """One client. `packets`: its unanswered CONNECTs, one per namespace.

    `client_left_s`: the rest of the client's own connect timeout; 0: none. It continues if no namespace is connected.
    """

    deadline_s: float
    client_left_s: float
    packets: int = 1


class ConnectWaits(Generic[C]):
    """At most `waits_max` clients, each for at most `timeout_s` seconds."""

    def __init__(self, *, waits_max: int, timeout_s: float) -> None:
        self.waits_max = waits_max
        self.timeout_s = timeout_s
        self._waits: dict[C, ConnectWait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, client: object) -> bool:
        return client in self._waits

    def begin(self, client: C, *, now_s: float, client_left_s: float, draw: float) -> bool:
        """Count one CONNECT of the client. False: too many clients wait.

        `draw`: a random number in [0, 1), which decides where in the spread the deadline is.
        """
        wait = self._waits.get(client)
        if wait is not None:
            wait.packets += 1
            return True
        if len(self._waits) >= self.waits_max:
            return False
        self._waits[client] = ConnectWait(now_s + self.timeout_s * (1 - _SPREAD * draw), client_left_s)
        return True

    def end(self, client: C) -> float | None:
        """One CONNECT of the client is answered. Returns its `client_left_s` if that was the last one, else None."""
        wait = self._waits.get(client)
        if wait is None:
            return None
        wait.packets -= 1
        if wait.packets:
            return None
        del self._waits[client]
        return wait.client_left_s

    def discard(self, client: C) -> None:
        """Remove a client whose connection has closed. Idempotent."""
        self._waits.pop(client, None)

    def pop_overdue(self, now_s: float) -> list[C]:
        """Remove and return the clients whose deadline has passed."""
        overdue = [client for client, wait in self._waits.items() if wait.deadline_s <= now_s]
        for client in overdue:
            del self._waits[client]
        return overdue
