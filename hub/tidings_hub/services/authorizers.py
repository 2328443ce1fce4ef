"""Who is asked beyond the rules: handlers of an app, and HTTP hooks. They only restrict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tidings.errors import TidingsError
from tidings_hub.core.sessions import Session, State


class Gate(Protocol):
    """Somebody who is asked. All but `disconnect` may wait, for a bounded time."""

    decides: frozenset[str]
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


class Gates:
    """All who are asked, in order; whoever refuses first is the last."""

    def __init__(self, gates: Sequence[Gate] = ()) -> None:
        self._gates = tuple(gates)
        self._let_in: set[str] = set()
        self.decides = frozenset[str]().union(*(gate.decides for gate in self._gates))

    def _asked(self, what: str) -> list[Gate]:
        return [gate for gate in self._gates if what in gate.decides] if what in self.decides else []

    def connect(self, session: Session[Any]) -> list[str]:
        """See `Gate.connect`; what is given is granted to the session, as a backend's subscription is."""
        given: dict[str, None] = {}
        for gate in self._asked("connect"):
            given.update(dict.fromkeys(gate.connect(session)))
        if given:
            session.granted |= frozenset(given)
        if "disconnect" in self.decides:
            self._let_in.add(session.id)
            if session.state is State.CLOSED:
                self.disconnect(session, "transport close")
        return list(given)

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> dict[str, TidingsError]:
        """See `Gate.subscribe`."""
        refused: dict[str, TidingsError] = {}
        for gate in self._asked("subscribe"):
            left = [name for name in channels if name not in refused]
            if left:
                refused.update(gate.subscribe(session, left))
        return refused

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        """See `Gate.publish`."""
        for gate in self._asked("publish"):
            gate.publish(session, channel, event, data)

    def disconnect(self, session: Session[Any], reason: str) -> None:
        """See `Gate.disconnect`; only for those that `connect` let in, and once."""
        if session.id in self._let_in:
            self._let_in.discard(session.id)
            for gate in self._asked("disconnect"):
                gate.disconnect(session, reason)

    def pending(self) -> int:
        """See `Gate.pending`."""
        return sum(gate.pending() for gate in self._gates)
