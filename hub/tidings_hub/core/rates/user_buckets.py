"""A token bucket for each user, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

# About 15 MB. A limit per user does not stop a backend that signs tokens for more users.
USERS_MAX = 100_000


@dataclass(slots=True)
class _UserTokens:
    tokens: float
    counted_s: float


class UserBuckets:
    """Buckets of `burst` tokens that fill at `per_minute`.

    Only buckets that are not full are stored, at most `users_max`. Beyond that the one used longest ago is forgotten.
    """

    def __init__(self, users_max: int = USERS_MAX) -> None:
        self._users_max = users_max
        # In order of their last use, or of the last look at them.
        self._buckets: dict[str, _UserTokens] = {}

    def __len__(self) -> int:
        """How many are stored."""
        return len(self._buckets)

    def take(self, user: str, count: int, *, per_minute: int, burst: int, now_s: float) -> bool:
        """Take `count` tokens of the user, or none. False: there are fewer."""
        bucket = self._filled(user, per_minute=per_minute, burst=burst, now_s=now_s)
        if bucket.tokens < count:
            return False
        bucket.tokens -= count
        return True

    def take_up_to(self, user: str, count: int, *, per_minute: int, burst: int, now_s: float) -> int:
        """Take at most `count` whole tokens of the user. Returns how many."""
        bucket = self._filled(user, per_minute=per_minute, burst=burst, now_s=now_s)
        taken = min(count, int(bucket.tokens))
        bucket.tokens -= taken
        return taken

    def _filled(self, user: str, *, per_minute: int, burst: int, now_s: float) -> _UserTokens:
        self._forget_full(now_s, burst=burst, per_minute=per_minute)
        bucket = self._buckets.pop(user, None) or _UserTokens(burst, now_s)
        # A clock that went back gives nothing, and takes nothing.
        gained = max(0.0, now_s - bucket.counted_s) * per_minute / 60
        bucket.tokens, bucket.counted_s = min(float(burst), bucket.tokens + gained), now_s
        self._buckets[user] = bucket
        return bucket

    def _forget_full(self, now_s: float, *, burst: int, per_minute: int) -> None:
        """Look at the two oldest buckets: forget those that are full, and put the others at the end."""
        for _ in range(min(2, len(self._buckets))):
            user = next(iter(self._buckets))
            bucket = self._buckets.pop(user)
            tokens = bucket.tokens + (now_s - bucket.counted_s) * per_minute / 60
            if tokens < burst and len(self._buckets) + 1 < self._users_max:
                self._buckets[user] = bucket
