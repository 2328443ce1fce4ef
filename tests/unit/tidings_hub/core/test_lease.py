from __future__ import annotations

from tidings_hub.core.lease import LeaseReply, LeaseTerm


def test_a_lease_lasts_from_the_time_of_the_request() -> None:
    lease = LeaseTerm(3.0)
    assert not lease.is_held(0.0)
    lease.update(LeaseReply.ACQUIRED, requested_s=10.0)
    assert lease.is_held(12.9)
    assert not lease.is_held(13.0)
    lease.update(LeaseReply.RENEWED, requested_s=12.0)
    assert lease.is_unbroken(1, 14.9)


def test_a_denied_lease_is_over_immediately() -> None:
    lease = LeaseTerm(3.0)
    lease.update(LeaseReply.ACQUIRED, requested_s=10.0)
    lease.update(LeaseReply.DENIED, requested_s=11.0)
    assert not lease.is_held(11.0)


def test_an_older_term_is_not_unbroken() -> None:
    lease = LeaseTerm(3.0)
    lease.update(LeaseReply.ACQUIRED, requested_s=10.0)
    term = lease.term
    lease.update(LeaseReply.ACQUIRED, requested_s=20.0)
    assert lease.is_held(20.0)
    assert not lease.is_unbroken(term, 20.0)
    assert lease.is_unbroken(lease.term, 20.0)


def test_a_lease_renewed_after_a_denial_begins_a_new_term() -> None:
    lease = LeaseTerm(3.0)
    lease.update(LeaseReply.ACQUIRED, requested_s=10.0)
    lease.update(LeaseReply.DENIED, requested_s=11.0)
    lease.update(LeaseReply.RENEWED, requested_s=12.0)
    assert not lease.is_unbroken(1, 12.0)
    assert lease.is_unbroken(2, 12.0)
