"""Small collections: a tuple while it is small, a set above.

Most channels of a node have one member, most sessions a few channels: an empty set takes 216 bytes, a tuple 40.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

T = TypeVar("T")
_SMALL_MAX = 4


def add_member(members: Collection[T], member: T) -> Collection[T]:
    """`members` with `member`; keep what is returned."""
    if isinstance(members, set):
        members.add(member)
        return members
    if member in members:
        return members
    return (*members, member) if len(members) < _SMALL_MAX else {*members, member}


def remove_member(members: Collection[T], member: T) -> Collection[T]:
    """`members` without `member`, if it was one; keep what is returned."""
    if isinstance(members, set):
        members.discard(member)
        return members
    return tuple(each for each in members if each != member)
