"""Which users and tokens are revoked, and until when."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from tidings_hub.core.access import Bearer

# Seconds for which an ended revocation is remembered. A clock that is set wrongly is most often off by an hour.
KEEP_ENDED_S = 7_200.0
# A user has at most 195 characters, the id of a token 200. Half of a surrogate pair could be revoked but not stored:
# then no revocation would be written back.
_KEY = re.compile("(?:user|jti):[^\x00-\x20\x7f\ud800-\udfff]{1,200}\\Z")


class Revocations:
    """Revoked users and tokens, each until its time. The key is `user:<sub>` or `jti:<jti>`."""

    __slots__ = ("_until_s",)

    def __init__(self, until_s: Mapping[str, float] | None = None) -> None:
        self._until_s: dict[str, float] = {}
        for key, end_s in (until_s or {}).items():
            self.add(key, end_s)

    def __len__(self) -> int:
        return len(self._until_s)

    def add(self, key: str, until_s: float) -> bool:
        """Revoke until `until_s` (unix seconds). False: the known end is not earlier, so nothing changes."""
        known_s = self._until_s.get(key)
        if known_s is not None and known_s >= until_s:
            return False
        self._until_s[key] = until_s
        return True

    def entries(self) -> list[tuple[str, float]]:
        """Each key and its end, as they are now."""
        return list(self._until_s.items())

    def is_revoked(self, bearer: Bearer, *, now_s: float) -> bool:
        """Whether the bearer's user or token is revoked."""
        if not self._until_s:
            return False
        return self._is_active(user_key(bearer.sub), now_s) or (
            bearer.jti is not None and self._is_active(token_key(bearer.jti), now_s)
        )

    def forget_past(self, among: Iterable[tuple[str, float]], *, now_s: float) -> list[str]:
        """Remove those of `among` that ended two hours ago or earlier, and return their keys.

        A clock that jumps an hour ahead, and back, ends no revocation.
        """
        past_s = now_s - KEEP_ENDED_S
        past = [key for key, until_s in among if until_s <= past_s and self._until_s.get(key, now_s) <= past_s]
        for key in past:
            del self._until_s[key]
        return past

    def _is_active(self, key: str, now_s: float) -> bool:
        return self._until_s.get(key, now_s) > now_s


def missing_revocations(
    known: Iterable[tuple[str, float]], stored: Mapping[str, float], *, now_s: float
) -> dict[str, float]:
    """Those of `known` in force that `stored` lacks, or has with an earlier end."""
    return {key: until_s for key, until_s in known if until_s > now_s and until_s > stored.get(key, now_s)}


def user_key(user: str) -> str:
    """The revocation key of a user."""
    return f"user:{user}"


def token_key(jti: str) -> str:
    """The revocation key of one token."""
    return f"jti:{jti}"


def is_revocation(key: object, until_s: object) -> bool:
    """Whether these are a revocation's key (`user:<sub>` or `jti:<jti>`) and end (unix time in seconds)."""
    if not isinstance(key, str) or not _KEY.match(key):
        return False
    if type(until_s) not in (int, float):
        return False
    try:
        return math.isfinite(until_s)  # type: ignore[arg-type]
    except OverflowError:
        return False
