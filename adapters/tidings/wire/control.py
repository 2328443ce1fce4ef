"""Commands of a backend to all nodes, and the nodes' replies (PROTOCOL.md section 7). No I/O.

Every connected node receives a command, executes it and replies. The sender waits a limited time for the replies. It
learns which nodes are alive and did not reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tidings.errors import BadChannel, BadRequest, Internal, from_wire
from tidings.number_checks import TIME_MAX_S, check_seconds
from tidings.wire.channels import check_channel, user_channel
from tidings.wire.cursor import Cursor

# Publications in one page of a history: default and maximum.
PAGE = 100
PAGE_MAX = 10_000
_VISIBLE = re.compile(r"[!-~]{1,200}\Z")


@dataclass(frozen=True, slots=True)
class Command:
    """A command to every node. The functions below check its `arguments`."""

    name: str
    arguments: Mapping[str, str | float]

    def to_message(self, reply_to: str) -> bytes:
        """The control message. Nodes send their replies to `reply_to`."""
        return json.dumps({"do": self.name, **self.arguments, "reply": reply_to}, separators=(",", ":")).encode()

    @property
    def revocation(self) -> tuple[str, float] | None:
        """The revocation to store in the broker: `user:<sub>` or `jti:<jti>`, and its end (unix time in seconds)."""
        if self.name != "revoke":
            return None
        name = "user" if "user" in self.arguments else "jti"
        return f"{name}:{self.arguments[name]}", float(self.arguments["until_s"])

    @property
    def for_s(self) -> float:
        """The duration of a revocation in seconds; 0: its end was given instead."""
        return float(self.arguments.get("for_s", 0.0))

    def to_http(self) -> tuple[str, bytes]:
        """Path and body of this command for the HTTP API."""
        arguments = dict(self.arguments)
        if self.name == "revoke":
            if "for_s" in arguments:
                # The duration counts by the clock of the hub.
                del arguments["until_s"]
            return "/api/revocations", json.dumps(arguments).encode()
        name = "user" if "user" in arguments else "connection"
        value = quote(str(arguments.pop(name)), safe="")
        return f"/api/{name}s/{value}/{self.name}", json.dumps(arguments).encode()


@dataclass(frozen=True, slots=True)
class NodeReplies:
    """The replies of the nodes. `missing`: nodes that are alive by their records and did not reply in time."""

    replies: Sequence[Mapping[str, Any]]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command, over all nodes that replied.

    `connections`: how many connections it affected. `refused`: how many of the user's connections could not be
    subscribed. `nodes`: how many nodes replied. `missing`: nodes that are alive and did not reply. A node that is cut
    off from the broker receives no command. It still applies a revocation later, since the broker stores revocations.
    """

    connections: int
    nodes: int
    missing: tuple[str, ...] = ()
    refused: int = 0

    @property
    def complete(self) -> bool:
        """Whether every node that is alive has replied."""
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
    """The last heartbeat of a node. `connections`: by transport. `started_s`, `at_s`: unix times by its own clock."""

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
    """Disconnect a user, or one connection by its public id.

    Raises:
        BadRequest: both or neither is passed.
        BadChannel: `user` is no valid user id.
    """
    if (user is None) == (connection is None):
        raise BadRequest("pass exactly one of user and connection; there is no command that disconnects all users")
    if user is not None:
        return Command("disconnect", {"user": _user(user)})
    return Command("disconnect", {"connection": _visible("connection", connection)})


def revoke(*, user: str | None, jti: str | None, for_s: float | None, until_s: float | None, now_s: float) -> Command:
    """Revoke a user or one token, for some seconds or until a time.

    Seconds count by `now_s` and by the clock of Redis, whichever end is later: a backend's clock may be wrong.

    Raises:
        BadRequest: not exactly one of each pair is passed, or the time is invalid.
        BadChannel: `user` is no valid user id.
    """
    if (user is None) == (jti is None) or (for_s is None) == (until_s is None):
        raise BadRequest("pass exactly one of user and jti, and exactly one of for_s and until_s")
    if for_s is None:
        end_s = check_seconds(until_s, "until_s", most_s=TIME_MAX_S, error=BadRequest)
    else:
        end_s = now_s + check_seconds(for_s, "for_s", most_s=TIME_MAX_S, error=BadRequest)
    subject = {"user": _user(user)} if user is not None else {"jti": _visible("jti", jti)}
    duration = {} if for_s is None else {"for_s": float(for_s)}
    return Command("revoke", {**subject, "until_s": float(end_s), **duration})


def subscribe(*, user: str, channel: str) -> Command:
    """Subscribe a user's live connections to a channel.

    Raises:
        BadChannel: `channel` or `user` is invalid.
    """
    return Command("subscribe", {"user": _user(user), "channel": check_channel(channel)})


def unsubscribe(*, user: str, channel: str) -> Command:
    """Unsubscribe a user's live connections from a channel.

    Raises:
        BadChannel: `channel` or `user` is invalid, or it is the user's own channel.
    """
    if check_channel(channel) == user_channel(user):
        raise BadChannel("a user's own channel cannot be left; disconnect the user instead")
    return Command("unsubscribe", {"user": _user(user), "channel": channel})


def command_result(replies: NodeReplies) -> CommandResult:
    """The sum of the nodes' replies.

    Raises:
        TidingsError: the error that a node replied with.
    """
    for reply in replies.replies:
        match reply.get("error"):
            case {"code": str(code), "message": str(message)}:
                raise from_wire(code, message)
    connections, refused = (
        sum(_int_or_zero(reply.get(name)) for reply in replies.replies) for name in ("connections", "refused")
    )
    return CommandResult(connections, len(replies.replies), replies.missing, refused)


def read_command_result(body: Mapping[str, Any]) -> CommandResult:
    """The HTTP API's response to a command."""
    connections = body.get("connections", body.get("disconnected"))
    missing = body.get("missing")
    if type(connections) is not int or not isinstance(missing, list):
        raise Internal("the response is not a hub's; check the URL")
    return CommandResult(
        connections, _int_or_zero(body.get("nodes")), tuple(map(str, missing)), _int_or_zero(body.get("refused"))
    )


def read_node_record(fields: Mapping[str, Any]) -> NodeRecord:
    """A node's record, as the broker stores it and the HTTP API returns it. Unknown fields are ignored."""
    connections = fields.get("connections")
    return NodeRecord(
        node=str(fields.get("node", "")),
        address=str(fields.get("address", "")),
        version=str(fields.get("version", "")),
        started_s=float(fields.get("started_s", 0.0)),
        at_s=float(fields.get("at_s", 0.0)),
        connections={name: _int_or_zero(count) for name, count in connections.items()} if connections else {},
        sessions=_int_or_zero(fields.get("sessions")),
        channels=_int_or_zero(fields.get("channels")),
        subscriptions=_int_or_zero(fields.get("subscriptions")),
    )


def check_page(channel: str, since: str | None, limit: int) -> Cursor | None:
    """Check the parameters of a history request; returns the cursor to read after.

    Raises:
        BadChannel, BadCursor, BadRequest: the parameter of that name is invalid.
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


def _int_or_zero(value: object) -> int:
    return value if type(value) is int else 0
