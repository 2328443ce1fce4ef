from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tidings.errors import Forbidden, TidingsError
from tidings.wire.claims import Claims
from tidings_hub.core.sessions import Session, State
from tidings_hub.services.authorizers import Authorizers


class FakeAuthorizer:
    """Allows everything but `refuses`, and records its calls."""

    def __init__(self, *handles: str, gives: Sequence[str] = (), refuses: str = "") -> None:
        self.handles = frozenset(handles)
        self.gives = gives
        self.refuses = refuses
        self.calls: list[tuple[object, ...]] = []

    def connect(self, session: Session[Any]) -> Sequence[str]:
        self.calls.append(("connect", session.user))
        if self.refuses == session.user:
            raise Forbidden
        return self.gives

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> Mapping[str, TidingsError]:
        self.calls.append(("subscribe", *channels))
        return {name: Forbidden() for name in channels if name == self.refuses}

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        self.calls.append(("publish", channel, event, data))

    def disconnect(self, session: Session[Any], reason: str) -> None:
        self.calls.append(("disconnect", session.user, reason))

    def pending(self) -> int:
        return 1


def session(user: str = "ann") -> Session[Any]:
    return Session(f"id-of-{user}", object(), Claims(sub=user), 0.0)


def test_without_authorizers_everything_is_allowed() -> None:
    live = session()
    granted = live.granted
    authorizers = Authorizers()
    assert authorizers.connect(live) == []
    assert authorizers.subscribe(live, ["a:1"]) == {}
    authorizers.publish(live, "a:1", "x", 1)
    authorizers.disconnect(live, "gone")
    assert (authorizers.handles, authorizers.pending()) == (frozenset(), 0)
    # One empty set for all sessions, however many there are.
    assert live.granted is granted


def test_later_authorizers_are_consulted_about_the_remaining_channels() -> None:
    first, second = (
        FakeAuthorizer("connect", "subscribe", gives=["a:1"], refuses="a:2"),
        FakeAuthorizer("subscribe", "connect", gives=["b:1"]),
    )
    authorizers, live = Authorizers([first, second]), session()
    assert authorizers.connect(live) == ["a:1", "b:1"]
    assert live.granted == frozenset({"a:1", "b:1"})
    assert list(authorizers.subscribe(live, ["a:2", "a:3"])) == ["a:2"]
    assert second.calls[-1] == ("subscribe", "a:3")
    authorizers.publish(live, "a:1", "x", 1)
    assert not any(call[0] == "publish" for call in first.calls + second.calls)


def test_no_disconnect_is_reported_for_a_refused_session() -> None:
    first, second = FakeAuthorizer("connect", refuses="bob"), FakeAuthorizer("connect", "disconnect", gives=["a:1"])
    authorizers, bob = Authorizers([first, second]), session("bob")
    with pytest.raises(Forbidden):
        authorizers.connect(bob)
    authorizers.disconnect(bob, "refused")
    assert (second.calls, bob.granted) == ([], frozenset())


def test_a_disconnect_is_reported_once_also_during_connect() -> None:
    authorizer = FakeAuthorizer("connect", "disconnect")
    authorizers, ann, eve = Authorizers([authorizer]), session("ann"), session("eve")
    authorizers.connect(ann)
    for _ in range(2):
        authorizers.disconnect(ann, "gone")
    eve.state = State.CLOSED
    authorizers.connect(eve)
    authorizers.disconnect(eve, "gone")
    assert [call for call in authorizer.calls if call[0] == "disconnect"] == [
        ("disconnect", "ann", "gone"),
        ("disconnect", "eve", "transport close"),
    ]
