"""Who is asked beyond the rules: handlers of an app, and HTTP hooks. They only restrict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tidings.errors import TidingsError
from tidings_hub.core.sessions import Session, State


class Authorizer(Protocol):
    """Somebody who is asked. All but `disconnect` may wait, for a bounded time."""

    handles: frozenset[str]
    """What it is asked about: `connect`, `subscribe`, `publish`, `disconnect`."""

    def connect(self, session: Session[Any]) -> Sequence[str]:
        """Channels that the session gets beside those it asks for.

        Raises:
            TidingsError: it may not connect.
        """

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> Mapping[str, TidingsError]:
        """The channels among these that it may not have, and why."""

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        """Returns if the session may publish this.

        Raises:
            TidingsError: it may not.
        """

    def disconnect(self, session: Session[Any], reason: str) -> None:
        """A session that had connected has gone. Returns at once, never raises."""

    def pending(self) -> int:
        """Calls of `disconnect` that were not told on yet."""


class Authorizers:
    """All who are asked, in order; whoever refuses first is the last."""

    def __init__(self, gates: Sequence[Authorizer] = ()) -> None:
        self._authorizers = tuple(gates)
        self._connected_ids: set[str] = set()
        self.handles = frozenset[str]().union(*(gate.handles for gate in self._authorizers))

    def _handling(self, what: str) -> list[Authorizer]:
        return [gate for gate in self._authorizers if what in gate.handles] if what in self.handles else []

    def connect(self, session: Session[Any]) -> list[str]:
        """See `Authorizer.connect`; what is given is granted to the session, as a backend's subscription is."""
        given: dict[str, None] = {}
        for gate in self._handling("connect"):
            given.update(dict.fromkeys(gate.connect(session)))
        if given:
            session.granted |= frozenset(given)
        if "disconnect" in self.handles:
            self._connected_ids.add(session.id)
            if session.state is State.CLOSED:
                self.disconnect(session, "transport close")
        return list(given)

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> dict[str, TidingsError]:
        """See `Authorizer.subscribe`."""
        refused: dict[str, TidingsError] = {}
        for gate in self._handling("subscribe"):
            left = [name for name in channels if name not in refused]
            if left:
                refused.update(gate.subscribe(session, left))
        return refused

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        """See `Authorizer.publish`."""
        for gate in self._handling("publish"):
            gate.publish(session, channel, event, data)

    def disconnect(self, session: Session[Any], reason: str) -> None:
        """See `Authorizer.disconnect`; only for those that `connect` let in, and once."""
        if session.id in self._connected_ids:
            self._connected_ids.discard(session.id)
            for gate in self._handling("disconnect"):
                gate.disconnect(session, reason)

    def pending(self) -> int:
        """See `Authorizer.pending`."""
        return sum(gate.pending() for gate in self._authorizers)
