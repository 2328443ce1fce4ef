from __future__ import annotations

from collections.abc import Callable

import pytest

from tidings.errors import Forbidden, Internal, TimedOut
from tidings_hub import runtime
from tidings_hub.extensions.app.ordered_pool import OrderedPool
from tidings_hub.extensions.app.runner import HandlerRunner
from tidings_hub.metrics import Metrics


class Work:
    """Calls that end when they are told to, and what was done."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = runtime.Signal()

    def call(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.begun.append(name)
            self.go.wait(5)

        return run


def settle() -> None:
    for _ in range(20):
        runtime.sleep()


def test_a_clients_calls_are_one_at_a_time_and_in_order() -> None:
    line, work = OrderedPool(4, 40), Work()
    assert all(line.submit("ann", work.call(f"a{number}")) for number in range(3))
    assert line.submit("bob", work.call("b0"))
    settle()
    assert sorted(work.begun) == ["a0", "b0"]
    work.go.set()
    settle()
    assert [name for name in work.begun if name.startswith("a")] == ["a0", "a1", "a2"]


def test_waiting_calls_are_limited_in_total_and_per_client() -> None:
    line, work = OrderedPool(1, 8), Work()
    assert line.submit("ann", work.call("a"))
    settle()
    assert [line.submit("ann", work.call("a")) for _ in range(3)] == [True, True, False]
    taken = [line.submit(f"client-{number}", work.call("x")) for number in range(8)]
    assert taken == [True] * 6 + [False] * 2
    work.go.set()
    settle()
    assert len(work.begun) == 9
    assert line.submit("ann", work.call("again"))


def test_a_call_that_raises_takes_nobodys_place() -> None:
    line, work = OrderedPool(1, 8), Work()
    work.go.set()

    def bad() -> None:
        raise ValueError

    assert all(line.submit("ann", each) for each in (bad, work.call("after")))
    settle()
    assert work.begun == ["after"]


def test_errors_of_handlers_are_distinguished() -> None:
    metrics = Metrics()
    calls = HandlerRunner(metrics, timeout_s=0.05)

    def fails() -> None:
        raise KeyError("x")

    def leaves() -> None:
        raise SystemExit

    def refuses() -> None:
        raise Forbidden("no")

    with pytest.raises(Forbidden, match="no"):
        calls.call("refuses", refuses)
    for handler in (fails, leaves):
        with pytest.raises(Internal):
            calls.call("fails", handler)
    with pytest.raises(TimedOut):
        calls.call("waits", runtime.sleep, 5)
    assert calls.call("works", lambda: 7) == 7
    assert (metrics.app_errors, metrics.app_timeouts) == ({"fails": 2}, {"waits": 1})
    assert sum(metrics.app_call_s.counts) == 5
