from __future__ import annotations

import asyncio
import time

import pytest

from tidings.ack_wait import AckWait, wait, wait_async
from tidings.errors import BadRequest, NotFound, TimedOut, Unavailable
from tidings.wire.reports import Count, Report


def report(acks: int, *, recipients: int = 3, is_settled: bool = True, nodes: int = 1) -> Report:
    counts = {f"n{at}": Count(recipients, acks) for at in range(nodes)}
    missing = () if nodes > 1 else ("n1",)
    return Report("x", "orders:1", "e.5", recipients, acks, counts, missing, settled=is_settled)


class Hub:
    """Returns one answer after the other, and repeats the last one."""

    def __init__(self, *answers: Report | Exception) -> None:
        self.answers = list(answers)
        self.timeouts_s: list[float] = []

    def request(self, timeout_s: float) -> Report:
        self.timeouts_s.append(timeout_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def request_async(self, timeout_s: float) -> Report:
        return self.request(timeout_s)


def wait_for_acks(kind: str, hub: Hub, acks: int = 1, timeout_s: float = 5.0) -> Report:
    if kind == "asyncio":
        return asyncio.run(wait_async(hub.request_async, "x", acks, timeout_s))
    return wait(hub.request, "x", acks, timeout_s)


KINDS = pytest.mark.parametrize("kind", ["blocking", "asyncio"])


@KINDS
def test_requests_reports_until_there_are_enough_acks(kind: str) -> None:
    hub = Hub(report(0), Unavailable(), report(1), report(2), report(3))
    assert wait_for_acks(kind, hub, acks=2) == report(2)
    assert len(hub.timeouts_s) == 4


@KINDS
def test_without_acks_requests_reports_until_settled(kind: str) -> None:
    hub = Hub(report(2, is_settled=False), report(0))
    assert wait_for_acks(kind, hub, acks=0) == report(0)


@KINDS
def test_timeout_error_has_counts_and_missing_nodes(kind: str) -> None:
    hub = Hub(report(1))
    begun_s = time.monotonic()
    with pytest.raises(
        TimedOut, match=r"^x: 1 of 2 acknowledgements after 0\.4 s, from 3 recipients, and no word of n1"
    ):
        wait_for_acks(kind, hub, acks=2, timeout_s=0.4)
    assert 0.25 < time.monotonic() - begun_s < 2
    # The intervals grow.
    assert 2 < len(hub.timeouts_s) < 8


@KINDS
def test_permanent_error_is_raised_immediately(kind: str) -> None:
    hub = Hub(NotFound("gone"))
    with pytest.raises(NotFound, match="gone"):
        wait_for_acks(kind, hub)
    assert len(hub.timeouts_s) == 1


@KINDS
def test_unavailable_is_raised_if_no_request_succeeded(kind: str) -> None:
    with pytest.raises(Unavailable, match="no hub here") as caught:
        wait_for_acks(kind, Hub(Unavailable("no hub here")), timeout_s=0.2)
    assert not isinstance(caught.value, TimedOut)


def test_last_report_from_fewer_nodes_does_not_count() -> None:
    ack_wait = AckWait("x", 3, 1.0, now_s=0.0)
    ack_wait.next_step(report(2, nodes=2), 0.5)
    with pytest.raises(TimedOut, match=r"2 of 3 acknowledgements after 1 s, from 3 recipients$"):
        ack_wait.next_step(report(1, nodes=1), 1.0)


def test_request_timeout_grows_with_the_elapsed_time() -> None:
    ack_wait = AckWait("x", 1, 10.0, now_s=0.0)
    assert [ack_wait.request_timeout_s(at_s) for at_s in (0.0, 0.4, 3.0, 8.0)] == [0.5, 0.5, 3.0, 2.0]


@pytest.mark.parametrize("acks", [-1, True, 1.5, "1"])
def test_invalid_number_of_acks_is_rejected(acks: int) -> None:
    with pytest.raises(BadRequest, match="acks"):
        AckWait("x", acks, 1.0, now_s=0.0)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("inf"), float("nan")])
def test_invalid_timeout_is_rejected(timeout_s: float) -> None:
    with pytest.raises(BadRequest, match="timeout_s"):
        AckWait("x", 1, timeout_s, now_s=0.0)
