"""How much each user may use, and how many users are remembered for that."""

from __future__ import annotations

from tidings_hub.core.rates.user_buckets import UserBuckets


def take(buckets: UserBuckets, count: int, *, user: str = "7", now_s: float = 0.0) -> bool:
    return buckets.take(user, count, per_minute=60, burst=100, now_s=now_s)


def test_all_or_nothing_is_taken() -> None:
    buckets = UserBuckets()
    assert take(buckets, 60)
    assert not take(buckets, 60)
    assert take(buckets, 40)
    assert not take(buckets, 1)
    assert take(buckets, 10, now_s=10.0)
    assert not take(buckets, 1, now_s=10.0)


def test_bucket_never_holds_more_than_the_burst() -> None:
    buckets = UserBuckets()
    assert take(buckets, 1)
    assert not take(buckets, 101, now_s=10_000.0)
    assert take(buckets, 100, now_s=10_000.0)


def test_users_do_not_share_a_bucket() -> None:
    buckets = UserBuckets()
    assert take(buckets, 100)
    assert take(buckets, 100, user="8")


def test_refused_user_waits_no_longer() -> None:
    buckets = UserBuckets()
    assert take(buckets, 100)
    for second in range(10):
        assert not take(buckets, 11, now_s=float(second))
    assert take(buckets, 11, now_s=11.0)


def test_clock_that_goes_back_gives_nothing() -> None:
    buckets = UserBuckets()
    assert take(buckets, 100, now_s=1000.0)
    assert not take(buckets, 1, now_s=10.0)
    assert take(buckets, 3, now_s=13.0)


def test_users_are_bounded() -> None:
    buckets = UserBuckets(users_max=20)
    for user in range(100):
        assert take(buckets, 100, user=str(user))
        assert len(buckets) <= 20
