"""Wanting, joining, lingering and leaving, without a broker."""

from __future__ import annotations

import pytest

from tidings_hub.brokers.interests import Interests
from unit.tidings_hub.core.test_recovery import publication


@pytest.fixture
def interests() -> Interests:
    return Interests(early_max=256)


def test_a_joined_channel_need_not_be_joined_again(interests: Interests) -> None:
    assert interests.add(["a:1", "a:2"]) == ["a:1", "a:2"]
    interests.activate("a:1")
    assert interests.add(["a:1", "a:2"]) == ["a:2"]
    assert (interests.is_pending("a:1"), interests.is_pending("a:2"), interests.is_pending("a:3")) == (
        False,
        True,
        False,
    )


def test_each_link_is_asked_once_per_channel(interests: Interests) -> None:
    interests.add(["a:1", "a:2"])
    assert interests.claim_for_link(1, ["a:1", "a:9"]) == ["a:1"]
    assert interests.claim_for_link(1) == ["a:2"]
    assert interests.claim_for_link(1) == []
    assert interests.claim_for_link(2) == ["a:1", "a:2"]


def test_leaving_takes_its_time_and_can_be_called_off(interests: Interests) -> None:
    interests.add(["a:1", "a:2", "a:3"])
    interests.schedule_removal(["a:1", "a:9"], 10.0)
    interests.schedule_removal(["a:2"], 11.0)
    interests.schedule_removal(["a:1"], 99.0)
    interests.add(["a:2"])
    assert interests.remove_due(9.9) == []
    assert interests.remove_due(12.0) == ["a:1"]
    assert "a:1" not in interests
    assert (len(interests), "a:2" in interests) == (2, True)
    assert interests.remove_due(1000.0) == []


def test_what_comes_early_is_kept_until_the_channel_is_joined(interests: Interests) -> None:
    early = publication(7, 5)
    assert not interests.buffer_early(early)
    interests.add([early.channel])
    assert interests.buffer_early(early)
    assert interests.activate(early.channel) == [early]
    assert not interests.buffer_early(early)


def test_early_ones_of_a_broken_link_are_forgotten(interests: Interests) -> None:
    interests.add(["orders:1"])
    interests.claim_for_link(1)
    interests.buffer_early(publication(7, 5))
    interests.claim_for_link(2)
    assert interests.activate("orders:1") == []


def test_early_ones_are_bounded(interests: Interests) -> None:
    interests.add(["orders:1"])
    kept = [interests.buffer_early(publication(seq, seq - 1)) for seq in range(1, 1_000)]
    assert kept.count(True) == 256
    assert len(interests.activate("orders:1")) == 256
