"""Waiting for acknowledgements: asking again, less and less often, until there are enough or the time is over."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from tidings.errors import BadRequest, TimedOut, Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.receipts import Receipt
from tidings.wire.reports import Report, Sought, own_place

_FIRST_PAUSE_S = 0.02
_PAUSE_MAX_S = 0.5
# One question waits at least this long for its answers, and longer the longer the whole takes: a node that stands
# still does not keep the others' acknowledgements back.
_ASK_MIN_S = 0.5
# The last question has this long for its answers: less would only tell that nodes are missing.
_LAST_S = 0.1


class AckWait:
    """Decides, after each answer, whether to ask again. All times are of the caller's monotonic clock.

    Raises:
        BadRequest: not a number of acknowledgements, or of seconds.
    """

    def __init__(self, id: str, acks: int, timeout_s: float, *, now_s: float) -> None:
        if type(acks) is not int or acks < 0:
            raise BadRequest("acks is a whole number, 0 or more")
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise BadRequest(f"timeout_s is {timeout_s}; it is a number of seconds above 0")
        self._id, self._acks, self._timeout_s = id, acks, timeout_s
        self._begun_s = now_s
        self._pause_s = _FIRST_PAUSE_S
        self._last: Report | None = None

    def request_timeout_s(self, now_s: float) -> float:
        """For how many seconds the next question may wait for its answer."""
        passed_s = now_s - self._begun_s
        return max(0.001, min(self._timeout_s - passed_s, max(_ASK_MIN_S, passed_s)))

    def next_step(self, seen: Report | Unavailable, now_s: float) -> Report | float:
        """The report, if it is what was waited for; otherwise for how many seconds to pause.

        Raises:
            TimedOut: the time is over. Unavailable: it is, and nobody ever answered.
        """
        if isinstance(seen, Report):
            if self._last is None or len(seen.nodes) >= len(self._last.nodes):
                self._last = seen
            if seen.acks >= self._acks and (self._acks or seen.settled):
                return seen
        left_s = self._begun_s + self._timeout_s - _LAST_S - now_s
        if left_s <= 0:
            if isinstance(seen, Unavailable) and self._last is None:
                raise seen
            raise TimedOut(self._shortfall())
        pause_s, self._pause_s = self._pause_s, min(_PAUSE_MAX_S, self._pause_s * 2)
        return min(pause_s, left_s)

    def _shortfall(self) -> str:
        last = self._last
        acks, recipients = (0, 0) if last is None else (last.acks, last.recipients)
        missing = f", and no word of {', '.join(last.missing)}" if last is not None and last.missing else ""
        wanted = f"{acks} of {self._acks} acknowledgements" if self._acks else "more is expected"
        return f"{self._id}: {wanted} after {self._timeout_s:g} s, from {recipients} recipients{missing}"


def reportable(item: OutgoingPublication, answer: PublishResult) -> tuple[Receipt, Sought] | None:
    """Its receipt and what to ask for, if nodes keep a report on what was published."""
    if item.wants_report and isinstance(answer, Receipt) and answer.cursor:
        return answer, Sought(answer.id, item.channel, own_place(answer.cursor))
    return None


def wait(ask: Callable[[float], Report], id: str, acks: int, timeout_s: float) -> Report:
    """As `Receipt.wait`. `ask` is given the seconds that it may take."""
    turn = AckWait(id, acks, timeout_s, now_s=time.monotonic())
    while True:
        seen: Report | Unavailable
        try:
            seen = ask(turn.request_timeout_s(time.monotonic()))
        except Unavailable as error:
            seen = error
        next_ = turn.next_step(seen, time.monotonic())
        if isinstance(next_, Report):
            return next_
        time.sleep(next_)


async def wait_async(ask: Callable[[float], Awaitable[Report]], id: str, acks: int, timeout_s: float) -> Report:
    """As `wait`, for asyncio."""
    turn = AckWait(id, acks, timeout_s, now_s=time.monotonic())
    while True:
        seen: Report | Unavailable
        try:
            seen = await ask(turn.request_timeout_s(time.monotonic()))
        except Unavailable as error:
            seen = error
        next_ = turn.next_step(seen, time.monotonic())
        if isinstance(next_, Report):
            return next_
        await asyncio.sleep(next_)
