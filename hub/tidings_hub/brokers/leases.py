"""A lease in Redis: the script's call and what its reply means. No I/O."""

from __future__ import annotations

from tidings.errors import Unavailable
from tidings.redis_client.keys import Keys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings_hub.core.lease import Hold


def hold_script() -> Script:
    """Takes, keeps or gives up a lease."""
    return load_script("tidings_hub.brokers", "lease.lua")


def pack_hold(keys: Keys, name: str, holder: str, *, lease_s: float) -> bytes:
    """The call."""
    key = keys.base + b"lease:" + name.encode()
    return pack_call(hold_script(), (key,), (holder.encode(), b"%d" % round(lease_s * 1000)))


def read_hold(reply: object) -> Hold:
    """What the script did.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    if reply in (0, 1, 2):
        return Hold(reply)
    raise Unavailable(f"Redis could not give a lease: {str(reply)[:200]}")
