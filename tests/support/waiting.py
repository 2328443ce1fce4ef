"""Wait for an effect by polling, instead of sleeping for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], *, within_s: float = 20.0, why: str = "") -> None:
    """Poll until `what()` is true; fail the test when it is not within `within_s`."""
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {within_s} s: {why or condition}")
        time.sleep(0.01)
