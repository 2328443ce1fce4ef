"""The question who is in a channel, to Redis and to a hub over HTTP, and what the answers mean. No I/O.

Sources: PROTOCOL.md sections 7 and 8.
"""

from __future__ import annotations

import json
import secrets
from typing import Any
from urllib.parse import quote

from tidings.errors import Internal, Unavailable
from tidings.publishers.memory.presence import no_presence
from tidings.redis_client.keys import Keys
from tidings.redis_client.scripts import load_script, pack
from tidings.wire.channels import namespace_of
from tidings.wire.presence import Presence, read_members


def pack_members(keys: Keys, channel: str, *, limit: int) -> bytes:
    """The call that reads a channel's members.

    With the script's text: a question that is seldom asked needs no script cache.
    """
    script = load_script("tidings.redis_client", "members.lua")
    candidate = secrets.token_urlsafe(9).encode()
    arguments = (candidate, keys.base, channel.encode(), namespace_of(channel).encode(), b"%d" % limit)
    return pack(b"EVAL", script.text, b"1", keys.meta, *arguments)


def read_reply(channel: str, reply: object) -> Presence:
    """What Redis said.

    Raises:
        Forbidden: no hub has a rule with presence for the namespace.
        Unavailable: anything else that is not an answer.
    """
    if isinstance(reply, Exception):
        if str(reply).startswith("NOPRESENCE"):
            raise no_presence(channel)
        if str(reply).startswith("NORULES"):
            raise Unavailable("no hub with presence has started on this broker yet (or its prefix is another one)")
        raise Unavailable(f"Redis refused it: {str(reply)[:200]}")
    found = read_members(reply)
    if found is None:
        raise Unavailable("Redis gave an answer that the script never gives; is it Redis 6.2 or later?")
    return found


def presence_path(channel: str, limit: int) -> str:
    """Where a hub answers it."""
    return f"/api/channels/{quote(channel, safe='')}/presence?limit={limit}"


def read_said(said: dict[str, Any]) -> Presence:
    """What a hub said.

    Raises:
        Internal: it is no such answer.
    """
    match said:
        case {"cursor": str(cursor), "count": int(count), "members": None}:
            return Presence(cursor, count, None)
        case {"cursor": str(cursor), "count": int(count), "members": list(members)}:
            return Presence(cursor, count, {_user(one): json.dumps(one["info"]).encode() for one in members})
    raise Internal("the answer is not a hub's; check the URL")


def _user(member: object) -> str:
    match member:
        case {"user": str(user), "info": _}:
            return user
    raise Internal("the answer is not a hub's; check the URL")
