"""Where a bucket of a Redis Cluster is: the master that serves its slot, asked anew for every connection.

    redis+cluster://[user:password@]host[:port][,host[:port]…][?buckets=4]      rediss+cluster:// with TLS

The hosts are where to begin; the others are learned. `buckets` must be the same for hubs and emitters. The rest
of a query is what redis-py's connections take.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tidings.errors import BadConfig
from tidings.redis_client.buckets import BUCKETS, check_buckets, slot_of, tag_of
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.url import CLUSTER_SCHEMES, HostAndPort, HostsUrl, RedisAddress, async_module, redis_module

_PORT = 6379
_NODES_MAX = 64


class ClusterTopology:
    """The nodes that may be asked for the way: whoever was asked goes last, so that a bad one is not asked twice."""

    def __init__(self, seeds: Iterable[HostAndPort]) -> None:
        self._seeds = tuple(seeds)
        self._nodes = list(self._seeds)

    def candidates(self, end_s: float) -> Iterator[tuple[HostAndPort, float]]:
        """The nodes in turn, each with the seconds that it may take until `end_s` (of `time.monotonic`)."""
        nodes = list(self._nodes)
        for number, node in enumerate(nodes):
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return
            self._nodes = [*(one for one in self._nodes if one != node), node]
            yield node, left_s / min(len(nodes) - number, 3)

    def learn(self, slots: object, asked: HostAndPort, slot: int) -> HostAndPort | None:
        """The master of a slot, by the answer to CLUSTER SLOTS; remembers all nodes in it."""
        master, found = None, []
        for part in slots if isinstance(slots, list) else ():
            first, last, *nodes = part
            places = [(_host(one[0]) or asked[0], int(one[1])) for one in nodes]
            found += places
            if first <= slot <= last and places:
                master = places[0]
        known = [one for one in self._nodes if one in found or one in self._seeds]
        self._nodes = [*(one for one in dict.fromkeys(found) if one not in known), *known][:_NODES_MAX]
        return master


@dataclass(frozen=True, slots=True)
class SlotAddress(RedisAddress):
    """The master of one slot."""

    slot: int = 0
    topology: ClusterTopology = field(default_factory=lambda: ClusterTopology(()), repr=False)

    def _master(self, timeout_s: float) -> HostAndPort | None:
        redis, last = redis_module(), None
        for node, share_s in self.topology.candidates(time.monotonic() + timeout_s):
            connection = self._make(redis, self._with(share_s, node))
            try:
                connection.connect()
                connection.send_command("CLUSTER", "SLOTS", check_health=False)
                slots = connection.read_response(disable_decoding=True)
            except _login_errors():
                raise
            except (redis.RedisError, OSError) as error:
                last = error
                continue
            finally:
                connection.disconnect()
            master = self.topology.learn(slots, node, self.slot)
            if master is not None:
                return master
        raise last or self._nobody()

    async def _master_async(self, timeout_s: float) -> HostAndPort | None:
        redis, last = redis_module(), None
        for node, share_s in self.topology.candidates(time.monotonic() + timeout_s):
            connection = self._make(async_module(), self._with(share_s, node))
            try:
                await connection.connect()
                await connection.send_command("CLUSTER", "SLOTS", check_health=False)
                slots = await connection.read_response(disable_decoding=True)
            except _login_errors():
                raise
            except (redis.RedisError, OSError) as error:
                last = error
                continue
            finally:
                await connection.disconnect(nowait=True)
            master = self.topology.learn(slots, node, self.slot)
            if master is not None:
                return master
        raise last or self._nobody()

    def _nobody(self) -> Exception:
        error: Exception = redis_module().ConnectionError(f"no node says who serves slot {self.slot}")
        return error


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket: where it is, and what its keys are called."""

    number: int
    address: SlotAddress
    keys: RedisKeys


def open_buckets(url: str, prefix: str) -> list[Bucket]:
    """The buckets of a cluster's URL.

    Raises:
        BadConfig: the URL or the prefix is none. The message does not repeat the URL, which may hold a password.
    """
    try:
        parts = HostsUrl.parse(url, port=_PORT)
    except ValueError as error:
        raise BadConfig("not a cluster's URL; its form is redis+cluster://host:port[,host:port…]") from error
    if parts.scheme not in CLUSTER_SCHEMES:
        raise BadConfig("not a cluster's URL; it begins with redis+cluster:// or rediss+cluster://")
    if parts.path not in {"", "0"}:
        raise BadConfig("a cluster has no databases; leave out what is after the /")
    redis_module()
    options = {**parts.query, **parts.login, "kind": parts.scheme.removesuffix("+cluster")}
    buckets = check_buckets(options.pop("buckets", str(BUCKETS)))
    nodes, found = ClusterTopology(parts.nodes), []
    for number in range(buckets):
        tag = tag_of(number, buckets)
        address = SlotAddress(parts.display_url, options, slot=slot_of(tag), topology=nodes)
        found.append(Bucket(number, address, RedisKeys(prefix, tag=tag, sharded=True)))
    return found


def _host(text: Any) -> str:
    # Empty or null where a node does not know its own address: it is the one that was asked.
    return text.decode() if isinstance(text, bytes) else text or ""


def _login_errors() -> tuple[type[Exception], ...]:
    errors: Any = redis_module().exceptions
    return errors.AuthenticationError, errors.AuthorizationError
