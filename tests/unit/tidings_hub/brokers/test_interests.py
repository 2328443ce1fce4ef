"""Adding, activating and removing channels, without a broker."""

from __future__ import annotations

import pytest

from tidings_hub.brokers.interests import Interests
from unit.tidings_hub.core.test_recovery import publication


@pytest.fixture
def interests() -> Interests:
    return Interests(early_max=256)


def test_active_channel_need_not_be_activated_again(interests: Interests) -> None:
    assert interests.add(["a:1", "a:2"]) == ["a:1", "a:2"]
    interests.activate("a:1")
    assert interests.add(["a:1", "a:2"]) == ["a:2"]
    assert (interests.is_pending("a:1"), interests.is_pending("a:2"), interests.is_pending("a:3")) == (
        False,
        True,
        False,
    )


def test_each_channel_is_subscribed_once_per_link(interests: Interests) -> None:
    interests.add(["a:1", "a:2"])
    assert interests.claim_for_link(1, ["a:1", "a:9"]) == ["a:1"]
    assert interests.claim_for_link(1) == ["a:2"]
    assert interests.claim_for_link(1) == []
    assert interests.claim_for_link(2) == ["a:1", "a:2"]


def test_removal_lingers_and_can_be_cancelled(interests: Interests) -> None:
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


def test_early_publications_are_buffered_until_the_channel_is_active(interests: Interests) -> None:
    early = publication(7, 5)
    assert not interests.buffer_early(early)
    interests.add([early.channel])
    assert interests.buffer_early(early)
    assert interests.activate(early.channel) == [early]
    assert not interests.buffer_early(early)


def test_early_publications_of_a_broken_link_are_discarded(interests: Interests) -> None:
    interests.add(["orders:1"])
    interests.claim_for_link(1)
    interests.buffer_early(publication(7, 5))
    interests.claim_for_link(2)
    assert interests.activate("orders:1") == []


def test_early_publications_are_bounded(interests: Interests) -> None:
    interests.add(["orders:1"])
    buffered = [interests.buffer_early(publication(seq, seq - 1)) for seq in range(1, 1_000)]
    assert buffered.count(True) == 256
    assert len(interests.activate("orders:1")) == 256
