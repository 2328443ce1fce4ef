"""Which connections to notify when publications are missing. A recovery that is still running is marked as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tidings_hub.core.sessions import Session
from tidings_hub.core.subscriptions import Subscriptions

C = TypeVar("C")


def affected_by_loss(subscriptions: Subscriptions[C], channels: Sequence[str]) -> dict[C, list[str]]:
    """The live connections of `channels`, each with its affected channels, after this node lost publications there."""
    affected: dict[C, list[str]] = {}
    for name in channels:
        channel = subscriptions.get(name)
        if channel is None:
            continue
        for catchup in channel.catchups or ():
            catchup.lose(name)
        for connection in channel.live:
            affected.setdefault(connection, []).append(name)
    return affected


def affected_by_doubt(
    subscriptions: Subscriptions[C],
    channels: Sequence[str],
    first: int,
    last: int,
    session_of: Callable[[C], Session[C] | None],
) -> dict[C, list[str]]:
    """The connections that resumed with a cursor from `first` to `last`, each with its affected channels.

    Another node lost publications in `channels`, so such a cursor may be too far ahead.
    """
    affected: dict[C, list[str]] = {}
    for name in channels:
        channel = subscriptions.get(name)
        if channel is None:
            continue
        for catchup in channel.catchups or ():
            if catchup.since is not None and any(first <= place.seq <= last for place in catchup.since.places):
                catchup.lose(name)
        for connection in channel.live:
            session = session_of(connection)
            if session is not None and session.has_recovered_within(first, last):
                affected.setdefault(connection, []).append(name)
    return affected
