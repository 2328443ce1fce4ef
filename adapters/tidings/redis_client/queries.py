"""Questions to all nodes, and to Redis itself, as steps of a conversation. No I/O.

A conversation is a generator: it yields what is to be sent and is given the replies, one per command; what it
returns is the answer. So the same code serves threads, greenlets, asyncio and the hub.
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
from tidings.wire.control import Answers, History, NodeRecord, Order, read_node
from tidings.wire.cursor import Cursor
from tidings.wire.publication import decode

_PACKAGE = "tidings.redis_client"
# An answer that comes later than this lies in Redis no longer than that.
REPLY_TTL_S = 60
REPLY_MAX_BYTES = 1_048_576
PAGE_MAX_BYTES = 4 * 1024 * 1024
MESSAGE_MAX_BYTES = 64 * 1024 * 1024
# For the way there and back, after Redis itself has waited long enough.
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """`count` packed commands, the scripts that they call, and for how many seconds their replies may be waited for."""

    packed: bytes
    count: int
    scripts: Sequence[Script]
    timeout_s: float


Dialogue = Generator[RoundTrip, list[Any], Any]


def control_script() -> Script:
    """Tell every node."""
    return load_script(_PACKAGE, "control.lua")


def nodes_script() -> Script:
    """Which nodes live."""
    return load_script(_PACKAGE, "nodes.lua")


def history_script() -> Script:
    """A page of one channel's stream."""
    return load_script(_PACKAGE, "history.lua")


def command_dialogue(
    keys: RedisKeys, order: Order, *, timeout_s: float, now_s: Callable[[], float]
) -> Generator[RoundTrip, list[Any], Answers]:
    """What every node says to an order, as far as the answers come within `timeout_s`.

    Raises:
        Unavailable: Redis did not take the order.
    """
    end_s = now_s() + timeout_s
    token = secrets.token_urlsafe(12)
    name, until_s = order.revocation or ("", 0.0)
    words = (keys.control, order.message(token), name.encode(), repr(until_s).encode())
    told = pack_call(control_script(), (keys.revoked,), (*words, *((keys.publish,) if keys.sharded else ())))
    replies = yield RoundTrip(told + pack_nodes(keys), 2, (control_script(), nodes_script()), timeout_s)
    heard, living = _number(replies[0]), [one.node for one in read_nodes(replies[1])]
    # By node: an order that was sent twice, because a connection broke, is answered twice.
    said: dict[str, Mapping[str, Any]] = {}
    left_s = end_s - now_s()
    while len(said) < heard and left_s > 0:
        (reply,) = yield RoundTrip(pack(b"BLPOP", keys.reply(token), b"%.3f" % left_s), 1, (), left_s + _GRACE_S)
        if not isinstance(reply, list):
            break
        answer = _object(reply[1])
        if answer is not None:
            said.setdefault(str(answer.get("node")), answer)
        left_s = end_s - now_s()
    return Answers(list(said.values()), tuple(sorted(node for node in living if node not in said)))


def pack_reply(keys: RedisKeys, token: str, answer: Mapping[str, object]) -> tuple[bytes, int]:
    """The commands by which a node answers, and how many they are."""
    key, body = keys.reply(token), json.dumps(answer, separators=(",", ":")).encode()
    return pack(b"RPUSH", key, body) + pack(b"EXPIRE", key, b"%d" % REPLY_TTL_S), 2


def pack_nodes(keys: RedisKeys, *, node: str = "", lease_s: float = 0.0, record: bytes = b"") -> bytes:
    """The call that writes a node's record, if one is named, and reads all."""
    return pack_call(nodes_script(), (keys.nodestats,), (node.encode(), b"%d" % (lease_s * 1000), record))


def read_nodes(reply: object) -> list[NodeRecord]:
    """The records that hold, by name.

    Raises:
        Unavailable: the reply is an error.
    """
    if not isinstance(reply, list):
        raise _refused(reply)
    found = [said for part in reply if (said := _object(part)) is not None]
    return sorted((read_node(said) for said in found), key=lambda one: one.node)


def history_dialogue(
    keys: RedisKeys, channel: str, since: Cursor | None, *, limit: int, timeout_s: float
) -> Generator[RoundTrip, list[Any], History]:
    """After `since` the first `limit` kept publications, without it the last ones.

    Raises:
        UnknownNamespace: no rule for it. Unavailable: Redis did not answer.
    """
    packed = pack(b"HMGET", keys.rules, namespace_of(channel).encode(), b"*") + pack_history(
        keys, channel, since, (limit, PAGE_MAX_BYTES, MESSAGE_MAX_BYTES), newest=since is None
    )
    rules, reply = yield RoundTrip(packed, 2, (history_script(),), timeout_s)
    if isinstance(rules, list) and not any(rules):
        raise UnknownNamespace(f"no rule for the namespace {namespace_of(channel)!r}; add it to tidings.toml")
    match reply:
        case [bytes(epoch), bytes(seq), list(messages)]:
            found = []
            for message in messages:
                try:
                    found.append(decode(channel, message, max_bytes=MESSAGE_MAX_BYTES))
                except BadPacket:
                    # Not an emitter's: what a hub would pass over as well.
                    continue
            found.sort(key=lambda one: one.seq)
            kept = [one.to_wire() for one in found if one.epoch == epoch.decode()]
            return History(str(Cursor(epoch.decode(), int(seq))), kept)
    raise _refused(reply)


def pack_history(
    keys: RedisKeys, channel: str, since: Cursor | None, bounds: tuple[int, int, int], *, newest: bool
) -> bytes:
    """The call for one page. `bounds`: entries, bytes of all, and bytes of one message at most."""
    after = (b"%d" % since.seq, since.epoch.encode()) if since else (b"0", b"")
    candidate = secrets.token_urlsafe(9).encode()
    numbers = [b"%d" % one for one in bounds]
    return pack_call(history_script(), (keys.meta, keys.stream(channel)), (candidate, *numbers, *after, b"%d" % newest))


def _number(reply: object) -> int:
    if isinstance(reply, int):
        return reply
    raise _refused(reply)


def _object(text: object) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text) if isinstance(text, bytes) and len(text) <= REPLY_MAX_BYTES else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refused(reply: object) -> Unavailable:
    if isinstance(reply, Exception):
        return Unavailable(f"Redis refused it: {str(reply)[:200]}")
    return TimedOut("Redis gave no answer that can be one")
