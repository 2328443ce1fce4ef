"""The request for a channel's members in Redis (PROTOCOL.md section 7). No I/O."""

from __future__ import annotations

import secrets

from tidings.errors import Unavailable
from tidings.publishers.base import no_presence
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import load_script, pack
from tidings.wire.channels import namespace_of
from tidings.wire.presence import Presence, read_members


def pack_members(keys: RedisKeys, channel: str, *, limit: int) -> bytes:
    """The EVAL of members.lua. It carries the script's text: it is called too seldom for a script cache."""
    script = load_script("tidings.redis_client", "members.lua")
    candidate = secrets.token_urlsafe(9).encode()
    arguments = (candidate, keys.base, channel.encode(), namespace_of(channel).encode(), b"%d" % limit)
    return pack(b"EVAL", script.text, b"1", keys.meta, *arguments)


def read_presence(channel: str, reply: object) -> Presence:
    """The presence in the reply of members.lua.

    Raises:
        Forbidden: no hub has a rule with presence for the namespace.
        Unavailable: any other reply that members.lua does not give.
    """
    if isinstance(reply, Exception):
        if str(reply).startswith("NOPRESENCE"):
            raise no_presence(channel)
        if str(reply).startswith("NORULES"):
            raise Unavailable(
                "no hub with presence has started on this broker yet, or the hub uses another prefix; "
                "start the hub, or use its prefix"
            )
        raise Unavailable(f"Redis returned an error: {str(reply)[:200]}")
    presence = read_members(reply)
    if presence is None:
        raise Unavailable("unexpected reply to members.lua; is it Redis 6.2 or later?")
    return presence
