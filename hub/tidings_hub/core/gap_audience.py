"""Who is to be told when publications are missing. What is still being recovered is marked on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tidings_hub.core.sessions import Session
from tidings_hub.core.subscriptions import Subscriptions

C = TypeVar("C")


def affected_by_loss(subscriptions: Subscriptions[C], channels: Sequence[str]) -> dict[C, list[str]]:
    """This node lost something in these channels: everybody in them is concerned."""
    concerned: dict[C, list[str]] = {}
    for name in channels:
        channel = subscriptions.get(name)
        if channel is None:
            continue
        for catchup in channel.catchups or ():
            catchup.lose(name)
        for connection in channel.live:
            concerned.setdefault(connection, []).append(name)
    return concerned


def affected_by_doubt(
    subscriptions: Subscriptions[C],
    channels: Sequence[str],
    first: int,
    until: int,
    session_of: Callable[[C], Session[C] | None],
) -> dict[C, list[str]]:
    """Another node lost something there: who returned with a cursor from `first` to `until` is concerned."""
    concerned: dict[C, list[str]] = {}
    for name in channels:
        channel = subscriptions.get(name)
        if channel is None:
            continue
        for catchup in channel.catchups or ():
            if catchup.since is not None and any(first <= place.seq <= until for place in catchup.since.places):
                catchup.lose(name)
        for connection in channel.live:
            session = session_of(connection)
            if session is not None and session.has_recovered_within(first, until):
                concerned.setdefault(connection, []).append(name)
    return concerned
