"""Collections of unique members that are a tuple while small, and a set when larger.

Most channels of a node have one member, and most sessions a few channels. An empty set takes 216 bytes, a tuple 40.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

T = TypeVar("T")
_SMALL_MAX = 4


def add_member(members: Collection[T], member: T) -> Collection[T]:
    """Add `member`. Use the returned collection in place of `members`."""
    if isinstance(members, set):
        members.add(member)
        return members
    if member in members:
        return members
    return (*members, member) if len(members) < _SMALL_MAX else {*members, member}


def remove_member(members: Collection[T], member: T) -> Collection[T]:
    """Remove `member`, if it is one. Use the returned collection in place of `members`."""
    if isinstance(members, set):
        members.discard(member)
        return members
    return tuple(other for other in members if other != member)
