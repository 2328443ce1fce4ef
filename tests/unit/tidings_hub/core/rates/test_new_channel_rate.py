"""How many new channels a user may use, and what is remembered for that."""

from __future__ import annotations

from tidings_hub.core.rates.new_channel_rate import NewChannelRate


def names(first: int, count: int) -> list[str]:
    return [f"orders:{number}" for number in range(first, first + count)]


def take(rate: NewChannelRate, first: int, count: int, *, user: str = "7", now_s: float = 0.0) -> int:
    """How many of `count` names the user may use."""
    return count - len(rate.take(user, names(first, count), per_minute=60, burst=10, now_s=now_s))


def test_burst_then_the_rate() -> None:
    rate = NewChannelRate()
    assert take(rate, 0, 12) == 10
    assert take(rate, 100, 1) == 0
    assert take(rate, 200, 9, now_s=5.0) == 5
    assert take(rate, 300, 99, now_s=1000.0) == 10


def test_first_names_are_allowed() -> None:
    assert NewChannelRate().take("7", names(0, 12), per_minute=60, burst=10, now_s=0.0) == names(10, 2)


def test_known_names_cost_nothing() -> None:
    rate = NewChannelRate()
    assert take(rate, 0, 10) == 10
    assert take(rate, 0, 10) == 10
    assert take(rate, 0, 10, user="8") == 10
    assert take(rate, 10, 10, user="8") == 10


def test_users_do_not_share_a_bucket() -> None:
    rate = NewChannelRate()
    assert take(rate, 0, 20) == 10
    assert take(rate, 20, 10, user="8") == 10


def test_no_limit() -> None:
    rate = NewChannelRate()
    assert rate.take("7", names(0, 5_000), per_minute=0, burst=1, now_s=0.0) == []
    assert rate.sizes == (0, 0)


def test_clock_that_goes_back_gives_nothing() -> None:
    rate = NewChannelRate()
    assert take(rate, 0, 10, now_s=1000.0) == 10
    assert take(rate, 100, 1, now_s=10.0) == 0
    assert take(rate, 100, 9, now_s=13.0) == 3


def test_memory_is_bounded() -> None:
    rate = NewChannelRate(names_max=50, users_max=20)
    for user in range(100):
        assert take(rate, 10 * user, 10, user=str(user)) == 10
        assert rate.sizes[0] <= 50
        assert rate.sizes[1] <= 20


def test_full_buckets_are_forgotten_two_at_a_time() -> None:
    rate = NewChannelRate()
    take(rate, 0, 10, user="busy")
    for user in range(100):
        assert take(rate, 10 + user, 1, user=str(user)) == 1
    assert rate.sizes[1] == 101
    for number in range(60):
        take(rate, 200 + number, 1, user="later", now_s=5.0)
    # One that is still filling does not keep the others.
    assert rate.sizes[1] == 2
