"""The retries of one publish or notify: which items are open, when to retry, and the errors at the end. No I/O.

Retries are safe because every item has an id that the broker remembers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from tidings.backoff import delay_s
from tidings.errors import TidingsError, TimedOut, Unavailable
from tidings.publishers.base import CLOSED, OutgoingNotification, OutgoingPublication
from tidings.receipts import NotificationReceipt, Receipt

_BASE_S = 0.02
_CAP_S = 0.5
Item = TypeVar("Item", bound=OutgoingPublication | OutgoingNotification)
Proof = TypeVar("Proof", bound=Receipt | NotificationReceipt)


class RetryState(Generic[Item, Proof]):
    """Items to publish before `deadline_s`, a time of the caller's clock.

    The caller sends the open items, reports the outcome, waits for `pause_s`, and stops when that is None. `target` is
    part of error messages and holds no secret.
    """

    def __init__(
        self,
        items: Sequence[Item],
        target: str,
        *,
        timeout_s: float,
        now_s: float,
        random: Callable[[], float] | None = None,
    ) -> None:
        self.deadline_s = now_s + timeout_s
        self._items = items
        self._target = target
        self._timeout_s = timeout_s
        self._results: list[Proof | TidingsError | None] = [None] * len(items)
        self._open = list(range(len(items)))
        self._attempts = 0
        self._sent = False
        self._final = False
        self._closed = False
        self._reason = ""
        self._random = random or secrets.SystemRandom().random

    def fail(self, reason: str, *, sent: bool, final: bool) -> None:
        """Record an attempt without replies. `sent`: it may have been processed. `final`: do not retry."""
        self._attempts += 1
        self._sent = self._sent or sent
        self._final = final
        self._reason = reason

    def close(self) -> None:
        """The publisher was closed: there is no further attempt."""
        self._final = self._closed = True
        self._reason = self._reason or CLOSED

    def pause_s(self, now_s: float) -> float | None:
        """Seconds to wait before the next attempt; None: there is none."""
        left_s = self.deadline_s - now_s
        if not self._open or self._final or left_s <= 0:
            return None
        # No pause before the first attempt, nor before the second one if an idle connection turned out to be broken.
        if self._attempts == 0 or (self._attempts == 1 and self._sent):
            return 0.0
        pause_s = delay_s(self._attempts - 1, base_s=_BASE_S, cap_s=_CAP_S, random=self._random)
        # An attempt without time for its reply would turn a clear `Unavailable` into a `TimedOut`.
        return pause_s if pause_s < left_s else None

    def results(self) -> list[Proof | TidingsError]:
        """One receipt or error per item. An open item has an error that contains the advice for the caller."""
        return [self._failure() if result is None else result for result in self._results]

    def _failure(self) -> TidingsError:
        effort = f"after {self._attempts} attempts in {round(self._timeout_s, 2):g} s"
        if self._sent:
            return TimedOut(
                f"no answer {effort}: {self._reason}. It may or may not be published; "
                "publishing again with the same id is safe"
            )
        if self._closed:
            return Unavailable(CLOSED)
        return Unavailable(f"not published {effort}: {self._reason}. Check that {self._target} is correct and running")
