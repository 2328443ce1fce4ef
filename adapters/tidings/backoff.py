"""How long to wait before trying again."""

from __future__ import annotations

import random as _random
from collections.abc import Callable

# Past 2**32 every cap has long been reached; larger powers would overflow a float.
_EXPONENT_MAX = 32


def delay_s(
    attempt: int,
    *,
    base_s: float = 0.5,
    cap_s: float = 20.0,
    random: Callable[[], float] = _random.random,
) -> float:
    """Seconds to wait before attempt number `attempt` is repeated (the first is 0).

    Full jitter: uniform in [0, min(cap_s, base_s * 2**attempt)). The draw comes
    after the cap, so those dropped together never return together. `random`
    returns a float in [0, 1).

    Raises:
        ValueError: `attempt` is negative.
    Source: AWS Architecture Blog, "Exponential Backoff and Jitter" (2015).
    """
    if attempt < 0:
        raise ValueError(f"attempt {attempt} is negative; the first attempt is 0")
    ceiling_s: float = min(cap_s, base_s * 2 ** min(attempt, _EXPONENT_MAX))
    return random() * ceiling_s
