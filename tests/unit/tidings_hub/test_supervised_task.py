from __future__ import annotations

import logging
from collections.abc import Callable

import eventlet
import pytest

from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask, WorkerErrors


def failing(times: int, error: BaseException, runs: list[int]) -> Callable[[], None]:
    def run() -> None:
        runs.append(1)
        if len(runs) <= times:
            raise error

    return run


@pytest.mark.parametrize(
    "error",
    # `Timeout(9)` would start a timer here.
    [RuntimeError("bug"), KeyError("x"), RecursionError(), MemoryError(), eventlet.Timeout(None)],
    ids=lambda error: type(error).__name__,
)
def test_task_that_fails_is_logged_counted_and_restarted(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, runs = Metrics(), list[int]()
    SupervisedTask("reader", failing(2, error, runs), metrics)()
    assert len(runs) == 3
    assert metrics.task_restarts == {"reader": 2}
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage().split(";")[0] for record in records] == ["unexpected error in the task reader"] * 2
    assert records[0].exc_info is not None


def test_task_that_returns_has_ended() -> None:
    metrics, runs = Metrics(), list[int]()
    SupervisedTask("reader", failing(0, RuntimeError(), runs), metrics)()
    assert len(runs) == 1
    assert metrics.task_restarts == {}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_end_of_the_process_ends_the_task(error: BaseException) -> None:
    metrics = Metrics()
    with pytest.raises(type(error)):
        SupervisedTask("reader", failing(1, error, []), metrics)()
    assert metrics.task_restarts == {}


def test_pause_between_restarts_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses_s: list[float] = []
    monkeypatch.setattr("time.sleep", pauses_s.append)
    SupervisedTask("reader", failing(9, OSError(), []), Metrics())()
    assert pauses_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_unexpected_error_of_a_worker_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    WorkerErrors("commands", metrics)(KeyError("x"))
    assert metrics.worker_errors == {"commands": 1}
    assert "pool commands" in caplog.text
    assert "KeyError" in caplog.text
