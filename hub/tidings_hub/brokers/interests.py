"""Which channels this node wants from the broker, and how far each is on its way.

Callers, the asker and the reader look at it at the same time: all changes are under one lock that is
never held while anything waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from tidings.wire.publication import Publication


@dataclass(slots=True)
class Interest:
    """One wanted channel.

    `link`: number of the link it was asked for on. `joined`: the node is responsible for it. `early`:
    live publications from before that. `leave_at_s`: when it is to be left, if nobody comes back.
    """

    link: int = -1
    is_active: bool = False
    early: list[Publication] = field(default_factory=list)
    remove_at_s: float | None = None


class Interests:
    """The wanted channels.

    At most `early_max` live publications of one are kept between the broker's confirmation and the node's look at it;
    more are dropped, and found missing and repaired by the next one.
    """

    def __init__(self, *, early_max: int) -> None:
        self._early_max = early_max
        self._lock = threading.Lock()
        self._wanted: dict[str, Interest] = {}
        # In order of leaving: everyone lingers equally long.
        self._leaving: dict[str, None] = {}
        self._counted = 0

    def __len__(self) -> int:
        return len(self._wanted)

    def pop_size_change(self) -> int:
        """By how many channels they changed since the last call."""
        with self._lock:
            change, self._counted = len(self._wanted) - self._counted, len(self._wanted)
            return change

    def __contains__(self, channel: str) -> bool:
        return channel in self._wanted

    def add(self, channels: Iterable[str]) -> list[str]:
        """Want these channels; returns those that have yet to be joined."""
        with self._lock:
            return [channel for channel in channels if not self._want(channel).is_active]

    def _want(self, channel: str) -> Interest:
        interest = self._wanted.get(channel)
        if interest is None:
            interest = self._wanted[channel] = Interest()
        if interest.remove_at_s is not None:
            interest.remove_at_s = None
            del self._leaving[channel]
        return interest

    def schedule_removal(self, channels: Iterable[str], leave_at_s: float) -> None:
        """Nobody listens to these; leave them at that time, unless they are wanted again."""
        with self._lock:
            for channel in channels:
                interest = self._wanted.get(channel)
                if interest is not None and interest.remove_at_s is None:
                    interest.remove_at_s = leave_at_s
                    self._leaving[channel] = None

    def due(self, now_s: float) -> list[str]:
        """The channels whose time to be left has come."""
        with self._lock:
            return self._due(now_s)

    def _due(self, now_s: float) -> list[str]:
        due = []
        for channel in self._leaving:
            leave_at_s = self._wanted[channel].remove_at_s
            if leave_at_s is None or leave_at_s > now_s:
                break
            due.append(channel)
        return due

    def remove_due(self, now_s: float) -> list[str]:
        """Drop the channels whose time has come; returns them."""
        with self._lock:
            gone = self._due(now_s)
            for channel in gone:
                del self._leaving[channel]
                del self._wanted[channel]
        return gone

    def claim_for_link(self, link: int, channels: Iterable[str] | None = None) -> list[str]:
        """The wanted ones of `channels` (all) that were not asked for on this link; they count as asked now."""
        with self._lock:
            fresh = []
            for channel in list(self._wanted) if channels is None else channels:
                interest = self._wanted.get(channel)
                if interest is not None and interest.link != link:
                    interest.link = link
                    interest.early.clear()
                    fresh.append(channel)
            return fresh

    def is_pending(self, channel: str) -> bool:
        """Whether the channel is wanted, but not joined."""
        interest = self._wanted.get(channel)
        return interest is not None and not interest.is_active

    def activate(self, channel: str) -> list[Publication]:
        """The channel is joined now; returns what came in early."""
        interest = self._wanted[channel]
        early, interest.early = interest.early, []
        interest.is_active = True
        return early

    def buffer_early(self, publication: Publication) -> bool:
        """Keep a live publication of a channel that is being joined; False: there is no room or no such channel."""
        interest = self._wanted.get(publication.channel)
        if interest is None or interest.is_active or len(interest.early) >= self._early_max:
            return False
        interest.early.append(publication)
        return True
