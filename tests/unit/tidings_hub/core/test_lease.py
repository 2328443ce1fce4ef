from __future__ import annotations

from tidings_hub.core.lease import LeaseReply, LeaseTerm


def test_it_holds_from_before_the_question_for_as_long_as_the_lease() -> None:
    tenure = LeaseTerm(3.0)
    assert not tenure.is_held(0.0)
    tenure.update(LeaseReply.ACQUIRED, requested_s=10.0)
    assert tenure.is_held(12.9)
    assert not tenure.is_held(13.0)
    tenure.update(LeaseReply.RENEWED, requested_s=12.0)
    assert tenure.is_unbroken(1, 14.9)


def test_a_lease_that_another_has_is_over_at_once() -> None:
    tenure = LeaseTerm(3.0)
    tenure.update(LeaseReply.ACQUIRED, requested_s=10.0)
    tenure.update(LeaseReply.DENIED, requested_s=11.0)
    assert not tenure.is_held(11.0)


def test_what_belongs_to_an_older_term_is_void() -> None:
    tenure = LeaseTerm(3.0)
    tenure.update(LeaseReply.ACQUIRED, requested_s=10.0)
    term = tenure.term
    tenure.update(LeaseReply.ACQUIRED, requested_s=20.0)
    assert tenure.is_held(20.0)
    assert not tenure.is_unbroken(term, 20.0)
    assert tenure.is_unbroken(tenure.term, 20.0)


def test_a_lease_that_was_kept_although_this_node_had_given_it_up_begins_a_term() -> None:
    tenure = LeaseTerm(3.0)
    tenure.update(LeaseReply.ACQUIRED, requested_s=10.0)
    tenure.update(LeaseReply.DENIED, requested_s=11.0)
    tenure.update(LeaseReply.RENEWED, requested_s=12.0)
    assert not tenure.is_unbroken(1, 12.0)
    assert tenure.is_unbroken(2, 12.0)
