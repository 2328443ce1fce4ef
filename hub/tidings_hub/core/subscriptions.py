"""Who listens to what on this node: channel to connections, O(1) both ways.

A connection is among a channel's `live` when it gets every publication as it
comes, or behind a `Catchup` while what it missed is still being read; the catch-up
holds the live publications back meanwhile, so that nothing overtakes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Generic, TypeVar

from tidings.wire.cursor import Cursor
from tidings_hub.core.frame import Frame
from tidings_hub.core.small_set import add_member, remove_member

C = TypeVar("C")


class Catchup(Generic[C]):
    """One connection on its way into some channels.

    `held` are live publications that came meanwhile, at most `hold_max`; past that `overflowed`
    is set and the connection has to be closed as slow (its cursor brings it back).
    `lost` are channels in which the node itself missed something meanwhile.
    """

    __slots__ = ("channels", "connection", "held", "hold_max", "lost", "overflowed", "since")

    def __init__(self, connection: C, channels: Sequence[str], since: Cursor | None, *, hold_max: int) -> None:
        self.connection = connection
        self.channels = tuple(channels)
        self.since = since
        self.hold_max = hold_max
        self.held: list[Frame] = []
        self.lost: set[str] = set()
        self.overflowed = False

    def hold(self, frame: Frame) -> None:
        """Keep a live publication for later; see `overflowed`."""
        if len(self.held) >= self.hold_max:
            self.overflowed = True
        else:
            self.held.append(frame)

    def lose(self, name: str) -> None:
        """The node lost something in this channel: its client is to reload, so what was held of it goes."""
        self.lost.add(name)
        self.held = [frame for frame in self.held if frame.publication.channel != name]


class Channel(Generic[C]):
    """The interest of this node's connections in one channel."""

    __slots__ = ("catchups", "live")

    def __init__(self) -> None:
        self.live: Collection[C] = ()
        self.catchups: list[Catchup[C]] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nobody here listens any more."""
        return not self.live and not self.catchups


class Subscriptions(Generic[C]):
    """All channels that a connection of this node listens to."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel[C]] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def __contains__(self, name: object) -> bool:
        return name in self._channels

    def get(self, name: str) -> Channel[C] | None:
        """The channel, if anybody here listens to it."""
        return self._channels.get(name)

    def names(self) -> Iterable[str]:
        """The channels that have a connection here."""
        return self._channels.keys()

    def count(self, name: str) -> int:
        """How many connections of this node get the channel's publications."""
        channel = self._channels.get(name)
        return 0 if channel is None else len(channel.live)

    def begin(self, catchup: Catchup[C]) -> None:
        """Hold the channels' publications back for the catch-up's connection."""
        for name in catchup.channels:
            channel = self._channels.get(name)
            if channel is None:
                channel = self._channels[name] = Channel()
            if channel.catchups is None:
                channel.catchups = []
            channel.catchups.append(catchup)

    def finish(self, catchup: Catchup[C]) -> None:
        """From now on the connection gets the channels' publications as they come."""
        for name in self._leave_catching(catchup):
            channel = self._channels[name]
            channel.live = add_member(channel.live, catchup.connection)

    def abandon(self, catchup: Catchup[C]) -> list[str]:
        """The catch-up failed; returns the channels that nobody listens to now."""
        return self._sweep(self._leave_catching(catchup))

    def leave(self, connection: C, names: Iterable[str]) -> list[str]:
        """The connection stops listening; returns the channels that nobody listens to now."""
        left = []
        for name in names:
            channel = self._channels.get(name)
            if channel is not None:
                channel.live = remove_member(channel.live, connection)
                left.append(name)
        return self._sweep(left)

    def _leave_catching(self, catchup: Catchup[C]) -> list[str]:
        left = []
        for name in catchup.channels:
            channel = self._channels.get(name)
            if channel is not None and channel.catchups and catchup in channel.catchups:
                channel.catchups.remove(catchup)
                if not channel.catchups:
                    channel.catchups = None
                left.append(name)
        return left

    def _sweep(self, names: Iterable[str]) -> list[str]:
        gone = [name for name in names if self._channels[name].is_empty]
        for name in gone:
            del self._channels[name]
        return gone
