"""A node's turn in presence: the script's call and what its reply means. No I/O."""

from __future__ import annotations

import secrets

from tidings.errors import Unavailable
from tidings.redis_client.keys import Keys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings.wire.presence import Turn, Turned, read_turned
from tidings_hub.brokers.base import BrokerLimits


def presence_script() -> Script:
    """One turn of a node."""
    return load_script("tidings_hub.brokers", "presence.lua")


def pack_turn(keys: Keys, turn: Turn, limits: BrokerLimits) -> bytes:
    """The call for one turn."""
    numbers = int(turn.lease_s * 1000), turn.list_max, turn.event_max_bytes, limits.pointer_ttl_s, turn.sweep_max
    changes = [
        part for change in turn.changes for part in (change.channel.encode(), change.user.encode(), change.info or b"")
    ]
    return pack_call(
        presence_script(),
        (keys.meta,),
        (
            secrets.token_urlsafe(9).encode(),
            keys.base,
            turn.node.encode(),
            turn.epoch.encode(),
            *(b"%d" % number for number in numbers),
            keys.publish,
            b"%d" % len(turn.namespaces),
            *(name.encode() for name in turn.namespaces),
            *changes,
        ),
    )


def read_turn(reply: object) -> Turned:
    """What the script said.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    if isinstance(reply, Exception):
        raise Unavailable(f"Redis refused to answer: {str(reply)[:200]}")
    found = read_turned(reply)
    if found is None:
        raise Unavailable("Redis gave an answer that the script never gives; is it Redis 6.2 or later?")
    return found
