"""The id of a request over long polling: its query field `t`, by which a repeat is recognized."""

from __future__ import annotations

import re
from typing import Final

# Times in seconds or milliseconds have up to 13 digits. Two polls can have the same time, so it identifies neither.
# But socket.io-client sends random letters and digits, and one of 28,000 such values has digits only.
_TIME_DIGITS_MAX: Final = 13
_ID_MAX: Final = (1 << 60) - 1
# Some clients send the time as `t`. socket_io_client for Dart sends milliseconds in base 36, with 8 digits until 2059.
# python-socketio sends seconds with a fraction, others whole microseconds or nanoseconds. Their next request has
# another `t` if the response to the last one takes longer than a tick of their clock. The longest tick is that of
# Python before 3.13 on Windows: 15.625 ms.
_BASE_36_DIGITS: Final = 8
_BASE_36_RANGE_MS: Final = 86_400_000
_DECIMAL_TIME: Final = re.compile(r"[0-9]{9,11}\.[0-9]{1,9}|[0-9]{14,20}")
TIME_ID_DELAY_S: Final = 0.017


def request_id(t: str | None) -> int:
    """Return a number that identifies a request by its query field `t`; 0 if the field is missing.

    It is negative if `t` is a whole number. That identifies a request only if other values of the session do.
    """
    if not t:
        return 0
    id_ = hash(t) & _ID_MAX or 1
    return -id_ if len(t) <= _TIME_DIGITS_MAX and t.isdigit() else id_


def is_time_id(t: str | None, now_s: float) -> bool:
    """Whether `t` is a time: seconds with a fraction, whole microseconds or less, or milliseconds in base 36.

    The last only if it differs from `now_s` by at most a day. One of 16,000 random values of 8 digits counts as well.
    It only makes its session slower.
    """
    if t and _DECIMAL_TIME.fullmatch(t):
        return True
    if not t or len(t) != _BASE_36_DIGITS or not (t.isascii() and t.isalnum() and t == t.lower()):
        return False
    return abs(int(t, 36) - now_s * 1000) < _BASE_36_RANGE_MS
