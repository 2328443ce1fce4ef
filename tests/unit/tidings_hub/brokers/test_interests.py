"""Wanting, joining, lingering and leaving, without a broker."""

from __future__ import annotations

import pytest

from tidings_hub.brokers.interests import Interests
from unit.tidings_hub.core.test_recovery import publication


@pytest.fixture
def interests() -> Interests:
    return Interests(early_max=256)


def test_a_joined_channel_need_not_be_joined_again(interests: Interests) -> None:
    assert interests.want(["a:1", "a:2"]) == ["a:1", "a:2"]
    interests.join("a:1")
    assert interests.want(["a:1", "a:2"]) == ["a:2"]
    assert (interests.joining("a:1"), interests.joining("a:2"), interests.joining("a:3")) == (False, True, False)


def test_each_link_is_asked_once_per_channel(interests: Interests) -> None:
    interests.want(["a:1", "a:2"])
    assert interests.ask_on(1, ["a:1", "a:9"]) == ["a:1"]
    assert interests.ask_on(1) == ["a:2"]
    assert interests.ask_on(1) == []
    assert interests.ask_on(2) == ["a:1", "a:2"]


def test_leaving_takes_its_time_and_can_be_called_off(interests: Interests) -> None:
    interests.want(["a:1", "a:2", "a:3"])
    interests.linger(["a:1", "a:9"], 10.0)
    interests.linger(["a:2"], 11.0)
    interests.linger(["a:1"], 99.0)
    interests.want(["a:2"])
    assert interests.leave(9.9) == []
    assert interests.leave(12.0) == ["a:1"]
    assert "a:1" not in interests
    assert (len(interests), "a:2" in interests) == (2, True)
    assert interests.leave(1000.0) == []


def test_what_comes_early_is_kept_until_the_channel_is_joined(interests: Interests) -> None:
    early = publication(7, 5)
    assert not interests.early(early)
    interests.want([early.channel])
    assert interests.early(early)
    assert interests.join(early.channel) == [early]
    assert not interests.early(early)


def test_early_ones_of_a_broken_link_are_forgotten(interests: Interests) -> None:
    interests.want(["orders:1"])
    interests.ask_on(1)
    interests.early(publication(7, 5))
    interests.ask_on(2)
    assert interests.join("orders:1") == []


def test_early_ones_are_bounded(interests: Interests) -> None:
    interests.want(["orders:1"])
    kept = [interests.early(publication(seq, seq - 1)) for seq in range(1, 1_000)]
    assert kept.count(True) == 256
    assert len(interests.join("orders:1")) == 256
