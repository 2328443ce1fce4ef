"""The circuit breaker, without a clock."""

from __future__ import annotations

from tidings_hub.core.health.circuit_breaker import CircuitBreaker


def opened(at_s: float = 10.0) -> CircuitBreaker:
    """A breaker whose first call began at `at_s` and failed five seconds later."""
    breaker = CircuitBreaker(pause_s=1.0, probe_s=6.0)
    assert breaker.admits(at_s)
    breaker.fail(at_s, at_s + 5)
    return breaker


def test_every_call_is_tried_while_calls_succeed() -> None:
    breaker = CircuitBreaker(pause_s=1.0, probe_s=6.0)
    assert all(breaker.admits(second) for second in range(5))
    breaker.succeed(5.0)
    assert breaker.admits(5.0)
    assert breaker.is_closed
    assert breaker.away_s(5.0) == 0.0


def test_after_a_failure_one_call_at_a_time_is_tried() -> None:
    breaker = opened()
    assert not breaker.admits(15.9)
    assert breaker.admits(16.0)
    assert not any(breaker.admits(16.0 + second) for second in range(6))
    breaker.fail(16.0, 18.0)
    assert not breaker.admits(18.9)
    assert breaker.admits(19.0)


def test_probe_that_succeeds_lets_every_call_through() -> None:
    breaker = opened()
    assert breaker.admits(16.0)
    breaker.succeed(16.1)
    assert breaker.admits(16.1)
    assert breaker.admits(16.1)


def test_probe_without_a_result_is_repeated() -> None:
    breaker = opened()
    assert breaker.admits(16.0)
    assert not breaker.admits(21.9)
    assert breaker.admits(22.0)


def test_one_failure_among_calls_that_succeed_changes_nothing() -> None:
    breaker = CircuitBreaker(pause_s=1.0, probe_s=6.0)
    breaker.succeed(12.0)
    breaker.fail(10.0, 15.0)
    assert breaker.is_closed
    breaker.fail(12.5, 17.5)
    assert not breaker.is_closed


def test_late_failure_of_an_earlier_call_does_not_replace_the_probe() -> None:
    breaker = opened()
    assert breaker.admits(16.0)
    breaker.fail(11.0, 16.2)
    assert not breaker.admits(17.5)


def test_time_away_counts_from_the_first_call_that_failed() -> None:
    breaker = opened()
    assert breaker.away_s(15.0) == 5.0
    assert breaker.admits(16.0)
    breaker.fail(16.0, 21.0)
    assert breaker.away_s(40.0) == 30.0
    breaker.succeed(41.0)
    assert breaker.away_s(42.0) == 0.0
