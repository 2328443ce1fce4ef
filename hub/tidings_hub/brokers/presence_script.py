"""The presence script: packs its call and reads its reply. No I/O."""

from __future__ import annotations

import secrets

from tidings.errors import Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings.wire.presence import PresenceUpdate, PresenceUpdateResult, read_update_result
from tidings_hub.brokers.base import BrokerLimits


def presence_script() -> Script:
    """`presence.lua`: applies one update of a node."""
    return load_script("tidings_hub.brokers", "presence.lua", knows_horizon=True)


def pack_presence_update(keys: RedisKeys, update: PresenceUpdate, limits: BrokerLimits) -> bytes:
    """EVALSHA of `presence.lua` with the update."""
    numbers = (
        int(update.lease_s * 1000),
        update.list_max,
        update.event_max_bytes,
        limits.pointer_ttl_s,
        update.sweep_max,
    )
    changes = [
        part
        for change in update.changes
        for part in (change.channel.encode(), change.user.encode(), change.info or b"")
    ]
    return pack_call(
        presence_script(),
        (keys.meta,),
        (
            secrets.token_urlsafe(9).encode(),
            keys.base,
            update.node.encode(),
            update.epoch.encode(),
            *(b"%d" % number for number in numbers),
            keys.publish,
            b"%d" % len(update.namespaces),
            *(name.encode() for name in update.namespaces),
            *changes,
        ),
    )


def read_presence_result(reply: object) -> PresenceUpdateResult:
    """The result in the script's reply.

    Raises:
        Unavailable: the reply is an error, or malformed.
    """
    if isinstance(reply, Exception):
        raise Unavailable(f"Redis refused to answer: {str(reply)[:200]}")
    result = read_update_result(reply)
    if result is None:
        raise Unavailable("Redis gave an answer that the script never gives; is it Redis 6.2 or later?")
    return result
