from __future__ import annotations

from tidings.errors import Unavailable
from tidings_hub.core.lease import LeaseReply
from tidings_hub.ingress.lease_keeper import LeaseKeeper


class Provider:
    """Replies to lease requests. `requests`: the requested seconds of each."""

    def __init__(self, *replies: LeaseReply | Unavailable) -> None:
        self.requests: list[float] = []
        self._replies = list(replies)

    def acquire(self, lease_s: float) -> LeaseReply:
        self.requests.append(lease_s)
        reply = self._replies.pop(0)
        if isinstance(reply, Unavailable):
            raise reply
        return reply


def test_a_lease_that_was_acquired_begins_a_term() -> None:
    keeper = LeaseKeeper(Provider(LeaseReply.ACQUIRED, LeaseReply.RENEWED).acquire, lease_s=30.0)
    assert keeper.wait_for_term(0.0) is None
    keeper.renew()
    assert keeper.wait_for_term(0.0) == 1
    keeper.renew()
    assert keeper.is_unbroken(1)


def test_a_denied_lease_ends_the_term() -> None:
    keeper = LeaseKeeper(Provider(LeaseReply.ACQUIRED, LeaseReply.DENIED).acquire, lease_s=30.0)
    keeper.renew()
    keeper.renew()
    assert not keeper.is_unbroken(1)
    assert keeper.wait_for_term(0.0) is None


def test_a_failed_renewal_does_not_end_a_running_lease() -> None:
    keeper = LeaseKeeper(Provider(LeaseReply.ACQUIRED, Unavailable("down")).acquire, lease_s=30.0)
    keeper.renew()
    keeper.renew()
    assert keeper.is_unbroken(1)


def test_a_release_is_sent_once_and_nothing_is_requested_after_it() -> None:
    provider = Provider(LeaseReply.ACQUIRED, LeaseReply.DENIED)
    keeper = LeaseKeeper(provider.acquire, lease_s=30.0)
    keeper.renew()
    keeper.release()
    keeper.release()
    keeper.renew()
    assert provider.requests == [30.0, 0.0]
    assert not keeper.is_unbroken(1)


def test_a_release_that_fails_is_not_an_error() -> None:
    keeper = LeaseKeeper(Provider(LeaseReply.ACQUIRED, Unavailable("down")).acquire, lease_s=30.0)
    keeper.renew()
    keeper.release()
    assert keeper.wait_for_term(0.0) is None
