"""Who is in a channel: what is asked and answered, by whatever broker (PROTOCOL.md sections 5 and 7).

No I/O. A member is a user, however many tabs and nodes it is connected by. What changes in a channel is
published in a channel of its own, so that it costs nothing to those who did not ask for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tidings.wire.channels import OWN_PREFIX
from tidings.wire.cursor import Cursor

# Members in one answer, unless the caller wants another number.
LIST_MAX = 1_000
_PREFIX = f"{OWN_PREFIX}presence:"
# A channel that was too large for lists has them again when it is well below the limit: no to and fro at the edge.
RELIST_BELOW_TENTHS = 9
NO_INFO = b"null"


def presence_channel(channel: str) -> str:
    """Where joins and leaves of a channel are published; its namespace is the hub's own."""
    return _PREFIX + channel


def presence_of(name: str) -> str | None:
    """The channel whose joins and leaves are published in `name`; None if it is no such channel."""
    return name[len(_PREFIX) :] if name.startswith(_PREFIX) else None


@dataclass(frozen=True)
class Presence:
    """Who was in a channel at `cursor`.

    `count` are the users. `infos` has, by user, the `info` of the user's token as JSON; it is None where
    there are more users than the asked limit.
    """

    cursor: str
    count: int
    infos: dict[str, bytes] | None

    @cached_property
    def members(self) -> dict[str, object] | None:
        """`info` by user, in order of name; None where only the count is given."""
        return None if self.infos is None else {user: json.loads(info) for user, info in sorted(self.infos.items())}

    def to_json(self) -> bytes:
        """What `to_wire` says, as JSON, without reading what tokens said."""
        members = b"null"
        if self.infos is not None:
            # Users are of a checked alphabet: no JSON escape can be needed.
            each = (b'{"user":"%b","info":%b}' % (user.encode(), self.infos[user]) for user in sorted(self.infos))
            members = b"[%b]" % b",".join(each)
        return b'{"cursor":"%b","count":%d,"members":%b}' % (self.cursor.encode(), self.count, members)

    def to_wire(self) -> dict[str, object]:
        """`{"cursor", "count", "members": [{"user", "info"}] | null}`."""
        members = None if self.members is None else [{"user": user, "info": it} for user, it in self.members.items()]
        return {"cursor": self.cursor, "count": self.count, "members": members}


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """A user is (`info`, as JSON) or is no longer (None) in a channel, as far as one node is concerned."""

    channel: str
    user: str
    info: bytes | None


@dataclass(frozen=True, slots=True)
class PresenceUpdate:
    """What a node says to the broker: its changes, and that it lives.

    `node` names one life of a node. `epoch` is what the broker answered last; empty when this life begins,
    and then `namespaces` are those with presence. After `lease_s` without a turn the node counts as dead.
    In channels of more than `list_max` users single joins and leaves are not published, but counts;
    `event_max_bytes` bounds the data of one of these publications. At most `sweep_max` entries of dead nodes
    are removed.
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
    """What the broker made of a turn.

    `known` False: the broker has forgotten this life of the node, or may have lost what it wrote (`epoch`), and
    nothing was done (there): the node must begin a new life and say everything again. `more`: dead nodes are not
    yet swept clean. Then what happened: users that `joined` and `left` over all nodes, and nodes whose lease `ended`.
    """

    epoch: str
    known: bool = True
    more: bool = False
    joined: int = 0
    left: int = 0
    ended: int = 0


def read_update_result(reply: object) -> PresenceUpdateResult | None:
    """What the presence script replied; None if it is not its reply."""
    match reply:
        case [bytes(epoch), int(known), int(more), int(joined), int(left), int(ended)]:
            return PresenceUpdateResult(epoch.decode(), bool(known), bool(more), joined, left, ended)
    return None


def read_members(reply: object) -> Presence | None:
    """What the members script replied; None if it is not its reply."""
    match reply:
        case [bytes(epoch), bytes(seq), int(count), list(pairs)]:
            infos = {user.decode(): info for user, info in zip(pairs[::2], pairs[1::2], strict=True)}
            return Presence(str(Cursor(epoch.decode(), int(seq))), count, infos)
        case [bytes(epoch), bytes(seq), int(count)]:
            return Presence(str(Cursor(epoch.decode(), int(seq))), count, None)
    return None
