"""Presence: the members of a channel, and a node's updates to the broker (PROTOCOL.md sections 5 and 7). No I/O.

A member is a user, with any number of connections on any number of nodes. Joins and leaves of a channel are published
in a separate presence channel, so they cost nothing for clients that do not subscribe to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tidings.wire.channels import OWN_PREFIX
from tidings.wire.cursor import Cursor

# Members in one list (default).
LIST_MAX = 1_000
_PREFIX = f"{OWN_PREFIX}presence:"
# A channel that was too large for lists gets them again below 9/10 of the limit, so that it does not flap at the limit.
RELIST_BELOW_TENTHS = 9
NO_INFO = b"null"


def presence_channel(channel: str) -> str:
    """The channel in which joins and leaves of `channel` are published. Its namespace is reserved for the hub."""
    return _PREFIX + channel


def presence_of(name: str) -> str | None:
    """The channel whose joins and leaves are published in `name`; None if `name` is no presence channel."""
    return name[len(_PREFIX) :] if name.startswith(_PREFIX) else None


@dataclass(frozen=True)
class Presence:
    """The members of a channel at `cursor`.

    `count`: the number of users. `infos`: by user, the `info` of the user's token as JSON; None if there are more users
    than the requested limit.
    """

    cursor: str
    count: int
    infos: dict[str, bytes] | None

    @cached_property
    def members(self) -> dict[str, object] | None:
        """`info` by user, sorted by name; None if there is only a count."""
        return None if self.infos is None else {user: json.loads(info) for user, info in sorted(self.infos.items())}

    def to_json(self) -> bytes:
        """`to_wire` as JSON. The infos are copied without parsing them."""
        members = b"null"
        if self.infos is not None:
            # Users are of a checked alphabet: no JSON escape can be needed.
            entries = (b'{"user":"%b","info":%b}' % (user.encode(), self.infos[user]) for user in sorted(self.infos))
            members = b"[%b]" % b",".join(entries)
        return b'{"cursor":"%b","count":%d,"members":%b}' % (self.cursor.encode(), self.count, members)

    def to_wire(self) -> dict[str, object]:
        """`{"cursor", "count", "members": [{"user", "info"}] | null}`."""
        members = (
            None if self.members is None else [{"user": user, "info": info} for user, info in self.members.items()]
        )
        return {"cursor": self.cursor, "count": self.count, "members": members}


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """A change of one node's members. `info`: the user is a member, with this JSON; None: the user is no member now."""

    channel: str
    user: str
    info: bytes | None


@dataclass(frozen=True, slots=True)
class PresenceUpdate:
    """An update that a node sends to the broker. It contains changes and renews the node's presence lease.

    `node` names one incarnation of a node. `epoch` is that of the broker's last result. It is empty in the first update
    of an incarnation, and then `namespaces` are those with presence. After `lease_s` without an update the node counts
    as dead. In channels with more than `list_max` users, counts are published instead of single joins and leaves.
    `event_max_bytes` limits the data of one of these publications. At most `sweep_max` members of dead nodes are
    removed.
    """

    node: str
    epoch: str = ""
    lease_s: float = 15.0
    changes: Sequence[PresenceChange] = ()
    namespaces: Sequence[str] = ()
    list_max: int = LIST_MAX
    event_max_bytes: int = 65_536
    sweep_max: int = 500


@dataclass(frozen=True, slots=True)
class PresenceUpdateResult:
    """The broker's result of an update.

    `known`: False if the broker has lost this incarnation of the node, or may have lost its data (`epoch`). Then it did
    nothing (in that bucket), and the node must start a new incarnation and send all members again.
    `more`: there are further members of dead nodes to remove.
    `joined`, `left`: users over all nodes. `ended`: nodes whose lease ended.
    """

    epoch: str
    known: bool = True
    more: bool = False
    joined: int = 0
    left: int = 0
    ended: int = 0


def read_update_result(reply: object) -> PresenceUpdateResult | None:
    """The reply of `presence.lua`; None if `reply` is something else."""
    match reply:
        case [bytes(epoch), int(known), int(more), int(joined), int(left), int(ended)]:
            return PresenceUpdateResult(epoch.decode(), bool(known), bool(more), joined, left, ended)
    return None


def read_members(reply: object) -> Presence | None:
    """The reply of `members.lua`; None if `reply` is something else."""
    match reply:
        case [bytes(epoch), bytes(seq), int(count), list(pairs)]:
            infos = {user.decode(): info for user, info in zip(pairs[::2], pairs[1::2], strict=True)}
            return Presence(str(Cursor(epoch.decode(), int(seq))), count, infos)
        case [bytes(epoch), bytes(seq), int(count)]:
            return Presence(str(Cursor(epoch.decode(), int(seq))), count, None)
    return None
