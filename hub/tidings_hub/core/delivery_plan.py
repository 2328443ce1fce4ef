"""Fan-out: which publications go to which connections, decided once per turn.

All that came from the broker in one turn is planned together, so that each
connection is written to once. Connections that get the same publications form one
group and share one joined buffer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from tidings_hub.core.frame import Frame
from tidings_hub.core.subscriptions import Subscriptions

C = TypeVar("C")


def plan(frames: Sequence[Frame], subscriptions: Subscriptions[C]) -> Iterator[tuple[Collection[C], list[Frame]]]:
    """Groups of connections with the frames that each of the group gets, in order of `frames`.

    No connection is in two groups. A group's collection is the channel's own where one
    channel is all there is: do not change subscriptions before the group is used up.
    """
    by_channel: dict[str, list[Frame]] = {}
    for frame in frames:
        by_channel.setdefault(frame.publication.channel, []).append(frame)
    found = [
        (channel.live, wanted)
        for name, wanted in by_channel.items()
        if (channel := subscriptions.get(name)) is not None and channel.live
    ]
    if len(found) == 1:
        yield found[0]
        return
    yield from _merged(found)


def _merged(found: list[tuple[Collection[C], list[Frame]]]) -> Iterator[tuple[Collection[C], list[Frame]]]:
    """Groups where a connection may be in several of the channels."""
    places: dict[C, list[int]] = {}
    for place, (live, _) in enumerate(found):
        for connection in live:
            if connection in places:
                places[connection].append(place)
            else:
                places[connection] = [place]
    groups: dict[tuple[int, ...], list[C]] = {}
    for connection, at in places.items():
        groups.setdefault(tuple(at), []).append(connection)
    for key, connections in groups.items():
        if len(key) == 1:
            yield connections, found[key[0]][1]
        else:
            merged = [frame for place in key for frame in found[place][1]]
            merged.sort(key=lambda frame: frame.seq)
            yield connections, merged
