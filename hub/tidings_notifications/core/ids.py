"""Ids of notifications, and the keys by which the store finds one again."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
BACK_MAX_MS = 10_000
_COUNTER_BITS = 74
_LOW_BITS = 62
_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << _LOW_BITS


class IdSequence:
    """Makes ids, each greater than the one before it. Not thread-safe.

    If the clock goes back by less than `BACK_MAX_MS`, ids keep the latest time. Further back they follow the clock.

    An id is a UUIDv7. Its last 74 bits begin at a random number in each millisecond, and count from there.
    `random_bytes(n)` returns n random bytes.
    Source: RFC 9562 sections 5.7 and 6.2 (method 2).
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._last_ms = -1
        self._counter = 0

    def next(self, now_ms: int) -> tuple[str, int]:
        """A new id, and its time in unix milliseconds: `now_ms`, or later if an earlier id has a later time."""
        if now_ms > self._last_ms or now_ms < self._last_ms - BACK_MAX_MS:
            self._last_ms = now_ms
            # One bit less, so that there is room to count.
            self._counter = int.from_bytes(self._random_bytes(10)) >> (81 - _COUNTER_BITS)
        else:
            self._counter += 1
        high, low = divmod(self._counter, 1 << _LOW_BITS)
        return _as_text(self._last_ms << 80 | _VERSION_7 | high << 64 | _VARIANT | low), self._last_ms


def first_id(at_ms: int) -> str:
    """The lowest id of a millisecond. All ids of earlier times are lower as text."""
    return _as_text(max(0, at_ms) << 80)


def is_id(text: object) -> bool:
    """Whether this is text in the form of an id: a UUID in lower case."""
    return isinstance(text, str) and _UUID.match(text) is not None


def idempotency_key(user: str, caller_id: str) -> str:
    """The key of an id that a backend chose for a notification of one user."""
    return _key("id", user, caller_id)


def group_key(user: str, group: str) -> str:
    """The key of the unread notifications that a later one of the same group replaces."""
    return _key("group", user, group)


def digest_key(user: str, category: str, group: str | None) -> str:
    """The key of the digest that collects notifications of this user, category and group."""
    return _key("digest", user, category, *([] if group is None else [group]))


def _key(*parts: str) -> str:
    # Fixed length, so that an index over it is small and one list of keys finds rows of many users.
    # No part contains NUL.
    return _as_text(int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=16).digest()))


def _as_text(number: int) -> str:
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
