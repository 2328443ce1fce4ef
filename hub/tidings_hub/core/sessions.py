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
from tidings_hub.core.small_set import add_member, remove_member

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
    of its end, `leeway_s` after the token expired. Until then CONNECT accepts the token as well.
    """

    def __init__(self, warning_s: float, leeway_s: float = 0.0) -> None:
        self._warning_s = warning_s
        self.leeway_s = leeway_s
        # The second and its sessions. All sessions of a slot share the one int, which would take 32 bytes in each.
        self._slots: dict[int, tuple[int, set[Session[C]]]] = {}

    def __len__(self) -> int:
        return sum(len(members) for _, members in self._slots.values())

    def add(self, session: Session[C]) -> None:
        """Watch the session's token. A token that does not expire is not watched."""
        self.discard(session)
        end_s = session.claims.expires_at_s
        if end_s is not None:
            due = int(end_s + self.leeway_s if session.warned else end_s - self._warning_s) + 1
            session.due, members = self._slots.setdefault(due, (due, set()))
            members.add(session)

    def is_over(self, session: Session[C], now_s: float) -> bool:
        """Whether the session's token is no longer valid."""
        end_s = session.claims.expires_at_s
        return end_s is not None and end_s + self.leeway_s <= now_s

    def discard(self, session: Session[C]) -> None:
        """Stop watching the session."""
        if session.due is None:
            return
        slot = self._slots.get(session.due)
        if slot is not None:
            slot[1].discard(session)
            if not slot[1]:
                del self._slots[session.due]
        session.due = None

    def pop_due(self, now_s: float) -> list[Session[C]]:
        """Remove and return the sessions whose warning or end is due. They may be added again."""
        due: list[Session[C]] = []
        for second in sorted(second for second in self._slots if second <= now_s):
            due += self._slots.pop(second)[1]
        for session in due:
            session.due = None
        return due


class OpenSessions(Generic[C]):
    """The open sessions of a node, by connection and by user.

    A command to one user must not look at all sessions: with 100,000 of them that takes 20 ms of the event loop.
    """

    __slots__ = ("_of_user", "by_connection")

    def __init__(self) -> None:
        self.by_connection: dict[C, Session[C]] = {}
        # Nearly all users have one session: no collection for these.
        self._of_user: dict[str, Session[C] | Collection[Session[C]]] = {}

    def add(self, session: Session[C]) -> None:
        """A session was opened."""
        self.by_connection[session.connection] = session
        user = session.claims.sub
        others = self.of_user(user)
        self._of_user[user] = add_member(others, session) if others else session

    def remove(self, session: Session[C]) -> None:
        """A session has ended. Idempotent."""
        if self.by_connection.pop(session.connection, None) is None:
            return
        rest = remove_member(self.of_user(session.user), session)
        if rest:
            self._of_user[session.user] = rest
        else:
            self._of_user.pop(session.user, None)

    def of_user(self, user: str) -> Collection[Session[C]]:
        """The sessions of a user. Copy it before anything that opens or ends one."""
        sessions = self._of_user.get(user, ())
        return (sessions,) if isinstance(sessions, Session) else sessions
