"""The script for leases in Redis: packs its call and reads its reply. No I/O."""

from __future__ import annotations

from tidings.errors import Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings_hub.core.lease import LeaseReply


def lease_script() -> Script:
    """`lease.lua`: acquires, renews or releases a lease."""
    return load_script("tidings_hub.brokers", "lease.lua")


def pack_lease(keys: RedisKeys, name: str, holder: str, *, lease_s: float) -> bytes:
    """EVALSHA of `lease.lua`: acquire, renew (`lease_s` > 0) or release (0) the lease `name` for `holder`."""
    key = keys.base + b"lease:" + name.encode()
    return pack_call(lease_script(), (key,), (holder.encode(), b"%d" % round(lease_s * 1000)))


def read_lease_reply(reply: object) -> LeaseReply:
    """The script's reply.

    Raises:
        Unavailable: the reply is an error, or malformed.
    """
    if reply in (0, 1, 2):
        return LeaseReply(reply)
    raise Unavailable(f"Redis could not grant a lease: {str(reply)[:200]}")
