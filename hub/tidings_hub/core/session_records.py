"""Notes: small texts that nodes leave at the broker for a while, each under the name of one connection.

Another connection cannot change one; who takes it takes it away, so that nobody else can.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class RecordOperation(StrEnum):
    """What is to be done with a note. All but NEW concern one that is there and has the same owner."""

    CREATE = "new"
    UPDATE = "change"
    TOUCH = "prolong"
    DELETE = "drop"


class WriteResult(IntEnum):
    """What came of it."""

    OK = 1
    # There is none: it was taken, its time is over, or the broker has a new epoch.
    MISSING = 0
    # Another connection has it now.
    NOT_OWNER = -1


@dataclass(slots=True, frozen=True)
class SessionRecord:
    """One act. `key`, `owner` and `user` have no blanks; `ttl_s` counts from now."""

    operation: RecordOperation
    key: str
    owner: str
    ttl_s: int = 0
    user: str = ""
    body: bytes = b""


@dataclass(slots=True, frozen=True)
class ClaimedSession:
    """A note that was taken. Another user's is not: `owner` is empty then, and it stays where it is."""

    owner: str
    user: str
    body: bytes
