"""Requests to all nodes, and to Redis itself, as dialogues of several round trips. No I/O.

A dialogue is a generator. It yields a `RoundTrip`, receives the replies (one per command), and returns the result. So
the same code serves threads, greenlets, asyncio and the hub.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidings.errors import BadPacket, TimedOut, Unavailable, UnknownNamespace
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack, pack_call
from tidings.wire.channels import namespace_of
from tidings.wire.control import Command, History, NodeRecord, NodeReplies, read_node_record
from tidings.wire.cursor import Cursor
from tidings.wire.publication import decode

_PACKAGE = "tidings.redis_client"
# How long Redis keeps replies that the requester no longer reads.
REPLY_TTL_S = 60
REPLY_MAX_BYTES = 1_048_576
PAGE_MAX_BYTES = 4 * 1024 * 1024
MESSAGE_MAX_BYTES = 64 * 1024 * 1024
# For the network, on top of the time that BLPOP itself waits.
_GRACE_S = 1.0
# How long to wait for more replies once every node with a record has replied. Redis counts the subscribers of all its
# databases, and nodes of another database never reply. A node that has just started has no record yet.
_UNRECORDED_S = 0.25


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """`count` packed commands, the scripts that they call, and the timeout for their replies."""

    packed: bytes
    count: int
    scripts: Sequence[Script]
    timeout_s: float


Dialogue = Generator[RoundTrip, list[Any], Any]


def control_script() -> Script:
    """The script that sends a command to every node."""
    return load_script(_PACKAGE, "control.lua")


def nodes_script() -> Script:
    """The script that stores a node's record and returns those of all live nodes."""
    return load_script(_PACKAGE, "nodes.lua")


def history_script() -> Script:
    """The script that returns one page of a channel's stream."""
    return load_script(_PACKAGE, "history.lua")


def command_dialogue(
    keys: RedisKeys, order: Command, *, timeout_s: float, now_s: Callable[[], float], accept_s: float | None = None
) -> Generator[RoundTrip, list[Any], NodeReplies]:
    """Send a command to every node. Returns the replies that arrive within `timeout_s`.

    `accept_s`: how long to wait until Redis has accepted it, if not `timeout_s`.

    Raises:
        Unavailable: Redis did not accept the command.
    """
    end_s = now_s() + timeout_s
    token = secrets.token_urlsafe(12)
    call = pack_control(keys, order.to_message(token), order.revocation, order.for_s)
    replies = yield RoundTrip(call + pack_nodes(keys), 2, (control_script(), nodes_script()), accept_s or timeout_s)
    recipients, live_nodes = _number(replies[0]), [record.node for record in read_nodes(replies[1])]
    # By node: if a connection broke and the command was sent twice, nodes reply twice.
    replies_by_node: dict[str, Mapping[str, Any]] = {}
    left_s = end_s - now_s()
    while len(replies_by_node) < recipients and left_s > 0:
        if live_nodes and replies_by_node.keys() >= set(live_nodes):
            left_s = min(left_s, _UNRECORDED_S)
        (reply,) = yield RoundTrip(pack(b"BLPOP", keys.reply(token), b"%.3f" % left_s), 1, (), left_s + _GRACE_S)
        if not isinstance(reply, list):
            break
        node_reply = _object(reply[1])
        if node_reply is not None:
            replies_by_node.setdefault(str(node_reply.get("node")), node_reply)
        left_s = end_s - now_s()
    return NodeReplies(
        list(replies_by_node.values()), tuple(sorted(node for node in live_nodes if node not in replies_by_node))
    )


def store_revocation(keys: RedisKeys, order: Command, *, timeout_s: float) -> RoundTrip:
    """Store a revocation, and send it to every node without a reply. For the other buckets of a cluster."""
    packed = pack_control(keys, order.to_message(""), order.revocation, order.for_s)
    return RoundTrip(packed, 1, (control_script(),), timeout_s)


def pack_control(
    keys: RedisKeys, message: bytes, revocation: tuple[str, float] | None = None, for_s: float = 0.0
) -> bytes:
    """The call of control.lua: stores the revocation, if given, and sends the message (a JSON object) to every node.

    `for_s`: the duration of the revocation by the clock of Redis as well; 0: only its end counts.
    """
    name, until_s = revocation or ("", 0.0)
    end = name.encode(), repr(until_s).encode(), repr(for_s).encode()
    arguments = [_candidate(), keys.control, message, *end, keys.publish]
    return pack_call(control_script(), (keys.meta, keys.revoked), arguments)


def pack_reply(keys: RedisKeys, token: str, reply: Mapping[str, object]) -> tuple[bytes, int]:
    """The Redis commands that send a node's reply, and their number."""
    key, body = keys.reply(token), json.dumps(reply, separators=(",", ":")).encode()
    return pack(b"RPUSH", key, body) + pack(b"EXPIRE", key, b"%d" % REPLY_TTL_S), 2


def pack_nodes(keys: RedisKeys, *, node: str = "", lease_s: float = 0.0, record: bytes = b"") -> bytes:
    """The call of nodes.lua: stores the record of `node`, if given, and returns all live records."""
    return pack_call(nodes_script(), (keys.nodestats,), (node.encode(), b"%d" % (lease_s * 1000), record))


def read_nodes(reply: object) -> list[NodeRecord]:
    """The records of live nodes, sorted by name.

    Raises:
        Unavailable: the reply is an error.
    """
    if not isinstance(reply, list):
        raise _unexpected(reply)
    records = [record for text in reply if (record := _object(text)) is not None]
    return sorted((read_node_record(record) for record in records), key=lambda node: node.node)


def history_dialogue(
    keys: RedisKeys, channel: str, since: Cursor | None, *, limit: int, timeout_s: float
) -> Generator[RoundTrip, list[Any], History]:
    """The first `limit` stored publications after `since`; without `since` the last ones.

    Raises:
        UnknownNamespace: the namespace has no rule. Unavailable: Redis replied with an error.
    """
    packed = pack(b"HMGET", keys.rules, namespace_of(channel).encode(), b"*") + pack_history(
        keys, channel, since, (limit, PAGE_MAX_BYTES, MESSAGE_MAX_BYTES), newest=since is None
    )
    rules, reply = yield RoundTrip(packed, 2, (history_script(),), timeout_s)
    if isinstance(rules, list) and not any(rules):
        raise UnknownNamespace(f"no rule for the namespace {namespace_of(channel)!r}; add it to tidings.toml")
    match reply:
        case [bytes(epoch), bytes(seq), list(messages)]:
            publications = []
            for message in messages:
                try:
                    publications.append(decode(channel, message, max_bytes=MESSAGE_MAX_BYTES))
                except BadPacket:
                    # Not written by an emitter. Hubs ignore such entries as well.
                    continue
            publications.sort(key=lambda publication: publication.seq)
            current = [item.to_wire() for item in publications if item.epoch == epoch.decode()]
            return History(str(Cursor(epoch.decode(), int(seq))), current)
    raise _unexpected(reply)


def pack_history(
    keys: RedisKeys, channel: str, since: Cursor | None, bounds: tuple[int, int, int], *, newest: bool
) -> bytes:
    """The call of history.lua. `bounds`: the maximum of entries, of bytes in total, and of bytes per message."""
    after = (b"%d" % since.seq, since.epoch.encode()) if since else (b"0", b"")
    candidate = _candidate()
    limits = [b"%d" % bound for bound in bounds]
    return pack_call(history_script(), (keys.meta, keys.stream(channel)), (candidate, *limits, *after, b"%d" % newest))


def _candidate() -> bytes:
    """The epoch that begins if the database has none, or is of another Redis process."""
    return secrets.token_urlsafe(9).encode()


def _number(reply: object) -> int:
    if isinstance(reply, int):
        return reply
    raise _unexpected(reply)


def _object(text: object) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, bytes) and len(text) <= REPLY_MAX_BYTES else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unexpected(reply: object) -> Unavailable:
    if isinstance(reply, Exception):
        return Unavailable(f"Redis returned an error: {str(reply)[:200]}")
    return TimedOut("unexpected reply from Redis; is it Redis 6.2 or later?")
