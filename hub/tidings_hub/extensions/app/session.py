"""The session of a client as handlers of an app see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidings.wire.claims import Claims
from tidings_hub.core.sessions import Session as LiveSession


@dataclass(frozen=True, slots=True)
class Session:
    """One authenticated client, as it was when its handler was called.

    `user` is the token's `sub`, `claims` are the token's claims, `connection` is the public id that
    `tidings:ready` and `/api/connections` name: `app.disconnect(connection=session.connection)`.
    """

    user: str
    claims: Claims
    connection: str

    @classmethod
    def of(cls, live: LiveSession[Any]) -> Session:
        """A copy of the live session. It does not change when the client refreshes its token."""
        return cls(live.user, live.claims, live.id)
