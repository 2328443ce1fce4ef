"""One publish on its way: what is still open, when to try again, and what is said when it is given up. No I/O.

Trying again is safe because every item has an id that the broker remembers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from tidings.backoff import delay_s
from tidings.errors import TidingsError, TimedOut, Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult

_BASE_S = 0.02
_CAP_S = 0.5


class RetryState:
    """Items that are to be published before `deadline_s`, a time of the clock that the caller uses.

    The caller tries what is open, says how it went, waits for `pause_s`, and stops when it is None. `where` is
    shown in errors and holds no secret.
    """

    def __init__(
        self,
        items: Sequence[OutgoingPublication],
        where: str,
        *,
        timeout_s: float,
        now_s: float,
        random: Callable[[], float] | None = None,
    ) -> None:
        self.deadline_s = now_s + timeout_s
        self._items = items
        self._where = where
        self._timeout_s = timeout_s
        self._results: list[PublishResult | None] = [None] * len(items)
        self._open = list(range(len(items)))
        self._attempts = 0
        self._sent = False
        self._final = False
        self._reason = ""
        self._random = random or secrets.SystemRandom().random

    def fail(self, reason: str, *, sent: bool, final: bool) -> None:
        """No replies. `sent`: the request may have been carried out; `final`: do not try again."""
        self._attempts += 1
        self._sent = self._sent or sent
        self._final = final
        self._reason = reason

    def pause_s(self, now_s: float) -> float | None:
        """Seconds to wait before the next request; None: it is over."""
        left_s = self.deadline_s - now_s
        if not self._open or self._final or left_s <= 0:
            return None
        # The first request goes at once; so does the second when a connection had died while it was idle.
        if self._attempts == 0 or (self._attempts == 1 and self._sent):
            return 0.0
        pause_s = delay_s(self._attempts - 1, base_s=_BASE_S, cap_s=_CAP_S, random=self._random)
        # An attempt without time for its answer would only turn a clear refusal into a doubt.
        return pause_s if pause_s < left_s else None

    def results(self) -> list[PublishResult]:
        """One answer per item; what is still open is an error that says what to do."""
        return [self._given_up() if answer is None else answer for answer in self._results]

    def _given_up(self) -> TidingsError:
        tried = f"after {self._attempts} attempts in {self._timeout_s:g} s"
        if self._sent:
            return TimedOut(
                f"no answer {tried}: {self._reason}. It may or may not be published; "
                "publish again with the same id, that is safe"
            )
        return Unavailable(f"not published {tried}: {self._reason}. Check that {self._where} is right and runs")
