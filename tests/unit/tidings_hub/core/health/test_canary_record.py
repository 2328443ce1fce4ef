"""The results of canaries, without a clock."""

from __future__ import annotations

from tidings_hub.core.health.canary_record import CanaryRecord


def is_passing(record: CanaryRecord, now_s: float) -> bool:
    return record.is_passing(failures_max=2, period_s=8.0, now_s=now_s)


def test_node_is_not_ready_before_its_first_canary() -> None:
    record = CanaryRecord()
    assert not is_passing(record, 0.0)
    assert record.age_s(now_s=5.0) is None
    record.on_returned(0.01, now_s=10.0)
    assert is_passing(record, 10.0)
    assert record.age_s(now_s=12.0) == 2.0


def test_one_slow_canary_changes_nothing_and_two_do() -> None:
    record = CanaryRecord()
    record.on_returned(0.01, now_s=0.0)
    record.on_failed("slow")
    assert is_passing(record, 8.5)
    record.on_failed("OOM")
    assert not is_passing(record, 9.0)
    assert record.error == "OOM"


def test_one_canary_that_returns_ends_the_failures() -> None:
    record = CanaryRecord()
    for _ in range(5):
        record.on_failed("OOM")
    record.on_returned(0.01, now_s=50.0)
    assert is_passing(record, 50.0)
    assert (record.failures, record.error, record.trip_s) == (0, "", 0.01)


def test_canaries_that_are_not_sent_any_more_count_as_failed() -> None:
    record = CanaryRecord()
    record.on_returned(0.01, now_s=0.0)
    assert is_passing(record, 16.0)
    assert not is_passing(record, 16.1)
