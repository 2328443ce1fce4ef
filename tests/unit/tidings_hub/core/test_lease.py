from __future__ import annotations

from tidings_hub.core.lease import Hold, Tenure


def test_it_holds_from_before_the_question_for_as_long_as_the_lease() -> None:
    tenure = Tenure(3.0)
    assert not tenure.holds(0.0)
    tenure.heard(Hold.TAKEN, asked_s=10.0)
    assert tenure.holds(12.9)
    assert not tenure.holds(13.0)
    tenure.heard(Hold.KEPT, asked_s=12.0)
    assert tenure.valid(1, 14.9)


def test_a_lease_that_another_has_is_over_at_once() -> None:
    tenure = Tenure(3.0)
    tenure.heard(Hold.TAKEN, asked_s=10.0)
    tenure.heard(Hold.ELSEWHERE, asked_s=11.0)
    assert not tenure.holds(11.0)


def test_what_belongs_to_an_older_term_is_void() -> None:
    tenure = Tenure(3.0)
    tenure.heard(Hold.TAKEN, asked_s=10.0)
    term = tenure.term
    tenure.heard(Hold.TAKEN, asked_s=20.0)
    assert tenure.holds(20.0)
    assert not tenure.valid(term, 20.0)
    assert tenure.valid(tenure.term, 20.0)


def test_a_lease_that_was_kept_although_this_node_had_given_it_up_begins_a_term() -> None:
    tenure = Tenure(3.0)
    tenure.heard(Hold.TAKEN, asked_s=10.0)
    tenure.heard(Hold.ELSEWHERE, asked_s=11.0)
    tenure.heard(Hold.KEPT, asked_s=12.0)
    assert not tenure.valid(1, 12.0)
    assert tenure.valid(2, 12.0)
