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
    assert interests.claim_for_link(1, ["a:1", "a:2"]) == ["a:2"]
    assert interests.claim_for_link(1, ["a:1", "a:2"]) == []
    assert interests.claim_for_link(2, ["a:1", "a:2"]) == ["a:1", "a:2"]


def test_removal_lingers_and_can_be_cancelled(interests: Interests) -> None:
    interests.add(["a:1", "a:2", "a:3"])
    interests.schedule_removal(["a:1", "a:9"], 10.0)
    interests.schedule_removal(["a:2"], 11.0)
    interests.schedule_removal(["a:1"], 99.0)
    interests.add(["a:2"])
    assert interests.due(9.9, 10) == []
    assert interests.due(12.0, 10) == ["a:1"]
    assert interests.remove(["a:1", "a:2", "a:3", "a:9"], 12.0) == ["a:1"]
    assert "a:1" not in interests
    assert (len(interests), "a:2" in interests) == (2, True)
    assert interests.due(1000.0, 10) == []


def test_a_channel_that_is_added_again_after_it_was_due_stays(interests: Interests) -> None:
    interests.add(["a:1"])
    interests.schedule_removal(["a:1"], 1.0)
    due = interests.due(2.0, 10)
    interests.add(["a:1"])
    assert (due, interests.remove(due, 2.0), "a:1" in interests) == (["a:1"], [], True)


def test_removals_are_given_in_steps(interests: Interests) -> None:
    names = [f"a:{number}" for number in range(25)]
    interests.add(names)
    interests.schedule_removal(names, 1.0)
    steps = []
    while due := interests.due(2.0, 10):
        steps.append(interests.remove(due, 2.0))
    assert steps == [names[:10], names[10:20], names[20:]]


def activated(interests: Interests, *names: str) -> None:
    interests.add(names)
    for name in names:
        interests.activate(name)


def test_every_channel_is_unverified_on_a_new_link_in_order_of_traffic(interests: Interests) -> None:
    activated(interests, "a:1", "a:2", "a:3", "a:4")
    assert interests.next_unverified(10) == []
    assert interests.begin_link(["a:3", "gone:1", "a:1"]) == ["gone:1"]
    assert interests.next_unverified(10) == ["a:3", "a:1", "a:2", "a:4"]
    assert interests.next_unverified(2) == ["a:3", "a:1"]
    interests.mark_verified(["a:3", "a:1"])
    assert interests.next_unverified(10) == ["a:2", "a:4"]
    assert interests.pop_unverified_change() == 2


def test_an_unverified_channel_that_a_client_subscribes_to_is_verified_for_it(interests: Interests) -> None:
    activated(interests, "a:1", "a:2")
    interests.begin_link(["a:1", "a:2"])
    interests.mark_verified(["a:1"])
    assert interests.add(["a:1", "a:2"]) == ["a:2"]
    interests.mark_verified(["a:2"])
    assert interests.add(["a:1", "a:2"]) == []


def test_a_removed_channel_is_not_verified(interests: Interests) -> None:
    activated(interests, "a:1", "a:2")
    interests.begin_link(["a:1", "a:2"])
    interests.schedule_removal(["a:1"], 1.0)
    interests.remove(["a:1"], 2.0)
    assert interests.next_unverified(10) == ["a:2"]


def test_early_publications_are_buffered_until_the_channel_is_active(interests: Interests) -> None:
    early = publication(7, 5)
    assert not interests.buffer_early(early)
    interests.add([early.channel])
    assert interests.buffer_early(early)
    assert interests.activate(early.channel) == [early]
    assert not interests.buffer_early(early)


def test_early_publications_of_a_broken_link_are_discarded(interests: Interests) -> None:
    interests.add(["orders:1"])
    interests.claim_for_link(1, ["orders:1"])
    interests.buffer_early(publication(7, 5))
    interests.claim_for_link(2, ["orders:1"])
    assert interests.activate("orders:1") == []


def test_early_publications_are_bounded(interests: Interests) -> None:
    interests.add(["orders:1"])
    buffered = [interests.buffer_early(publication(seq, seq - 1)) for seq in range(1, 1_000)]
    assert buffered.count(True) == 256
    assert len(interests.activate("orders:1")) == 256
