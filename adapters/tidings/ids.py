"""Publication ids that an emitter makes itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import lru_cache

# In ASCII order, so that ids sort as text the way they sort in time. All of them are in `channels.check_id`'s alphabet.
_SIGNS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [first + second for first in _SIGNS for second in _SIGNS]
_TIME_PAIRS = 4
_RANDOM_PAIRS = 7
# 62**14 is a little more than 2**83.
_RANDOM_BITS = 83


def new_id(now_ms: int, *, bits: Callable[[int], int] = secrets.randbits) -> str:
    """A unique id of 22 letters and digits; ids of a later millisecond sort after it.

    8 signs of time (milliseconds since 1970, base 62: enough until the year 8888), then 14
    signs from 83 random bits. `bits(n)` returns n random bits.
    Source: the layout of UUIDv7, RFC 9562 section 5.7, in fewer characters.
    """
    return _time(now_ms) + _base62(bits(_RANDOM_BITS), _RANDOM_PAIRS)


def _base62(number: int, pairs: int) -> str:
    """`number` in base 62, two signs at a time."""
    signs = []
    for _ in range(pairs):
        number, digits = divmod(number, len(_PAIRS))
        signs.append(_PAIRS[digits])
    signs.reverse()
    return "".join(signs)


@lru_cache(maxsize=4)
def _time(now_ms: int) -> str:
    return _base62(now_ms, _TIME_PAIRS)
