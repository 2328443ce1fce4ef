"""Polling answers that many clients get, made once.

After a fan-out most clients come back for the same publications within the same moment: their
answers are the same bytes. The key is the waiting parts themselves, which they share by reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidings_hub import runtime
from tidings_hub.core.frame import SEPARATOR
from tidings_hub.engine import http

# How long an answer is kept: a little longer than the clients' round trip.
_KEEP_S: Final = 0.25
_ANSWERS_MAX: Final = 64
_BYTES_MAX: Final = 262_144


class Answers:
    """The last answers, for a moment; at most `_ANSWERS_MAX` of at most `_BYTES_MAX` bytes."""

    __slots__ = ("_clearing", "_kept")

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes | memoryview, ...], bytes] = {}
        self._clearing = False

    def make(self, parts: Sequence[bytes | memoryview], extra: bytes) -> bytes:
        """The complete answer with the payload of `parts` and the header lines `extra`."""
        key = (extra, *parts)
        found = self._kept.get(key)
        if found is not None:
            return found
        answer = http.response(200, SEPARATOR.join(parts), extra=extra)
        if len(answer) <= _BYTES_MAX:
            if len(self._kept) >= _ANSWERS_MAX:
                self._kept.clear()
            self._kept[key] = answer
            if not self._clearing:
                self._clearing = True
                runtime.call_later(_KEEP_S, self._clear)
        return answer

    def _clear(self) -> None:
        self._clearing = False
        self._kept.clear()
