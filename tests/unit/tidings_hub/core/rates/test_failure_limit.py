from __future__ import annotations

from tidings_hub.core.rates.failure_limit import FailureLimit


def test_an_address_is_over_the_limit_until_its_window_ends() -> None:
    failures = FailureLimit(2, per_s=60)
    assert [failures.add("a", now_s=0), failures.add("a", now_s=1), failures.add("a", now_s=59)] == [False, False, True]
    assert not failures.add("b", now_s=59)
    assert not failures.add("a", now_s=60)


def test_number_of_stored_addresses_is_limited() -> None:
    failures = FailureLimit(1, addresses_max=10)
    for number in range(1000):
        failures.add(str(number), now_s=0)
        assert len(failures) <= 10
