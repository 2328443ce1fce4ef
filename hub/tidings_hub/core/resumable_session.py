"""What is kept of a session, so that its client can return to any node as the one that it was (PROTOCOL.md section 5).

A stock client returns with the `pid` that it was given, a secret, and its offset: the last cursor that it got. The
broker knows the session by its `sid`, which is made from the pid and tells nothing of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tidings.codes import CODES
from tidings.errors import BadCursor
from tidings.wire.cursor import Cursor
from tidings_hub.core.bucket_positions import cursor_max

_PID = re.compile(r"[A-Za-z0-9_-]{16,64}\Z")
_SID_BYTES = 15
_encode = json.JSONEncoder(separators=(",", ":")).encode
# Ends after which nobody comes back as the same: the client left, or was sent away. `client disconnect` is Socket.IO's.
_LAST_ENDS = frozenset({"client disconnect", "expired", "disconnected"})


def sid_of(pid: str) -> str:
    """The session that a pid belongs to: 20 characters from which the pid cannot be found."""
    digest = hashlib.sha256(b"tidings session " + pid.encode()).digest()
    return urlsafe_b64encode(digest[:_SID_BYTES]).decode()


def is_pid(text: object) -> bool:
    """Whether a client's `pid` can be one of ours."""
    return isinstance(text, str) and _PID.match(text) is not None


def is_final(reason: str) -> bool:
    """Whether a session that ends like this (a code, or what the transport says) is not kept for a return."""
    code = CODES.get(reason)
    return reason in _LAST_ENDS or (code is not None and not code.should_reconnect)


class JoinMode(StrEnum):
    """How a session came into a channel: what its client must have for a return to be complete."""

    # It gets what came after its offset.
    FROM_OFFSET = "since"
    # With nothing of the past: it gets what came after its offset and after this place.
    FROM_POSITION = "fresh"
    # It was given what it had missed, while it was already at this place: only an offset beyond shows that it came.
    REPLAYED = "behind"
    # That is still being given.
    REPLAYING = "open"


class ChannelJoin(NamedTuple):
    """Channels that a session came into at one place (a cursor; empty for SINCE and OPEN)."""

    mode: JoinMode
    position: str
    channels: tuple[str, ...]


class ResumeRefusal(StrEnum):
    """Why somebody who brought a pid comes in as somebody new."""

    UNKNOWN = "unknown"
    USER = "user"
    REVOKED = "revoked"
    OFFSET = "offset"
    UNREADY = "unready"
    UNSETTLED = "unsettled"
    CHANNELS = "channels"


class ResumableSession:
    """One session. `owner` is the connection that has it now.

    `jti`: of the token that it was opened with. `stale`: the offset that its client had brought from another session,
    and still has if it never heard `tidings:ready`.
    """

    __slots__ = ("joins", "jti", "owner", "sid", "stale_offset", "user")

    def __init__(self, sid: str, owner: str, user: str, *, jti: str | None, stale_offset: str = "") -> None:
        self.sid = sid
        self.owner = owner
        self.user = user
        self.jti = jti
        self.stale_offset = stale_offset
        self.joins: tuple[ChannelJoin, ...] = ()

    @property
    def channels(self) -> list[str]:
        """All channels, in the order in which it came into them."""
        return [name for join in self.joins for name in join.channels]

    def add_channels(self, mode: JoinMode, position: str, channels: Sequence[str]) -> None:
        """It came into these channels; how it had come into them before counts no more."""
        if not channels:
            return
        self.remove_channels(channels)
        last = self.joins[-1] if self.joins else None
        if last is not None and (last.mode, last.position) == (mode, position):
            self.joins = (*self.joins[:-1], ChannelJoin(mode, position, (*last.channels, *channels)))
        else:
            self.joins = (*self.joins, ChannelJoin(mode, position, tuple(channels)))

    def remove_channels(self, channels: Collection[str]) -> None:
        """It left these channels."""
        if all(name not in channels for join in self.joins for name in join.channels):
            return
        rest = (ChannelJoin(how, at, tuple(n for n in names if n not in channels)) for how, at, names in self.joins)
        self.joins = tuple(join for join in rest if join.channels)

    def for_connection(self, owner: str, jti: str | None) -> ResumableSession:
        """The same session on its next connection, after all that it had missed was given."""
        kept = ResumableSession(self.sid, owner, self.user, jti=jti)
        for how, at, names in self.joins:
            kept.add_channels(
                how if how is JoinMode.FROM_POSITION else JoinMode.FROM_OFFSET,
                at if how is JoinMode.FROM_POSITION else "",
                names,
            )
        return kept

    def encode(self) -> bytes:
        """What the broker keeps, beside owner and user: compact JSON."""
        return _encode({"jti": self.jti, "stale": self.stale_offset, "joins": self.joins}).encode()

    @classmethod
    def decode(cls, sid: str, owner: str, user: str, body: bytes) -> ResumableSession | None:
        """What `body` wrote; None if this is nothing of the kind."""
        try:
            said = json.loads(body)
            kept = cls(sid, owner, user, jti=said["jti"], stale_offset=str(said["stale"]))
            kept.joins = tuple(
                ChannelJoin(JoinMode(how), str(at), tuple(map(str, names))) for how, at, names in said["joins"]
            )
        except (ValueError, KeyError, TypeError):
            return None
        return kept


@dataclass(slots=True, frozen=True)
class Resume:
    """A client's return with an offset. `starts`: where a channel begins later than there."""

    session: ResumableSession
    offset: Cursor
    starts: Mapping[str, Cursor]


def plan_resume(session: ResumableSession, offset: object, since: Cursor | None = None) -> Resume | ResumeRefusal:
    """What a client that comes back with this offset is to be given, if that can be known.

    `since`: a cursor that it remembers itself; where it is the later one, it is what the client has.
    """
    if not isinstance(offset, str) or not offset:
        return ResumeRefusal.OFFSET
    if offset == session.stale_offset:
        return ResumeRefusal.UNREADY
    starts: dict[str, Cursor] = {}
    try:
        proof = Cursor.parse(offset)
        cursor = proof if since is None else cursor_max(proof, since)
        for how, at, names in session.joins:
            if how is JoinMode.REPLAYING or (how is JoinMode.REPLAYED and not _beyond(proof, Cursor.parse(at))):
                return ResumeRefusal.UNSETTLED
            if how is JoinMode.FROM_POSITION:
                place = Cursor.parse(at)
                if any(proof.seq_in(one.epoch) is None for one in place.places):
                    return ResumeRefusal.OFFSET
                if (start := cursor_max(cursor, place)) != cursor:
                    starts.update(dict.fromkeys(names, start))
    except BadCursor:
        return ResumeRefusal.OFFSET
    return Resume(session, cursor, starts)


def _beyond(offset: Cursor, place: Cursor) -> bool:
    """Whether the publication that this offset is of came after all up to the place."""
    seq = place.seq_in(offset.epoch)
    return seq is not None and offset.seq > seq
