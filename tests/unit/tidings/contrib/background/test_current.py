from __future__ import annotations

import pytest

from tidings.contrib.background import JobCancelled, job
from tidings.contrib.background.current import RunningJob, running_in
from tidings.contrib.background.job import MESSAGE_MAX, Job
from tidings.errors import BadRequest

STORED = Job("7f", "ann", "shop.report", "/tidings/jobs/7f")


@pytest.fixture
def wakes() -> list[int]:
    return []


@pytest.fixture
def running(wakes: list[int]) -> RunningJob:
    return RunningJob(STORED, lambda: wakes.append(1))


def test_outside_of_a_job_nothing_happens() -> None:
    job.progress(0.5, "text")
    job.check()
    assert (job.id, job.cancelled) == (None, False)


def test_job_is_that_of_the_block(running: RunningJob) -> None:
    with running_in(running):
        assert job.id == "7f"
    assert job.id is None


def test_the_last_progress_is_taken_once(running: RunningJob, wakes: list[int]) -> None:
    assert running.take_change() == (True, None, "")
    with running_in(running):
        for number in range(5):
            job.progress(number / 5, f"part {number}")
    assert wakes == [1]
    assert running.take_change() == (True, 0.8, "part 4")
    assert running.take_change() == (False, 0.8, "part 4")


@pytest.mark.parametrize(("value", "expected"), [(-0.1, 0.0), (1.0000001, 1.0), (1, 1.0), (float("inf"), 1.0)])
def test_progress_stays_between_0_and_1(running: RunningJob, value: float, expected: float) -> None:
    running.set_progress(value, "")
    assert running.take_change()[1] == expected


@pytest.mark.parametrize("value", ["0.5", None, True, float("nan")])
def test_other_values_are_no_progress(running: RunningJob, value: object) -> None:
    with pytest.raises(BadRequest):
        running.set_progress(value, "")  # type: ignore[arg-type]


def test_long_message_is_cut(running: RunningJob) -> None:
    running.set_progress(0.5, "x" * (MESSAGE_MAX + 1))
    assert running.take_change()[2] == "x" * MESSAGE_MAX


def test_cancelled_job_ends_at_its_next_progress(running: RunningJob) -> None:
    with running_in(running):
        running.is_cancelled = True
        assert job.cancelled
        with pytest.raises(JobCancelled):
            job.check()
        with pytest.raises(JobCancelled):
            job.progress(0.5)
    assert running.take_change()[1] == 0.5
