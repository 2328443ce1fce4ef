"""What the session store saves of a session, and whether a client can resume it (PROTOCOL.md section 5).

A stock client reconnects with the `pid` that it received, a secret, and its offset: the cursor of the last publication
that it received. The broker knows the session by its `sid`, a hash of the pid that does not reveal it.
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
# After these the session cannot be resumed: the client left on purpose, or was disconnected for good.
_FINAL_REASONS = frozenset({"client disconnect", "expired", "disconnected"})


def sid_of(pid: str) -> str:
    """The session that a pid belongs to: 20 characters that do not reveal the pid."""
    digest = hashlib.sha256(b"tidings session " + pid.encode()).digest()
    return urlsafe_b64encode(digest[:_SID_BYTES]).decode()


def is_pid(text: object) -> bool:
    """Whether `text` has the form of a pid."""
    return isinstance(text, str) and _PID.match(text) is not None


def is_final(reason: str) -> bool:
    """Whether a session that ends for this reason (a code, or the transport's reason) cannot be resumed."""
    code = CODES.get(reason)
    return reason in _FINAL_REASONS or (code is not None and not code.should_reconnect)


class JoinMode(StrEnum):
    """How a session joined a channel. It decides what the client must have received for a complete resume."""

    # The client receives what was published after its offset.
    FROM_OFFSET = "since"
    # The session joined without history. The client receives what was published after its offset and after `position`.
    FROM_POSITION = "fresh"
    # The client joined later and missed publications were sent to it when the node had already delivered up to
    # `position`. Its offset proves that it received them only if it is past `position`.
    REPLAYED = "behind"
    # Those missed publications are still being read.
    REPLAYING = "open"


class ChannelJoin(NamedTuple):
    """Channels that a session joined at one position (a cursor; empty for FROM_OFFSET and REPLAYING)."""

    mode: JoinMode
    position: str
    channels: tuple[str, ...]


class ResumeRefusal(StrEnum):
    """Why a client with a pid gets a new session. The values are labels of the metric `returns_refused`."""

    UNKNOWN = "unknown"
    # The session store has not answered for `recovery_away_s`.
    AWAY = "away"
    # The session belongs to another user.
    USER = "user"
    REVOKED = "revoked"
    # The offset is missing, malformed or of another epoch.
    OFFSET = "offset"
    # The client never received `tidings:ready`.
    UNREADY = "unready"
    # The offset does not prove that the client received the publications that were replayed.
    UNSETTLED = "unsettled"
    # A channel is not recovered completely.
    CHANNELS = "channels"


class ResumableSession:
    """One session as the broker stores it. `owner` is the connection that has it now.

    `jti`: the id of the token that it was opened with.
    `stale_offset`: the offset that its client brought from another session. The client still has it if it never
    received `tidings:ready`.
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
        """All channels, in the order in which the session joined them."""
        return [name for join in self.joins for name in join.channels]

    def add_channels(self, mode: JoinMode, position: str, channels: Sequence[str]) -> None:
        """The session joined these channels. An earlier join of them is replaced."""
        if not channels:
            return
        self.remove_channels(channels)
        last = self.joins[-1] if self.joins else None
        if last is not None and (last.mode, last.position) == (mode, position):
            self.joins = (*self.joins[:-1], ChannelJoin(mode, position, (*last.channels, *channels)))
        else:
            self.joins = (*self.joins, ChannelJoin(mode, position, tuple(channels)))

    def remove_channels(self, channels: Collection[str]) -> None:
        """The session left these channels."""
        if all(name not in channels for join in self.joins for name in join.channels):
            return
        remaining = (
            join._replace(channels=tuple(name for name in join.channels if name not in channels)) for join in self.joins
        )
        self.joins = tuple(join for join in remaining if join.channels)

    def for_connection(self, owner: str, jti: str | None) -> ResumableSession:
        """The same session on its next connection, once everything that it missed is written to that connection."""
        session = ResumableSession(self.sid, owner, self.user, jti=jti)
        for mode, position, channels in self.joins:
            if mode is JoinMode.FROM_POSITION:
                session.add_channels(mode, position, channels)
            else:
                session.add_channels(JoinMode.FROM_OFFSET, "", channels)
        return session

    def encode(self) -> bytes:
        """The body of the session record, compact JSON. Owner and user are stored beside it."""
        return _encode({"jti": self.jti, "stale": self.stale_offset, "joins": self.joins}).encode()

    @classmethod
    def decode(cls, sid: str, owner: str, user: str, body: bytes) -> ResumableSession | None:
        """The session that `encode` wrote; None if `body` has another form."""
        try:
            fields = json.loads(body)
            session = cls(sid, owner, user, jti=fields["jti"], stale_offset=str(fields["stale"]))
            session.joins = tuple(
                ChannelJoin(JoinMode(mode), str(position), tuple(map(str, channels)))
                for mode, position, channels in fields["joins"]
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return session


@dataclass(slots=True, frozen=True)
class Resume:
    """A session that its client can resume after `offset`. `starts`: channels that begin at a later cursor."""

    session: ResumableSession
    offset: Cursor
    starts: Mapping[str, Cursor]


def plan_resume(session: ResumableSession, offset: object, since: Cursor | None = None) -> Resume | ResumeRefusal:
    """From where a client with this offset resumes the session, or why it cannot.

    `since`: a cursor that the client stored itself. If it is later than the offset, the client resumes from there.
    """
    if not isinstance(offset, str) or not offset:
        return ResumeRefusal.OFFSET
    if offset == session.stale_offset:
        return ResumeRefusal.UNREADY
    starts: dict[str, Cursor] = {}
    try:
        received = Cursor.parse(offset)
        cursor = received if since is None else cursor_max(received, since)
        for mode, position, channels in session.joins:
            if mode is JoinMode.REPLAYING:
                return ResumeRefusal.UNSETTLED
            if mode is JoinMode.REPLAYED and not _is_past(received, Cursor.parse(position)):
                return ResumeRefusal.UNSETTLED
            if mode is JoinMode.FROM_POSITION:
                joined_at = Cursor.parse(position)
                if any(received.seq_in(place.epoch) is None for place in joined_at.places):
                    return ResumeRefusal.OFFSET
                if (start := cursor_max(cursor, joined_at)) != cursor:
                    starts.update(dict.fromkeys(channels, start))
    except BadCursor:
        return ResumeRefusal.OFFSET
    return Resume(session, cursor, starts)


def _is_past(offset: Cursor, position: Cursor) -> bool:
    """Whether the offset's publication came after all publications up to the position."""
    seq = position.seq_in(offset.epoch)
    return seq is not None and offset.seq > seq
