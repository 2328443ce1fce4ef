"""The counts of inboxes as this process has written them last. They may be outdated: who uses them must check that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from tidings_notifications.core.counts import InboxCounts

# About 300 bytes each.
USERS_MAX: Final = 20_000


class CountsCache:
    """The counts of the `users_max` users that were used last. Threads may share it."""

    def __init__(self, users_max: int = USERS_MAX) -> None:
        self._users_max = users_max
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, InboxCounts] = OrderedDict()

    def get(self, users: Collection[str]) -> dict[str, InboxCounts] | None:
        """Copies of the counts of these users; None: those of one are not known."""
        copies: dict[str, InboxCounts] = {}
        with self._lock:
            for user in users:
                counts = self._counts.get(user)
                if counts is None:
                    return None
                self._counts.move_to_end(user)
                copies[user] = replace(counts)
        return copies

    def put(self, inboxes: Iterable[InboxCounts]) -> None:
        """Remember counts that were committed. Older ones than those in the cache are ignored."""
        with self._lock:
            for counts in inboxes:
                known = self._counts.get(counts.user_id)
                if known is None or known.version < counts.version:
                    self._counts[counts.user_id] = replace(counts)
                    self._counts.move_to_end(counts.user_id)
            while len(self._counts) > self._users_max:
                self._counts.popitem(last=False)

    def forget(self, users: Iterable[str]) -> None:
        """Forget the counts of users whose inboxes have changed."""
        with self._lock:
            for user in users:
                self._counts.pop(user, None)
