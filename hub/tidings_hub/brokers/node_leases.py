"""The script for node leases in Redis: packs its call and reads its reply. No I/O."""

from __future__ import annotations

from tidings.errors import Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings_hub.core.node_directory import NodeLease, NodeLeases


def node_leases_script() -> Script:
    """`node_leases.lua`: renews a node's lease and returns all leases."""
    return load_script("tidings_hub.brokers", "node_leases.lua")


def pack_node_lease(keys: RedisKeys, node_id: str, address: str, *, lease_s: float) -> bytes:
    """EVALSHA of `node_leases.lua`: renew the lease of `node_id` at `address`; without an address: give it up."""
    return pack_call(
        node_leases_script(), (keys.nodes,), (node_id.encode(), address.encode(), b"%d" % round(lease_s * 1000))
    )


def read_node_leases(reply: object) -> NodeLeases:
    """The leases in the script's reply.

    Raises:
        Unavailable: the reply is an error, or malformed.
    """
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list) and len(reply[1]) % 3 == 0:
        names, addresses, remaining_ms = (reply[1][column::3] for column in range(3))
        leases = {
            name.decode("utf-8", "replace"): NodeLease(address.decode("utf-8", "replace"), int(ms) / 1000)
            for name, address, ms in zip(names, addresses, remaining_ms, strict=True)
        }
        return NodeLeases(int(reply[0]) / 1000, leases)
    raise Unavailable(f"Redis could not read the node leases: {str(reply)[:200]}")
