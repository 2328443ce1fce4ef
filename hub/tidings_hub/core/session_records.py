"""Notes: small texts that nodes leave at the broker for a while, each under the name of one connection.

Another connection cannot change one; who takes it takes it away, so that nobody else can.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Act(StrEnum):
    """What is to be done with a note. All but NEW concern one that is there and has the same owner."""

    NEW = "new"
    CHANGE = "change"
    PROLONG = "prolong"
    DROP = "drop"


class Noted(IntEnum):
    """What came of it."""

    DONE = 1
    # There is none: it was taken, its time is over, or the broker has a new epoch.
    GONE = 0
    # Another connection has it now.
    OTHERS = -1


@dataclass(slots=True, frozen=True)
class Note:
    """One act. `key`, `owner` and `user` have no blanks; `ttl_s` counts from now."""

    act: Act
    key: str
    owner: str
    ttl_s: int = 0
    user: str = ""
    body: bytes = b""


@dataclass(slots=True, frozen=True)
class Taken:
    """A note that was taken. Another user's is not: `owner` is empty then, and it stays where it is."""

    owner: str
    user: str
    body: bytes
