"""Wait for an effect by polling, instead of sleeping for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable

# How long a test watches before it concludes that nothing happens.
QUIET_S = 0.3


def wait_until(condition: Callable[[], object], *, within_s: float = 20.0, why: str = "") -> None:
    """Poll until `condition()` is true. Fail the test after `within_s` seconds; `why` describes the condition."""
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {within_s} s: {why or condition}")
        time.sleep(0.01)


def stay_quiet() -> None:
    """Give an effect that must not happen the time to happen."""
    time.sleep(QUIET_S)
