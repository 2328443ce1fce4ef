"""Local presence: which users of this node are members of which channel, and which changes are not yet in the broker.

A user is a member from the first connection that subscribes until `grace_s` after the last one has left. So a page
change, or a move to another node, is no leave. The broker combines all nodes (`tidings.wire.presence.PresenceUpdate`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from tidings.wire.channels import OWN_PREFIX
from tidings.wire.presence import PresenceChange, presence_channel, presence_of
from tidings.wire.publication import Publication
from tidings_hub.core.frame import Frame


@dataclass(slots=True)
class _LocalMember:
    connections: int
    info: bytes
    # When the membership ends; None while a connection is subscribed.
    until_s: float | None = None


class LocalPresence:
    """The members of this node, and which of them changed since the last update of the broker.

    A change contains the current state of a member, so a repeated change does no harm.
    """

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._members: dict[tuple[str, str], _LocalMember] = {}
        self._changed: dict[tuple[str, str], None] = {}
        # All members have the same grace period, so this is sorted by time.
        self._expiries: deque[tuple[float, tuple[str, str]]] = deque()

    def __len__(self) -> int:
        return len(self._members)

    @property
    def has_changes(self) -> bool:
        """Whether there are changes for the broker."""
        return bool(self._changed)

    def join(self, channels: Iterable[str], user: str, info: bytes) -> None:
        """Add one connection of the user to these channels. The newest connection's `info` counts."""
        for channel in channels:
            member = self._members.get((channel, user))
            if member is None:
                self._members[channel, user] = _LocalMember(1, info)
                self._changed[channel, user] = None
            else:
                member.connections += 1
                member.until_s = None
        self.update_info(channels, user, info)

    def update_info(self, channels: Iterable[str], user: str, info: bytes) -> None:
        """Set the user's `info`."""
        for channel in channels:
            member = self._members.get((channel, user))
            if member is not None and member.info != info:
                member.info = info
                self._changed[channel, user] = None

    def leave(self, channels: Iterable[str], user: str, *, now_s: float) -> None:
        """Remove one connection of the user from these channels."""
        for channel in channels:
            member = self._members.get((channel, user))
            if member is None or member.connections == 0:
                continue
            member.connections -= 1
            if member.connections == 0:
                member.until_s = now_s + self._grace_s
                self._expiries.append((member.until_s, (channel, user)))

    def pop_changes(self, now_s: float, *, limit: int | None = None) -> list[PresenceChange]:
        """Return the changes for the broker, the oldest first and at most `limit`, and mark them as written."""
        self._end_memberships(now_s, limit)
        if limit is None or len(self._changed) <= limit:
            changed, self._changed = self._changed, {}
            return [self._change(key) for key in changed]
        keys = list(islice(self._changed, limit))
        for key in keys:
            del self._changed[key]
        return [self._change(key) for key in keys]

    def _end_memberships(self, now_s: float, limit: int | None) -> None:
        """End the memberships whose grace period is over, at most `limit`."""
        ended = 0
        while self._expiries and self._expiries[0][0] <= now_s and ended != limit:
            until_s, key = self._expiries.popleft()
            ended += 1
            member = self._members.get(key)
            # The expiry differs if the user reconnected meanwhile, even if the user disconnected again.
            if member is not None and member.until_s == until_s:
                del self._members[key]
                self._changed[key] = None

    def _change(self, key: tuple[str, str]) -> PresenceChange:
        member = self._members.get(key)
        return PresenceChange(*key, None if member is None else member.info)

    def restore_changes(self, changes: list[PresenceChange]) -> None:
        """Mark changes as not written: the update failed."""
        self._changed.update(((change.channel, change.user), None) for change in changes)

    def mark_all_changed(self) -> None:
        """Mark every member as changed, and nothing else: the broker has no members of this node."""
        self._changed = dict.fromkeys(self._members)

    def next_expiry_s(self) -> float | None:
        """When the next grace period ends; None: no member is in its grace period."""
        return self._expiries[0][0] if self._expiries else None


def with_presence_channels(channels: Iterable[str]) -> Iterable[str]:
    """The channels, each followed by its presence channel, without duplicates."""
    return dict.fromkeys(channel for name in channels for channel in (name, presence_channel(name)))


def split_answers(answers: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """`{"channels": …}` with the answers of channels; `"presence"` has those of presence channels, if any."""
    split: dict[str, dict[str, object]] = {"channels": {}}
    for name, answer in answers.items():
        channel = presence_of(name)
        if channel is None:
            split["channels"][name] = answer
        else:
            split.setdefault("presence", {})[channel] = answer
    return split


def presence_frame(publication: Publication) -> Frame:
    """The frame of a publication in a presence channel: an event such as `tidings:join` in the channel itself."""
    return _PresenceFrame(publication)


class _PresenceFrame(Frame):
    """Delivered to the subscribers of the presence channel, but written with the name of the channel itself."""

    __slots__ = ()

    def __init__(self, publication: Publication) -> None:
        published = replace(
            publication,
            channel=presence_of(publication.channel) or publication.channel,
            event_bytes=publication.event_bytes + len(OWN_PREFIX),
            fragment=b'"' + OWN_PREFIX.encode() + publication.fragment[1:],
        )
        super().__init__(published)
        # Both forms are built here, while `publication` is still the one with the channel's own name.
        self._sse = self.sse
        self.publication = publication
