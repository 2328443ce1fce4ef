"""The plan of a fan-out: which publications go to which connections, decided once per batch.

All publications of one read from the broker are planned together, so that each connection is written to once.
Connections that get the same publications form one group and share one joined buffer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from tidings_hub.core.frame import Frame
from tidings_hub.core.subscriptions import Subscriptions

C = TypeVar("C")


def plan(frames: Sequence[Frame], subscriptions: Subscriptions[C]) -> Iterator[tuple[Collection[C], list[Frame]]]:
    """Groups of connections, each with the frames that all of its connections get, in order of `frames`.

    No connection is in two groups. With a single channel the group is the channel's own collection, not a copy: do not
    change subscriptions before the group is used up.
    """
    by_channel: dict[str, list[Frame]] = {}
    for frame in frames:
        by_channel.setdefault(frame.publication.channel, []).append(frame)
    audiences = [
        (channel.live, channel_frames)
        for name, channel_frames in by_channel.items()
        if (channel := subscriptions.get(name)) is not None and channel.live
    ]
    if len(audiences) == 1:
        yield audiences[0]
        return
    yield from _merged(audiences)


def _merged(audiences: list[tuple[Collection[C], list[Frame]]]) -> Iterator[tuple[Collection[C], list[Frame]]]:
    """The groups for several channels, where a connection may be in more than one of them."""
    indexes: dict[C, list[int]] = {}
    for index, (live, _) in enumerate(audiences):
        for connection in live:
            if connection in indexes:
                indexes[connection].append(index)
            else:
                indexes[connection] = [index]
    groups: dict[tuple[int, ...], list[C]] = {}
    for connection, own_indexes in indexes.items():
        groups.setdefault(tuple(own_indexes), []).append(connection)
    for key, connections in groups.items():
        if len(key) == 1:
            yield connections, audiences[key[0]][1]
        else:
            merged = [frame for index in key for frame in audiences[index][1]]
            merged.sort(key=lambda frame: frame.seq)
            yield connections, merged
