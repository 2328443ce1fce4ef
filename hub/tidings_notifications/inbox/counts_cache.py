"""The counts of inboxes as this process has written them last. They may be outdated: who uses them must check that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tidings_notifications.core.counts import InboxCounts

# About 300 bytes each.
USERS_MAX: Final = 20_000


@dataclass(slots=True)
class _Known:
    counts: InboxCounts
    is_published: bool = False


@dataclass(frozen=True, slots=True)
class KnownInboxes:
    """Copies of the counts of some users. `are_published`: so are the events of their last changes, and all before."""

    counts: dict[str, InboxCounts]
    are_published: bool


class CountsCache:
    """The counts of the `users_max` users that were used last. Threads may share it."""

    def __init__(self, users_max: int = USERS_MAX) -> None:
        self._users_max = users_max
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def get(self, users: Collection[str]) -> KnownInboxes | None:
        """What is known of these users; None: the counts of one are not."""
        copies: dict[str, InboxCounts] = {}
        are_published = True
        with self._lock:
            for user in users:
                known = self._known.get(user)
                if known is None:
                    return None
                self._known.move_to_end(user)
                copies[user] = replace(known.counts)
                are_published = are_published and known.is_published
        return KnownInboxes(copies, are_published)

    def put(self, inboxes: Iterable[InboxCounts]) -> None:
        """Remember counts that were committed. Older ones than those in the cache are ignored."""
        with self._lock:
            for counts in inboxes:
                known = self._known.get(counts.user_id)
                if known is None or known.counts.version < counts.version:
                    self._known[counts.user_id] = _Known(replace(counts))
                    self._known.move_to_end(counts.user_id)
            while len(self._known) > self._users_max:
                self._known.popitem(last=False)

    def set_published(self, versions: Mapping[str, int]) -> None:
        """Remember that the events of these users up to these versions are published, unless there are later ones."""
        with self._lock:
            for user, version in versions.items():
                known = self._known.get(user)
                if known is not None and known.counts.version == version:
                    known.is_published = True

    def forget(self, users: Iterable[str]) -> None:
        """Forget the counts of users whose inboxes have changed."""
        with self._lock:
            for user in users:
                self._known.pop(user, None)
