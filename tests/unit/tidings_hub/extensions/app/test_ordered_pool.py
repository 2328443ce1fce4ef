from __future__ import annotations

from collections.abc import Callable

import eventlet
import pytest

from tidings.errors import Forbidden, Internal, TimedOut
from tidings_hub import runtime
from tidings_hub.extensions.app.ordered_pool import OrderedPool
from tidings_hub.extensions.app.runner import HandlerRunner
from tidings_hub.metrics import Metrics


class Work:
    """Calls that block until `release` is set. `started`: the names of the started calls."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.release = runtime.Signal()

    def call(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.started.append(name)
            self.release.wait(5)

        return run


def settle() -> None:
    for _ in range(20):
        runtime.sleep()


def test_calls_of_a_client_run_one_at_a_time_in_order() -> None:
    pool, work = OrderedPool(4, 40), Work()
    assert all(pool.submit("ann", work.call(f"a{number}")) for number in range(3))
    assert pool.submit("bob", work.call("b0"))
    settle()
    assert sorted(work.started) == ["a0", "b0"]
    work.release.set()
    settle()
    assert [name for name in work.started if name.startswith("a")] == ["a0", "a1", "a2"]


def test_data_of_waiting_calls_takes_bounded_memory() -> None:
    pool, work, size = OrderedPool(1, 4_000), Work(), 1_000_000
    counts = dict.fromkeys("abcde", 0)
    for client in counts:
        while pool.submit(client, work.call(client), memory_bytes=size):
            counts[client] += 1
    # A client has a quarter of 64 MB, and all have 64 MB.
    assert list(counts.values()) == [16, 16, 16, 16, 3]
    assert pool.submit("f", work.call("small"))
    work.release.set()
    while len(pool):
        settle()
    assert len(pool) == 0
    assert pool.submit("g", work.call("g"), memory_bytes=100_000_000)
    assert not pool.submit("g", work.call("g"), memory_bytes=size)


@pytest.mark.parametrize("error", [ValueError(), eventlet.Timeout(None)], ids=["error", "timeout of eventlet"])
def test_call_that_raises_does_not_stop_the_next_ones(error: BaseException) -> None:
    pool, work = OrderedPool(1, 40), Work()
    work.release.set()

    def fail() -> None:
        raise error

    assert pool.submit("ann", fail)
    assert pool.submit("ann", work.call("a1"))
    settle()
    assert pool.submit("ann", work.call("a2"))
    settle()
    assert work.started == ["a1", "a2"]
    assert len(pool) == 0


def test_waiting_calls_are_limited_in_total_and_per_client() -> None:
    pool, work = OrderedPool(1, 8), Work()
    assert pool.submit("ann", work.call("a"))
    settle()
    assert [pool.submit("ann", work.call("a")) for _ in range(3)] == [True, True, False]
    accepted = [pool.submit(f"client-{number}", work.call("x")) for number in range(8)]
    assert accepted == [True] * 6 + [False] * 2
    work.release.set()
    settle()
    assert len(work.started) == 9
    assert pool.submit("ann", work.call("later"))


def test_failed_call_does_not_block_later_calls() -> None:
    pool, work = OrderedPool(1, 8), Work()
    work.release.set()

    def failing_call() -> None:
        raise ValueError

    assert all(pool.submit("ann", function) for function in (failing_call, work.call("after")))
    settle()
    assert work.started == ["after"]


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
