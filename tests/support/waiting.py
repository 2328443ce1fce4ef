"""Wait for an effect by polling, instead of sleeping for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable

# A process may start late on a busy machine. Less than a minute, which is what tests choose for "not in this test".
WAIT_MAX_S = 45.0
# How long a test watches before it concludes that nothing happens.
QUIET_S = 0.3


def wait_until(
    condition: Callable[[], object], *, within_s: float = WAIT_MAX_S, why: str | Callable[[], str] = ""
) -> None:
    """Poll until `condition()` is true. Fail the test after `within_s` seconds; `why` describes the condition.

    A `why` that shows a state, such as a log, is a function: it is called at the failure, not before the wait.
    """
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            reason = why() if callable(why) else why
            raise AssertionError(f"not within {within_s} s: {reason or condition}")
        time.sleep(0.01)


def stay_quiet() -> None:
    """Give an effect that must not happen the time to happen."""
    time.sleep(QUIET_S)
