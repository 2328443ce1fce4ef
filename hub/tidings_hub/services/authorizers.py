"""Authorizers: an app's handlers and HTTP hooks, consulted after the rules of the namespaces. They only restrict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tidings.errors import TidingsError
from tidings_hub.core.sessions import Session, State


class Authorizer(Protocol):
    """Allows or refuses what clients request. All methods but `disconnect` may wait, for a bounded time."""

    handles: frozenset[str]
    """What it is consulted about: `connect`, `subscribe`, `publish`, `disconnect`."""

    def connect(self, session: Session[Any]) -> Sequence[str]:
        """Return the channels that the session gets beside those it requests.

        Raises:
            TidingsError: the session may not connect.
        """

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> Mapping[str, TidingsError]:
        """Return the refused channels, each with the reason."""

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        """Return if the session may publish this.

        Raises:
            TidingsError: it may not.
        """

    def disconnect(self, session: Session[Any], reason: str) -> None:
        """Report that a connected session has ended. Returns immediately, never raises."""

    def pending(self) -> int:
        """The number of `disconnect` reports that are not delivered yet."""


class Authorizers:
    """Runs every authorizer in order and stops at the first refusal. See `Authorizer` for the methods."""

    def __init__(self, authorizers: Sequence[Authorizer] = ()) -> None:
        self._authorizers = tuple(authorizers)
        self._connected_ids: set[str] = set()
        self.handles = frozenset[str]().union(*(authorizer.handles for authorizer in self._authorizers))

    def _handling(self, action: str) -> list[Authorizer]:
        if action not in self.handles:
            return []
        return [authorizer for authorizer in self._authorizers if action in authorizer.handles]

    def connect(self, session: Session[Any]) -> list[str]:
        """The returned channels are granted to the session, like those that a backend subscribes it to."""
        granted: dict[str, None] = {}
        for authorizer in self._handling("connect"):
            granted.update(dict.fromkeys(authorizer.connect(session)))
        if granted:
            session.granted |= frozenset(granted)
        if "disconnect" in self.handles:
            self._connected_ids.add(session.id)
            if session.state is State.CLOSED:
                self.disconnect(session, "transport close")
        return list(granted)

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> dict[str, TidingsError]:
        """Each authorizer is consulted about the channels that the ones before it did not refuse."""
        refused: dict[str, TidingsError] = {}
        for authorizer in self._handling("subscribe"):
            remaining = [name for name in channels if name not in refused]
            if remaining:
                refused.update(authorizer.subscribe(session, remaining))
        return refused

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        """See `Authorizer.publish`."""
        for authorizer in self._handling("publish"):
            authorizer.publish(session, channel, event, data)

    def disconnect(self, session: Session[Any], reason: str) -> None:
        """Report the end of a session once, and only if `connect` allowed it."""
        if session.id in self._connected_ids:
            self._connected_ids.discard(session.id)
            for authorizer in self._handling("disconnect"):
                authorizer.disconnect(session, reason)

    def pending(self) -> int:
        """See `Authorizer.pending`."""
        return sum(authorizer.pending() for authorizer in self._authorizers)
