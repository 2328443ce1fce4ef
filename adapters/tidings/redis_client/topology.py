"""The address of a cluster's bucket: the master of its slot, looked up for every new connection.

    redis+cluster://[user:password@]host[:port][,host[:port]…][?buckets=4]      rediss+cluster:// with TLS

The hosts are the seeds; CLUSTER SLOTS names the other nodes. `buckets` must be the same for hubs and emitters.
`url_options` has the other options.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tidings.errors import BadConfig
from tidings.redis_client.buckets import BUCKETS, check_buckets, slot_of, tag_of
from tidings.redis_client.host_order import HostOrder
from tidings.redis_client.hosts_url import HostAndPort, HostsUrl
from tidings.redis_client.keys import DEFAULT_PREFIX, RedisKeys
from tidings.redis_client.tls_files import check_tls
from tidings.redis_client.url import CLUSTER_SCHEMES, RedisAddress, async_module, check_once, redis_module
from tidings.redis_client.url_options import read_options

_PORT = 6379
_NODES_MAX = 64


class ClusterTopology(HostOrder):
    """The nodes that CLUSTER SLOTS can be sent to."""

    def __init__(self, seeds: Iterable[HostAndPort]) -> None:
        self._seeds = tuple(seeds)
        super().__init__(self._seeds)

    def learn(self, slots: object, source: HostAndPort, slot: int) -> HostAndPort | None:
        """The master of a slot, from the reply of `source` to CLUSTER SLOTS. Remembers all nodes in the reply."""
        self.report_answer(source)
        self._silent &= frozenset(self._hosts)
        master, learned = None, []
        for part in slots if isinstance(slots, list) else ():
            first, last, *nodes = part
            addresses = [(_host(node[0]) or source[0], int(node[1])) for node in nodes]
            learned += addresses
            if first <= slot <= last and addresses:
                master = addresses[0]
        known = [node for node in self._hosts if node in learned or node in self._seeds]
        self._hosts = [*(node for node in dict.fromkeys(learned) if node not in known), *known][:_NODES_MAX]
        return master


@dataclass(frozen=True, slots=True)
class SlotAddress(RedisAddress):
    """The master of one slot."""

    slot: int = 0
    topology: ClusterTopology = field(default_factory=lambda: ClusterTopology(()), repr=False)

    def _master(self, timeout_s: float) -> HostAndPort | None:
        redis, last_error = redis_module(), None
        for node, share_s in self.topology.candidates(time.monotonic() + timeout_s):
            connection = self._new_connection(redis, self._options_for(share_s, node))
            try:
                connection.connect()
                connection.send_command("CLUSTER", "SLOTS", check_health=False)
                slots = connection.read_response(disable_decoding=True)
            except _login_errors():
                raise
            except (redis.RedisError, OSError) as error:
                last_error = error
                self.topology.report_silent(node)
                continue
            finally:
                connection.disconnect()
            master = self.topology.learn(slots, node, self.slot)
            if master is not None:
                return master
        raise last_error or self._no_master()

    async def _master_async(self, timeout_s: float) -> HostAndPort | None:
        redis, last_error = redis_module(), None
        for node, share_s in self.topology.candidates(time.monotonic() + timeout_s):
            connection = self._new_connection(async_module(), self._options_for(share_s, node))
            try:
                await connection.connect()
                await connection.send_command("CLUSTER", "SLOTS", check_health=False)
                slots = await connection.read_response(disable_decoding=True)
            except _login_errors():
                raise
            except (redis.RedisError, OSError) as error:
                last_error = error
                self.topology.report_silent(node)
                continue
            finally:
                await connection.disconnect(nowait=True)
            master = self.topology.learn(slots, node, self.slot)
            if master is not None:
                return master
        raise last_error or self._no_master()

    def _no_master(self) -> Exception:
        error: Exception = redis_module().ConnectionError(
            f"no node of the cluster knows the master of slot {self.slot}"
        )
        return error


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket: its address and its keys."""

    number: int
    address: SlotAddress
    keys: RedisKeys


def open_buckets(url: str, prefix: str) -> list[Bucket]:
    """The buckets of a cluster's URL.

    Raises:
        BadConfig: an invalid URL, prefix or TLS option. The message does not repeat the URL, which may hold a password.
    """
    try:
        parts = HostsUrl.parse(url, port=_PORT)
    except ValueError as error:
        raise BadConfig("not a cluster URL; its form is redis+cluster://host:port[,host:port…]") from error
    if parts.scheme not in CLUSTER_SCHEMES:
        raise BadConfig("not a cluster URL; it begins with redis+cluster:// or rediss+cluster://")
    if parts.path not in {"", "0"}:
        raise BadConfig("a cluster has no numbered databases; remove the part after the / in the URL")
    redis_module()
    query_options = read_options(parts.query, parts.scheme)
    check_once(parts.login, query_options)
    options = {
        **query_options,
        **parts.login,
        "kind": parts.scheme.removesuffix("+cluster"),
    }
    check_tls(options, "ssl_", "")
    buckets = check_buckets(options.pop("buckets", str(BUCKETS)))
    topology, result = ClusterTopology(parts.nodes), []
    for number in range(buckets):
        tag = tag_of(number, buckets)
        address = SlotAddress(parts.display_url, options, slot=slot_of(tag), topology=topology)
        result.append(Bucket(number, address, RedisKeys(prefix, tag=tag, sharded=True)))
    return result


def check_redis_url(url: str) -> None:
    """Check the URL of a Redis, a Sentinel or a cluster. Does not connect.

    Raises:
        BadConfig: it is invalid, or has an unknown or wrong option.
    """
    if url.partition("://")[0] in CLUSTER_SCHEMES:
        open_buckets(url, DEFAULT_PREFIX)
    else:
        RedisAddress.open(url)


def _host(text: Any) -> str:
    # Empty or null where a node does not know its own address: then it is the node that replied.
    return text.decode() if isinstance(text, bytes) else text or ""


def _login_errors() -> tuple[type[Exception], ...]:
    errors: Any = redis_module().exceptions
    return errors.AuthenticationError, errors.AuthorizationError
