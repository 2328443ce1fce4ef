"""The rate at which each user may use new channels, in bounded memory.

A client names channels freely, and each new name costs work: a subscription at the broker, a lookup, and after a
publication a key in the broker for `pointer_ttl_s`. A name that this node has seen recently is not new.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidings_hub.core.rates.user_buckets import USERS_MAX, UserBuckets

# About 2 MB of names. One user needs more than an hour at the default rate to replace them all.
NAMES_MAX = 10_000


class NewChannelRate:
    """One token bucket per user: `burst` new names at once, and then `per_minute`.

    It stores the latest `names_max` names of all users, and at most `users_max` buckets.
    """

    def __init__(self, *, names_max: int = NAMES_MAX, users_max: int = USERS_MAX) -> None:
        self._names_max = names_max
        # In order of their last use.
        self._names: dict[str, None] = {}
        self._buckets = UserBuckets(users_max)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many names and how many buckets are stored."""
        return len(self._names), len(self._buckets)

    def take(self, user: str, names: Iterable[str], *, per_minute: int, burst: int, now_s: float) -> list[str]:
        """Those of `names` that the user may not use now. The others are known from now on. `per_minute` 0: none."""
        if not per_minute:
            return []
        new: list[str] = []
        for name in names:
            if name in self._names:
                self._remember(name)
            else:
                new.append(name)
        if not new:
            return []
        taken = self._buckets.take_up_to(user, len(new), per_minute=per_minute, burst=burst, now_s=now_s)
        for name in new[:taken]:
            self._remember(name)
        return new[taken:]

    def _remember(self, name: str) -> None:
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > self._names_max:
            del self._names[next(iter(self._names))]
