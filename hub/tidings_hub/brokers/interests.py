"""The channels that this node subscribes to at the broker, and the state of each subscription.

Callers, the lookups and the reader use it at the same time. All changes are made under one lock, which is never held
while a greenlet waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from tidings.wire.publication import Publication


@dataclass(slots=True)
class Interest:
    """One channel.

    `link`: number of the link on which it was subscribed. `is_active`: the node tracks its publications.
    `early`: live publications that arrived before that. `remove_at_s`: when to unsubscribe; None while it is used.
    """

    link: int = -1
    is_active: bool = False
    early: list[Publication] = field(default_factory=list)
    remove_at_s: float | None = None


class Interests:
    """All channels of this node.

    After a reconnect every channel is unverified: not yet subscribed on the new link and compared with the broker.
    Between the broker's confirmation and the node's lookup, at most `early_max` live publications of a channel are
    buffered. More are dropped; the channel's next publication shows that, and they are repaired.
    """

    def __init__(self, *, early_max: int) -> None:
        self._early_max = early_max
        self._lock = threading.Lock()
        self._interests: dict[str, Interest] = {}
        # In order of removal, since every channel lingers equally long.
        self._lingering: dict[str, None] = {}
        # In the order in which they are verified.
        self._unverified: dict[str, None] = {}
        self._counted = 0
        self._counted_unverified = 0

    def __len__(self) -> int:
        return len(self._interests)

    def pop_size_change(self) -> int:
        """By how many channels the number changed since the last call."""
        with self._lock:
            change, self._counted = len(self._interests) - self._counted, len(self._interests)
            return change

    def pop_unverified_change(self) -> int:
        """By how many channels the number of unverified ones changed since the last call."""
        with self._lock:
            change = len(self._unverified) - self._counted_unverified
            self._counted_unverified = len(self._unverified)
            return change

    def __contains__(self, channel: str) -> bool:
        return channel in self._interests

    def add(self, channels: Iterable[str]) -> list[str]:
        """Add channels, or cancel their removal. Returns those that are not active, or not verified on this link."""
        with self._lock:
            return [channel for channel in channels if not self._add(channel).is_active or channel in self._unverified]

    def are_active(self, channels: Iterable[str]) -> bool:
        """Whether `add` would return none of these channels."""
        for channel in channels:
            interest = self._interests.get(channel)
            if interest is None or not interest.is_active or channel in self._unverified:
                return False
        return True

    def _add(self, channel: str) -> Interest:
        interest = self._interests.get(channel)
        if interest is None:
            interest = self._interests[channel] = Interest()
        if interest.remove_at_s is not None:
            interest.remove_at_s = None
            del self._lingering[channel]
        return interest

    def schedule_removal(self, channels: Iterable[str], remove_at_s: float) -> None:
        """Remove channels without a listener at that time, unless they are added again before."""
        with self._lock:
            for channel in channels:
                interest = self._interests.get(channel)
                if interest is not None and interest.remove_at_s is None:
                    interest.remove_at_s = remove_at_s
                    self._lingering[channel] = None

    def due(self, now_s: float, count: int) -> list[str]:
        """At most `count` channels whose removal is due."""
        with self._lock:
            due = []
            for channel in islice(self._lingering, count):
                if not self._is_due(channel, now_s):
                    break
                due.append(channel)
            return due

    def _is_due(self, channel: str, now_s: float) -> bool:
        interest = self._interests.get(channel)
        return interest is not None and interest.remove_at_s is not None and interest.remove_at_s <= now_s

    def remove(self, channels: Iterable[str], now_s: float) -> list[str]:
        """Remove those of `channels` whose removal is still due. Returns them."""
        with self._lock:
            removed = [channel for channel in channels if self._is_due(channel, now_s)]
            for channel in removed:
                del self._lingering[channel]
                del self._interests[channel]
                self._unverified.pop(channel, None)
        return removed

    def begin_link(self, by_traffic: Sequence[str]) -> list[str]:
        """Count every channel as unverified, at the start of a link. They are verified in the given order.

        Channels that are not in `by_traffic` follow at the end. Returns those of `by_traffic` that were removed.
        """
        with self._lock:
            interests = self._interests
            self._unverified = {channel: None for channel in by_traffic if channel in interests}
            known = len(self._unverified)
            if known < len(interests):
                self._unverified |= dict.fromkeys(interests)
            return [] if known == len(by_traffic) else [name for name in by_traffic if name not in interests]

    def next_unverified(self, count: int) -> list[str]:
        """The next channels to verify, at most `count`."""
        with self._lock:
            return list(islice(self._unverified, count))

    def mark_verified(self, channels: Iterable[str]) -> None:
        """Record that these channels were subscribed on this link, and compared with the broker after that."""
        with self._lock:
            for channel in channels:
                self._unverified.pop(channel, None)

    def claim_for_link(self, link: int, channels: Iterable[str]) -> list[str]:
        """Those of `channels` that must still be subscribed on this link; they count as subscribed from now on."""
        with self._lock:
            fresh = []
            for channel in channels:
                interest = self._interests.get(channel)
                if interest is not None and interest.link != link:
                    interest.link = link
                    interest.early.clear()
                    fresh.append(channel)
            return fresh

    def is_pending(self, channel: str) -> bool:
        """Whether the channel was added and is not active yet."""
        interest = self._interests.get(channel)
        return interest is not None and not interest.is_active

    def activate(self, channel: str) -> list[Publication]:
        """Make the channel active, and return the live publications that arrived early."""
        interest = self._interests[channel]
        early, interest.early = interest.early, []
        interest.is_active = True
        return early

    def buffer_early(self, publication: Publication) -> bool:
        """Buffer a live publication of a pending channel. False: the buffer is full or the channel is not pending."""
        interest = self._interests.get(publication.channel)
        if interest is None or interest.is_active or len(interest.early) >= self._early_max:
            return False
        interest.early.append(publication)
        return True
