"""The roll of nodes in Redis: the script's call and what its reply means. No I/O."""

from __future__ import annotations

from tidings.errors import Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings_hub.core.node_directory import NodeLease, NodeLeases


def node_leases_script() -> Script:
    """Says where a node is reached, and calls the roll."""
    return load_script("tidings_hub.brokers", "node_leases.lua")


def pack_node_lease(keys: RedisKeys, node_id: str, address: str, *, lease_s: float) -> bytes:
    """The call."""
    return pack_call(
        node_leases_script(), (keys.nodes,), (node_id.encode(), address.encode(), b"%d" % round(lease_s * 1000))
    )


def read_node_leases(reply: object) -> NodeLeases:
    """What the script saw.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list) and len(reply[1]) % 3 == 0:
        names, addresses, left = (reply[1][at::3] for at in range(3))
        leases = {
            name.decode("utf-8", "replace"): NodeLease(address.decode("utf-8", "replace"), int(ms) / 1000)
            for name, address, ms in zip(names, addresses, left, strict=True)
        }
        return NodeLeases(int(reply[0]) / 1000, leases)
    raise Unavailable(f"Redis could not call the roll of nodes: {str(reply)[:200]}")
