from __future__ import annotations

import threading

from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.supervised_task import SupervisedTask


def test_task_that_fails_runs_again_and_is_counted() -> None:
    metrics, calls = ServiceMetrics(), list[int]()

    def run() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("unexpected")

    SupervisedTask("test", run, metrics=metrics, stopping=threading.Event())()
    assert len(calls) == 3
    assert b'tidings_notifications_task_restarts_total{code="test"} 2.0' in metrics.render()


def test_task_that_fails_while_the_service_stops_is_not_started_again() -> None:
    stopping, calls = threading.Event(), list[int]()
    stopping.set()

    def run() -> None:
        calls.append(1)
        raise ValueError("unexpected")

    SupervisedTask("test", run, metrics=ServiceMetrics(), stopping=stopping)()
    assert len(calls) == 1
