"""Which connections of this node are subscribed to which channels, O(1) both ways.

A connection is in a channel's `live` if it receives every publication immediately. While its missed publications are
still being read, it is behind a `Catchup`, which holds the live publications back so that none overtakes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Generic, TypeVar

from tidings.wire.cursor import Cursor
from tidings_hub.core.frame import Frame
from tidings_hub.core.small_set import add_member, remove_member

C = TypeVar("C")


class Catchup(Generic[C]):
    """One connection that is joining channels.

    `held_frames`: live publications that arrived since, at most `hold_max`. Beyond that `overflowed` is set, and the
    connection has to be closed as slow; the client recovers with its cursor.
    `lost`: channels in which the node itself lost publications since.
    """

    __slots__ = ("channels", "connection", "held_frames", "hold_max", "lost", "overflowed", "since")

    def __init__(self, connection: C, channels: Sequence[str], since: Cursor | None, *, hold_max: int) -> None:
        self.connection = connection
        self.channels = tuple(channels)
        self.since = since
        self.hold_max = hold_max
        self.held_frames: list[Frame] = []
        self.lost: set[str] = set()
        self.overflowed = False

    def hold(self, frame: Frame) -> None:
        """Hold a live publication back; see `overflowed`."""
        if len(self.held_frames) >= self.hold_max:
            self.overflowed = True
        else:
            self.held_frames.append(frame)

    def lose(self, name: str) -> None:
        """The node lost publications in this channel: the client has to reload it. Drop what is held of it."""
        self.lost.add(name)
        self.held_frames = [frame for frame in self.held_frames if frame.publication.channel != name]


class Channel(Generic[C]):
    """The subscribers of one channel on this node."""

    __slots__ = ("catchups", "live")

    def __init__(self) -> None:
        self.live: Collection[C] = ()
        self.catchups: list[Catchup[C]] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the channel has no subscriber on this node."""
        return not self.live and not self.catchups


class Subscriptions(Generic[C]):
    """All channels that have a subscriber on this node."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel[C]] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def __contains__(self, name: object) -> bool:
        return name in self._channels

    def get(self, name: str) -> Channel[C] | None:
        """The channel, if it has a subscriber."""
        return self._channels.get(name)

    def names(self) -> Iterable[str]:
        """The names of all channels."""
        return self._channels.keys()

    def count(self, name: str) -> int:
        """How many connections receive the channel's publications."""
        channel = self._channels.get(name)
        return 0 if channel is None else len(channel.live)

    def begin(self, catchup: Catchup[C]) -> None:
        """Start to hold the channels' publications back for the catch-up's connection."""
        for name in catchup.channels:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = Channel()
            if channel.catchups is None:
                channel.catchups = []
            channel.catchups.append(catchup)

    def finish(self, catchup: Catchup[C]) -> None:
        """Make the channels live for the catch-up's connection."""
        for name in self._end_catchup(catchup):
            channel = self._channels[name]
            channel.live = add_member(channel.live, catchup.connection)

    def abandon(self, catchup: Catchup[C]) -> list[str]:
        """Give the catch-up up. Returns the channels that have no subscriber any more."""
        return self._remove_empty(self._end_catchup(catchup))

    def leave(self, connection: C, names: Iterable[str]) -> list[str]:
        """Unsubscribe the connection. Returns the channels that have no subscriber any more."""
        left = []
        for name in names:
            channel = self._channels.get(name)
            if channel is not None:
                channel.live = remove_member(channel.live, connection)
                left.append(name)
        return self._remove_empty(left)

    def _end_catchup(self, catchup: Catchup[C]) -> list[str]:
        left = []
        for name in catchup.channels:
            channel = self._channels.get(name)
            if channel is not None and channel.catchups and catchup in channel.catchups:
                channel.catchups.remove(catchup)
                if not channel.catchups:
                    channel.catchups = None
                left.append(name)
        return left

    def _remove_empty(self, names: Iterable[str]) -> list[str]:
        empty = [name for name in names if self._channels[name].is_empty]
        for name in empty:
            del self._channels[name]
        return empty
