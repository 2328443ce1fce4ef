"""Session records: what nodes store at the broker of a session, so that another node can resume it.

A record belongs to one connection: writes by another are rejected (NOT_OWNER). Claiming removes it atomically, so
that only one connection can resume the session. PROTOCOL.md section 7 has the keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class RecordOperation(StrEnum):
    """What to do with a record. All but CREATE need a record of the same owner. The values go to Redis."""

    CREATE = "create"
    UPDATE = "update"
    # Extend the record's lifetime.
    TOUCH = "touch"
    DELETE = "delete"


class WriteResult(IntEnum):
    """The result of an operation, as `session_write.lua` returns it."""

    OK = 1
    # The record was claimed, has expired, or the broker has a new epoch.
    MISSING = 0
    # The record belongs to another connection.
    NOT_OWNER = -1


@dataclass(slots=True, frozen=True)
class SessionRecord:
    """One operation on one record. `key`, `owner` and `user` contain no blanks. `ttl_s` counts from the write."""

    operation: RecordOperation
    key: str
    owner: str
    ttl_s: int = 0
    user: str = ""
    body: bytes = b""


@dataclass(slots=True, frozen=True)
class ClaimedSession:
    """A claimed record. If it belongs to another user, it is not claimed and `owner` is empty."""

    owner: str
    user: str
    body: bytes
