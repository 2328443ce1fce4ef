from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tidings.errors import Forbidden, TidingsError
from tidings.wire.claims import Claims
from tidings_hub.core.sessions import Session, State
from tidings_hub.services.authorizers import Authorizers


class Asked:
    """A gate that allows all but what it was made to refuse, and remembers."""

    def __init__(self, *handles: str, gives: Sequence[str] = (), refuses: str = "") -> None:
        self.handles = frozenset(handles)
        self.gives = gives
        self.refuses = refuses
        self.heard: list[tuple[object, ...]] = []

    def connect(self, session: Session[Any]) -> Sequence[str]:
        self.heard.append(("connect", session.user))
        if self.refuses == session.user:
            raise Forbidden
        return self.gives

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> Mapping[str, TidingsError]:
        self.heard.append(("subscribe", *channels))
        return {name: Forbidden() for name in channels if name == self.refuses}

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        self.heard.append(("publish", channel, event, data))

    def disconnect(self, session: Session[Any], reason: str) -> None:
        self.heard.append(("disconnect", session.user, reason))

    def pending(self) -> int:
        return 1


def session(user: str = "ann") -> Session[Any]:
    return Session(f"id-of-{user}", object(), Claims(sub=user), 0.0)


def test_nobody_is_asked_where_nobody_is() -> None:
    live = session()
    granted = live.granted
    gates = Authorizers()
    assert gates.connect(live) == []
    assert gates.subscribe(live, ["a:1"]) == {}
    gates.publish(live, "a:1", "x", 1)
    gates.disconnect(live, "gone")
    assert (gates.handles, gates.pending()) == (frozenset(), 0)
    # One empty set for all sessions, however many there are.
    assert live.granted is granted


def test_each_is_asked_in_turn_about_what_is_left() -> None:
    first, second = (
        Asked("connect", "subscribe", gives=["a:1"], refuses="a:2"),
        Asked("subscribe", "connect", gives=["b:1"]),
    )
    gates, live = Authorizers([first, second]), session()
    assert gates.connect(live) == ["a:1", "b:1"]
    assert live.granted == frozenset({"a:1", "b:1"})
    assert list(gates.subscribe(live, ["a:2", "a:3"])) == ["a:2"]
    assert second.heard[-1] == ("subscribe", "a:3")
    gates.publish(live, "a:1", "x", 1)
    assert not any(heard[0] == "publish" for heard in first.heard + second.heard)


def test_who_was_refused_never_left() -> None:
    first, second = Asked("connect", refuses="bob"), Asked("connect", "disconnect", gives=["a:1"])
    gates, bob = Authorizers([first, second]), session("bob")
    with pytest.raises(Forbidden):
        gates.connect(bob)
    gates.disconnect(bob, "refused")
    assert (second.heard, bob.granted) == ([], frozenset())


def test_who_left_is_told_once_also_if_it_left_meanwhile() -> None:
    asked = Asked("connect", "disconnect")
    gates, ann, eve = Authorizers([asked]), session("ann"), session("eve")
    gates.connect(ann)
    for _ in range(2):
        gates.disconnect(ann, "gone")
    eve.state = State.CLOSED
    gates.connect(eve)
    gates.disconnect(eve, "gone")
    assert [heard for heard in asked.heard if heard[0] == "disconnect"] == [
        ("disconnect", "ann", "gone"),
        ("disconnect", "eve", "transport close"),
    ]
