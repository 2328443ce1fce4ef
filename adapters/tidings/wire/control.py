"""What a backend may ask of all nodes at once, and what they answer (PROTOCOL.md section 7). No I/O.

An order goes to every node that hears it. Each does it and answers; who asked waits for these answers, but
not for ever, and is told which nodes live and did not answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tidings.errors import BadChannel, BadRequest, Internal, from_wire
from tidings.wire.channels import check_channel, user_channel
from tidings.wire.cursor import Cursor

# Kept publications in one page, unless the caller wants another number; and the most that a hub gives.
PAGE = 100
PAGE_MAX = 10_000
_VISIBLE = re.compile(r"[!-~]{1,200}\Z")


@dataclass(frozen=True, slots=True)
class Command:
    """Something for every node to do. `about` are its arguments, checked by the functions below."""

    name: str
    arguments: Mapping[str, str | float]

    def to_message(self, reply_to: str) -> bytes:
        """The control message; answers go to `reply`."""
        return json.dumps({"do": self.name, **self.arguments, "reply": reply_to}, separators=(",", ":")).encode()

    @property
    def revocation(self) -> tuple[str, float] | None:
        """What the broker is to remember: `user:<sub>` or `jti:<jti>`, and until when (unix seconds)."""
        if self.name != "revoke":
            return None
        name = "user" if "user" in self.arguments else "jti"
        return f"{name}:{self.arguments[name]}", float(self.arguments["until_s"])

    def to_http(self) -> tuple[str, bytes]:
        """Path and body of the same over the HTTP API."""
        about = dict(self.arguments)
        if self.name == "revoke":
            return "/api/revocations", json.dumps(about).encode()
        name = "user" if "user" in about else "connection"
        place = quote(str(about.pop(name)), safe="")
        return f"/api/{name}s/{place}/{self.name}", json.dumps(about).encode()


@dataclass(frozen=True, slots=True)
class NodeReplies:
    """What the nodes said. `missing`: nodes that live, as far as the broker knows, and did not answer in time."""

    replies: Sequence[Mapping[str, Any]]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of an order.

    `connections`: how many it concerned on all nodes that answered. `refused`: how many of the user's could
    not be subscribed. `nodes`: how many nodes answered. `missing`: nodes that live and did not; a node that
    is cut off from the broker hears no order. A revocation reaches it all the same: the broker remembers it.
    """

    connections: int
    nodes: int
    missing: tuple[str, ...] = ()
    refused: int = 0

    @property
    def complete(self) -> bool:
        """Whether every node that lives has done it."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class History:
    """A page of a channel's history, oldest first, and the position at which it was read.

    Each publication is `{"event", "data", "id", "cursor", "at_ms"}`.
    """

    cursor: str
    publications: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a node last said of itself. `connections` by transport; `started_s` and `at_s`: unix times, its clock."""

    node: str
    address: str
    version: str
    started_s: float
    at_s: float
    connections: Mapping[str, int]
    sessions: int
    channels: int
    subscriptions: int


def disconnect(*, user: str | None, connection: str | None) -> Command:
    """End a user's connections, or one by its public id.

    Raises:
        BadRequest: both or neither is given. BadChannel: no user can be called that.
    """
    if (user is None) == (connection is None):
        raise BadRequest("give exactly one of user and connection; nobody disconnects everyone by mistake")
    if user is not None:
        return Command("disconnect", {"user": _user(user)})
    return Command("disconnect", {"connection": _visible("connection", connection)})


def revoke(*, user: str | None, jti: str | None, for_s: float | None, until_s: float | None, now_s: float) -> Command:
    """Cut a user or one token off, for some seconds or until a time.

    Raises:
        BadRequest: not exactly one of each pair. BadChannel: no user can be called that.
    """
    if (user is None) == (jti is None) or (for_s is None) == (until_s is None):
        raise BadRequest("give exactly one of user and jti, and exactly one of for_s and until_s")
    end_s = until_s if until_s is not None else now_s + (for_s or 0.0)
    if not math.isfinite(end_s) or (for_s is not None and for_s <= 0):
        raise BadRequest("for_s is a number of seconds above 0, until_s a time in seconds since 1970")
    who = {"user": _user(user)} if user is not None else {"jti": _visible("jti", jti)}
    return Command("revoke", {**who, "until_s": float(end_s)})


def subscribe(*, user: str, channel: str) -> Command:
    """Subscribe a user's live connections to a channel.

    Raises:
        BadChannel: no channel, or no user.
    """
    return Command("subscribe", {"user": _user(user), "channel": check_channel(channel)})


def unsubscribe(*, user: str, channel: str) -> Command:
    """Take a channel from a user's live connections.

    Raises:
        BadChannel: no channel, no user, or the user's own channel.
    """
    if check_channel(channel) == user_channel(user):
        raise BadChannel("a user's own channel cannot be left; disconnect the user instead")
    return Command("unsubscribe", {"user": _user(user), "channel": channel})


def command_result(replies: NodeReplies) -> CommandResult:
    """The sum of what the nodes did.

    Raises:
        TidingsError: what a node said that could not do it at all.
    """
    for said in replies.replies:
        match said.get("error"):
            case {"code": str(code), "message": str(message)}:
                raise from_wire(code, message)
    connections, refused = (
        sum(_whole(said.get(name)) for said in replies.replies) for name in ("connections", "refused")
    )
    return CommandResult(connections, len(replies.replies), replies.missing, refused)


def read_command_result(body: Mapping[str, Any]) -> CommandResult:
    """The HTTP API's answer to an order."""
    connections = body.get("connections", body.get("disconnected"))
    missing = body.get("missing")
    if type(connections) is not int or not isinstance(missing, list):
        raise Internal("the answer is not a hub's; check the URL")
    return CommandResult(connections, _whole(body.get("nodes")), tuple(map(str, missing)), _whole(body.get("refused")))


def read_node_record(fields: Mapping[str, Any]) -> NodeRecord:
    """A node's record, as the broker keeps it and the HTTP API gives it. Unknown fields are passed over."""
    connections = fields.get("connections")
    return NodeRecord(
        node=str(fields.get("node", "")),
        address=str(fields.get("address", "")),
        version=str(fields.get("version", "")),
        started_s=float(fields.get("started_s", 0.0)),
        at_s=float(fields.get("at_s", 0.0)),
        connections={name: _whole(count) for name, count in connections.items()} if connections else {},
        sessions=_whole(fields.get("sessions")),
        channels=_whole(fields.get("channels")),
        subscriptions=_whole(fields.get("subscriptions")),
    )


def check_page(channel: str, since: str | None, limit: int) -> Cursor | None:
    """The cursor to read after, if the question for a page of history is a proper one.

    Raises:
        BadChannel, BadCursor, BadRequest: it is not.
    """
    check_channel(channel)
    if type(limit) is not int or not 1 <= limit <= PAGE_MAX:
        raise BadRequest(f"limit is a whole number from 1 to {PAGE_MAX}")
    return None if since is None else Cursor.parse(since)


def _user(user: str) -> str:
    return user_channel(user).partition(":")[2]


def _visible(name: str, value: object) -> str:
    if isinstance(value, str) and _VISIBLE.match(value):
        return value
    raise BadRequest(f"{name} is 1 to 200 visible ASCII characters")


def _whole(value: object) -> int:
    return value if type(value) is int else 0
