"""Sessions: who is connected, until when, and what ends it.

    NEW ──accepted──▶ OPEN ──closed──▶ CLOSED
     └──────────────refused──────────────▲

A session is one authenticated client. It outlives a change of transport (polling to
WebSocket) because the engine's connection does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Generic, TypeVar

from tidings.wire.claims import Claims
from tidings_hub.core.resumable_session import ResumableSession

C = TypeVar("C")


class State(IntEnum):
    """Where a session is in its life."""

    NEW = 0
    OPEN = 1
    CLOSED = 2


class Session(Generic[C]):
    """One authenticated client on one connection `C`.

    `id` is public: it appears in answers and logs, unlike the connection's own id,
    which is a secret of the transport. `opened_s` is wall-clock time.
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
        # Channels that a backend subscribed it to, whatever its token covers. Seldom any: one empty set for all.
        self.granted: frozenset[str] = frozenset()
        # What is kept for its client's return; None: nothing.
        self.resumable: ResumableSession | None = None
        # The lowest and the highest seq that it returned with and was told `recovered: true`.
        self.recovered_range: tuple[int, int] | None = None

    @property
    def user(self) -> str:
        """The token's `sub`."""
        return self.claims.sub

    def record_recovery(self, seq: int) -> None:
        """It returned with a cursor at `seq`, and was told that nothing is missing."""
        first, last = self.recovered_range or (seq, seq)
        self.recovered_range = min(first, seq), max(last, seq)

    def has_recovered_within(self, first: int, until: int) -> bool:
        """Whether it may have returned with a cursor in this range."""
        return (
            self.recovered_range is not None and self.recovered_range[0] <= until and first <= self.recovered_range[1]
        )

    def expires_in_s(self, now_s: float) -> float | None:
        """Seconds until the token ends, not below 0; None if it never does."""
        end_s = self.claims.expires_at_s
        return None if end_s is None else max(0.0, end_s - now_s)

    def describe(self, now_s: float) -> Mapping[str, object]:
        """What an operator sees of it, at the wall-clock time `now_s`: no token, no transport secret."""
        return {
            "connection": self.id,
            "user": self.user,
            "channels": len(self.channels),
            "age_s": round(max(0.0, now_s - self.opened_s), 1),
        }


class Expiries(Generic[C]):
    """Which sessions have a deadline, by whole seconds: add and remove are O(1).

    Each session is in at most one slot: first that of its warning, then that of its end.
    """

    def __init__(self, *, warning_s: float) -> None:
        self._warning_s = warning_s
        self._slots: dict[int, set[Session[C]]] = {}

    def __len__(self) -> int:
        return sum(len(members) for members in self._slots.values())

    def add(self, session: Session[C]) -> None:
        """Watch the session's token; one without an end is not watched."""
        self.discard(session)
        end_s = session.claims.expires_at_s
        if end_s is not None:
            session.due = int(end_s if session.warned else end_s - self._warning_s) + 1
            self._slots.setdefault(session.due, set()).add(session)

    def discard(self, session: Session[C]) -> None:
        """Forget the session (it closed, or is about to get a new token)."""
        if session.due is None:
            return
        members = self._slots.get(session.due)
        if members is not None:
            members.discard(session)
            if not members:
                del self._slots[session.due]
        session.due = None

    def pop_due(self, now_s: float) -> list[Session[C]]:
        """The sessions whose warning or end has come; each is forgotten and may be added again."""
        found: list[Session[C]] = []
        for slot in sorted(at for at in self._slots if at <= now_s):
            found += self._slots.pop(slot)
        for session in found:
            session.due = None
        return found
