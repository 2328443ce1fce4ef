"""Waiting for acknowledgements: request the delivery report again, with growing pauses, until there are enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tidings.errors import BadRequest, TimedOut, Unavailable
from tidings.number_checks import check_count, check_seconds
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.receipts import AsyncReceipt, Receipt
from tidings.wire.reports import Report, ReportQuery, own_position

_FIRST_PAUSE_S = 0.02
_PAUSE_MAX_S = 0.5
# The shortest timeout of one request; later requests wait longer. So a stalled node does not hold back the
# acknowledgements that the other nodes report.
_REQUEST_MIN_S = 0.5
# Time reserved for the last request. With less, the report would only list nodes as missing.
_LAST_REQUEST_S = 0.1


class AckWait:
    """Decides after each report whether to request another one. All times are of the caller's monotonic clock.

    Raises:
        BadRequest: `acks` is not a whole number from 0, or `timeout_s` is not a number above 0.
    """

    def __init__(self, id: str, acks: int, timeout_s: float, *, now_s: float) -> None:
        check_count(acks, "acks", least=0, error=BadRequest)
        check_seconds(timeout_s, "timeout_s", error=BadRequest)
        self._id, self._acks, self._timeout_s = id, acks, timeout_s
        self._started_s = now_s
        self._pause_s = _FIRST_PAUSE_S
        self._best: Report | None = None

    def request_timeout_s(self, now_s: float) -> float:
        """The timeout of the next request, in seconds."""
        elapsed_s = now_s - self._started_s
        return max(0.001, min(self._timeout_s - elapsed_s, max(_REQUEST_MIN_S, elapsed_s)))

    def next_step(self, outcome: Report | Unavailable, now_s: float) -> Report | float:
        """The report, if it fulfils the wait; otherwise the pause before the next request, in seconds.

        Raises:
            TimedOut: the time is over.
            Unavailable: the time is over, and no request succeeded.
        """
        if isinstance(outcome, Report):
            if self._best is None or len(outcome.nodes) >= len(self._best.nodes):
                self._best = outcome
            if outcome.acks >= self._acks and (self._acks or outcome.settled):
                return outcome
        left_s = self._started_s + self._timeout_s - _LAST_REQUEST_S - now_s
        if left_s <= 0:
            if isinstance(outcome, Unavailable) and self._best is None:
                raise outcome
            raise TimedOut(self._shortfall())
        pause_s, self._pause_s = self._pause_s, min(_PAUSE_MAX_S, self._pause_s * 2)
        return min(pause_s, left_s)

    def _shortfall(self) -> str:
        report = self._best
        acks, recipients = (0, 0) if report is None else (report.acks, report.recipients)
        missing = f", and no word of {', '.join(report.missing)}" if report is not None and report.missing else ""
        progress = f"{acks} of {self._acks} acknowledgements" if self._acks else "more is expected"
        return f"{self._id}: {progress} after {self._timeout_s:g} s, from {recipients} recipients{missing}"


def add_waiters(
    items: Sequence[OutgoingPublication],
    results: list[PublishResult],
    request_report: Callable[[ReportQuery, float], Report],
) -> list[PublishResult]:
    """`results`, where `Receipt.wait` works for each item on which nodes keep a report."""
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Receipt) and (query := report_query(item, result)):
            result.set_waiter(partial(wait, partial(request_report, query), result.id))
    return results


def add_async_waiters(
    items: Sequence[OutgoingPublication],
    results: list[PublishResult],
    request_report: Callable[[ReportQuery, float], Awaitable[Report]],
) -> list[PublishResult]:
    """As `add_waiters`, with an AsyncReceipt for each item on which nodes keep a report."""
    for index, (item, result) in enumerate(zip(items, results, strict=True)):
        if isinstance(result, Receipt) and (query := report_query(item, result)):
            results[index] = receipt = AsyncReceipt(result.id, result.cursor, result.duplicate)
            receipt.set_waiter(partial(wait_async, partial(request_report, query), receipt.id))
    return results


def report_query(item: OutgoingPublication, receipt: Receipt) -> ReportQuery | None:
    """What to request a report with; None if nodes keep no report on this publication."""
    if item.wants_report and receipt.cursor:
        return ReportQuery(receipt.id, item.channel, own_position(receipt.cursor))
    return None


def wait(request_report: Callable[[float], Report], id: str, acks: int, timeout_s: float) -> Report:
    """See `Receipt.wait`. `request_report` takes the timeout of one request, in seconds."""
    waiting = AckWait(id, acks, timeout_s, now_s=time.monotonic())
    while True:
        outcome: Report | Unavailable
        try:
            outcome = request_report(waiting.request_timeout_s(time.monotonic()))
        except Unavailable as error:
            outcome = error
        step = waiting.next_step(outcome, time.monotonic())
        if isinstance(step, Report):
            return step
        time.sleep(step)


async def wait_async(
    request_report: Callable[[float], Awaitable[Report]], id: str, acks: int, timeout_s: float
) -> Report:
    """As `wait`, for asyncio."""
    waiting = AckWait(id, acks, timeout_s, now_s=time.monotonic())
    while True:
        outcome: Report | Unavailable
        try:
            outcome = await request_report(waiting.request_timeout_s(time.monotonic()))
        except Unavailable as error:
            outcome = error
        step = waiting.next_step(outcome, time.monotonic())
        if isinstance(step, Report):
            return step
        await asyncio.sleep(step)
