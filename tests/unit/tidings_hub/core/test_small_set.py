"""Small collections."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from tidings_hub.core.small_set import add_member, remove_member


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8))))
def test_behaves_like_a_set(steps: list[tuple[bool, int]]) -> None:
    members: Collection[int] = ()
    model: set[int] = set()
    for add, member in steps:
        members = (add_member if add else remove_member)(members, member)
        (model.add if add else model.discard)(member)
        assert set(members) == model
        assert len(members) == len(model)


def test_a_large_set_is_changed_in_place() -> None:
    members: Collection[int] = ()
    for member in range(100):
        members = add_member(members, member)
    assert add_member(members, 100) is members
    assert remove_member(members, 5) is members
