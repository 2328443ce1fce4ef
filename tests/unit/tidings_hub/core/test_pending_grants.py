"""Which waiting subscriptions an unsubscription ends."""

from __future__ import annotations

from tidings_hub.core.pending_grants import PendingGrants


def test_an_unsubscription_ends_the_waiting_subscriptions_of_its_user_and_channel() -> None:
    grants = PendingGrants()
    waiting = [grants.begin(*names) for names in (("7", "a:1"), ("7", "a:1"), ("7", "a:2"), ("8", "a:1"))]
    grants.withdraw("7", "a:1")
    assert [grant.is_withdrawn() for grant in waiting] == [True, True, False, False]


def test_a_subscription_that_came_later_or_was_carried_out_is_not_withdrawn() -> None:
    grants = PendingGrants()
    done = grants.begin("7", "a:1")
    grants.end(done)
    grants.end(done)
    grants.withdraw("7", "a:1")
    assert not done.is_withdrawn()
    assert not grants.begin("7", "a:1").is_withdrawn()
