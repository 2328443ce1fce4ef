"""Sessions: authenticated clients, from CONNECT to their end, and when their tokens expire.

    NEW ──accepted──▶ OPEN ──closed──▶ CLOSED
     └──────────────refused──────────────▲

A session outlives an upgrade from polling to WebSocket, because the engine's connection does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Generic, TypeVar

from tidings.wire.claims import Claims
from tidings_hub.core.resumable_session import ResumableSession

C = TypeVar("C")


class State(IntEnum):
    """The state of a session."""

    NEW = 0
    OPEN = 1
    CLOSED = 2


class Session(Generic[C]):
    """One authenticated client on one connection `C`.

    `id` is public: it appears in responses and logs. The connection's own id is a secret of the transport.
    `opened_s` is wall-clock time. `warned`: whether the client was notified that its token expires soon.
    """

    __slots__ = (
        "channels",
        "claims",
        "connection",
        "due",
        "granted",
        "id",
        "opened_s",
        "recovered_range",
        "resumable",
        "state",
        "warned",
    )

    def __init__(self, id: str, connection: C, claims: Claims, opened_s: float) -> None:
        self.id = id
        self.connection = connection
        self.claims = claims
        self.opened_s = opened_s
        self.state = State.NEW
        self.warned = False
        self.due: int | None = None
        self.channels: Collection[str] = ()
        # Channels that a backend or an authorizer granted beside the token. Mostly none: one empty set for all.
        self.granted: frozenset[str] = frozenset()
        # What the session store saves of it; None: nothing.
        self.resumable: ResumableSession | None = None
        # The lowest and the highest seq of cursors with which it recovered completely.
        self.recovered_range: tuple[int, int] | None = None

    @property
    def user(self) -> str:
        """The token's `sub`."""
        return self.claims.sub

    def record_recovery(self, seq: int) -> None:
        """Remember that the client recovered completely with a cursor at `seq`."""
        first, last = self.recovered_range or (seq, seq)
        self.recovered_range = min(first, seq), max(last, seq)

    def has_recovered_within(self, first: int, last: int) -> bool:
        """Whether the client may have recovered with a cursor from `first` to `last`."""
        recovered = self.recovered_range
        return recovered is not None and recovered[0] <= last and first <= recovered[1]

    def expires_in_s(self, now_s: float) -> float | None:
        """Seconds until the token expires, at least 0; None if it never does."""
        end_s = self.claims.expires_at_s
        return None if end_s is None else max(0.0, end_s - now_s)

    def describe(self, now_s: float) -> Mapping[str, object]:
        """The session as `/api/connections` lists it, at the wall-clock time `now_s`. It contains no secret."""
        return {
            "connection": self.id,
            "user": self.user,
            "channels": len(self.channels),
            "age_s": round(max(0.0, now_s - self.opened_s), 1),
        }


class Expiries(Generic[C]):
    """When to warn sessions and when to end them, by whole seconds. Adding and removing are O(1).

    A session is in at most one slot: first in that of its warning, `warning_s` before the token expires, then in that
    of its end.
    """

    def __init__(self, *, warning_s: float) -> None:
        self._warning_s = warning_s
        self._slots: dict[int, set[Session[C]]] = {}

    def __len__(self) -> int:
        return sum(len(members) for members in self._slots.values())

    def add(self, session: Session[C]) -> None:
        """Watch the session's token. A token that does not expire is not watched."""
        self.discard(session)
        end_s = session.claims.expires_at_s
        if end_s is not None:
            session.due = int(end_s if session.warned else end_s - self._warning_s) + 1
            self._slots.setdefault(session.due, set()).add(session)

    def discard(self, session: Session[C]) -> None:
        """Stop watching the session."""
        if session.due is None:
            return
        members = self._slots.get(session.due)
        if members is not None:
            members.discard(session)
            if not members:
                del self._slots[session.due]
        session.due = None

    def pop_due(self, now_s: float) -> list[Session[C]]:
        """Remove and return the sessions whose warning or end is due. They may be added again."""
        due: list[Session[C]] = []
        for second in sorted(second for second in self._slots if second <= now_s):
            due += self._slots.pop(second)
        for session in due:
            session.due = None
        return due
