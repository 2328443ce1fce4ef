"""The rate at which each user may use new channels, in bounded memory.

A client names channels freely, and each new name costs work: a subscription at the broker, a lookup, and after a
publication a key in the broker for `pointer_ttl_s`. A name that this node has seen recently is not new.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# About 2 MB of names. One user needs more than an hour at the default rate to replace them all.
NAMES_MAX = 10_000
# About 15 MB. A limit per user does not stop a backend that signs tokens for more users.
USERS_MAX = 100_000


@dataclass(slots=True)
class _UserTokens:
    tokens: float
    counted_s: float


class NewChannelRate:
    """One token bucket per user: `burst` new names at once, and then `per_minute`.

    It stores the latest `names_max` names of all users, and only buckets that are not full, at most `users_max`.
    Beyond that it forgets the oldest.
    """

    def __init__(self, *, names_max: int = NAMES_MAX, users_max: int = USERS_MAX) -> None:
        self._names_max = names_max
        self._users_max = users_max
        # In order of their last use.
        self._names: dict[str, None] = {}
        # In order of their last use, or of the last look at them.
        self._buckets: dict[str, _UserTokens] = {}

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
        taken = self._take_tokens(user, len(new), per_minute=per_minute, burst=burst, now_s=now_s)
        for name in new[:taken]:
            self._remember(name)
        return new[taken:]

    def _take_tokens(self, user: str, count: int, *, per_minute: int, burst: int, now_s: float) -> int:
        self._forget_full(now_s, burst=burst, per_minute=per_minute)
        bucket = self._buckets.pop(user, None) or _UserTokens(burst, now_s)
        # A clock that went back gives nothing, and takes nothing.
        gained = max(0.0, now_s - bucket.counted_s) * per_minute / 60
        bucket.tokens, bucket.counted_s = min(float(burst), bucket.tokens + gained), now_s
        taken = min(count, int(bucket.tokens))
        bucket.tokens -= taken
        self._buckets[user] = bucket
        return taken

    def _remember(self, name: str) -> None:
        self._names.pop(name, None)
        self._names[name] = None
        if len(self._names) > self._names_max:
            del self._names[next(iter(self._names))]

    def _forget_full(self, now_s: float, *, burst: int, per_minute: int) -> None:
        """Look at the two oldest buckets: forget those that are full, and put the others at the end."""
        for _ in range(min(2, len(self._buckets))):
            user = next(iter(self._buckets))
            bucket = self._buckets.pop(user)
            tokens = bucket.tokens + (now_s - bucket.counted_s) * per_minute / 60
            if tokens < burst and len(self._buckets) + 1 < self._users_max:
                self._buckets[user] = bucket
