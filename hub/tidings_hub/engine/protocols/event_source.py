"""What an EventSource understands of a refusal (WHATWG HTML section 9.2.3).

It reconnects after a stream with status 200 that ends, and never after another status. So a client that should return
gets a stream that consists of `retry` and `tidings:close`, and the connection ends: nothing waits for it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from tidings.codes import CODES

_random = random.Random()  # noqa: S311 - spreads load; no secret depends on it
# Milliseconds until an EventSource reconnects: after a stream that worked, after a refusal, and after one that stays
# until the client or its address does less (status 429).
_RETRY_MS = (2_000, 4_000)
_REFUSED_RETRY_MS = (2_000, 10_000)
_LIMITED_RETRY_MS = (5_000, 20_000)
_LIMITED_STATUS = 429


def is_event_source(headers: Mapping[str, str]) -> bool:
    """Whether a request (names of headers in lower case) is from an EventSource.

    A browser sends `Sec-Fetch-Mode` to HTTPS and to the loopback interface. An EventSource accepts `text/event-stream`
    alone (WHATWG HTML section 9.2.2). A program that reads errors as JSON accepts JSON as well, or sends no Accept.
    """
    return "sec-fetch-mode" in headers or headers.get("accept", "").strip().lower() == "text/event-stream"


def may_return(code: str) -> bool:
    """Whether the same request may be accepted later. A new token would be another request."""
    return CODES[code].should_reconnect and code != "expired"


def retry_ms(code: str = "") -> int:
    """Return how long a client waits before it reconnects: random, so that a crowd spreads. `code`: of a refusal."""
    if not code:
        bounds = _RETRY_MS
    elif CODES[code].http_status == _LIMITED_STATUS:
        bounds = _LIMITED_RETRY_MS
    else:
        bounds = _REFUSED_RETRY_MS
    return _random.randint(*bounds)
