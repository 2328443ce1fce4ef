"""Publication ids that an emitter makes itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache

# In ASCII order, so that ids sort as text the way they sort in time. All of them are in `channels.check_id`'s alphabet.
_SIGNS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TIME_SIGNS = 8
_RANDOM_SIGNS = 14
# One sign for each value of a byte: the first eight signs stand for five values, the others for four. That costs a
# tenth of a bit of all 83, and is three times as fast as a division for each sign.
_OF_BYTE = bytes(_SIGNS[value % len(_SIGNS)] for value in range(256))


def new_id(now_ms: int, *, random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """A unique id of 22 letters and digits; ids of a later millisecond sort after it.

    8 signs of time (milliseconds since 1970, base 62: enough until the year 8888), then 14 random signs, 83 bits.
    `random_bytes(n)` returns n random bytes.
    Source: the layout of UUIDv7, RFC 9562 section 5.7, in fewer characters.
    """
    return _time(now_ms) + random_bytes(_RANDOM_SIGNS).translate(_OF_BYTE).decode()


@lru_cache(maxsize=4)
def _time(now_ms: int) -> str:
    signs = bytearray()
    for _ in range(_TIME_SIGNS):
        now_ms, digit = divmod(now_ms, len(_SIGNS))
        signs.append(_SIGNS[digit])
    signs.reverse()
    return signs.decode()
