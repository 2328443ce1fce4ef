"""What a handler is told of the client that it is called for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidings.wire.claims import Claims
from tidings_hub.core.sessions import Session as Live


@dataclass(frozen=True, slots=True)
class Session:
    """One authenticated client, as it was when its handler was called.

    `user` is the token's `sub`, `claims` all that the token says, `connection` the public id that
    `tidings:ready` and `/api/connections` name: `app.disconnect(connection=session.connection)`.
    """

    user: str
    claims: Claims
    connection: str

    @classmethod
    def of(cls, live: Live[Any]) -> Session:
        """The session as it is now; a refreshed token changes it later."""
        return cls(live.user, live.claims, live.id)
