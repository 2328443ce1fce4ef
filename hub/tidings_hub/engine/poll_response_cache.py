"""A cache of poll responses that many clients receive.

After a fan-out, most clients poll for the same publications at the same time, and their responses have the same bytes.
The cache key is the tuple of waiting parts, which the clients share by reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidings_hub import runtime
from tidings_hub.core.frame import SEPARATOR
from tidings_hub.engine.protocols import http_response

# How long a response is kept: a little longer than the clients' round trip.
_KEEP_S: Final = 0.25
_RESPONSES_MAX: Final = 64
_BYTES_MAX: Final = 262_144


class PollResponseCache:
    """Responses of the last `_KEEP_S`: at most `_RESPONSES_MAX`, each of at most `_BYTES_MAX` bytes."""

    __slots__ = ("_clear_is_scheduled", "_responses")

    def __init__(self) -> None:
        self._responses: dict[tuple[bytes | memoryview, ...], bytes] = {}
        self._clear_is_scheduled = False

    def response_for(self, parts: Sequence[bytes | memoryview], extra_headers: bytes) -> bytes:
        """Return the complete response with `parts` as payload and the header lines `extra_headers`."""
        key = (extra_headers, *parts)
        cached = self._responses.get(key)
        if cached is not None:
            return cached
        response = http_response.render(200, SEPARATOR.join(parts), extra_headers=extra_headers)
        if len(response) <= _BYTES_MAX:
            if len(self._responses) >= _RESPONSES_MAX:
                self._responses.clear()
            self._responses[key] = response
            if not self._clear_is_scheduled:
                self._clear_is_scheduled = True
                runtime.call_later(_KEEP_S, self._clear)
        return response

    def _clear(self) -> None:
        self._clear_is_scheduled = False
        self._responses.clear()
