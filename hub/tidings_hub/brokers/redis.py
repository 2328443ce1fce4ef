"""The broker for several nodes: Redis, directly, behind Sentinel, or by a unix socket (PROTOCOL.md section 7).

`cluster.py` uses one of these per bucket.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence

from tidings.errors import TidingsError, Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.receipts import Receipt
from tidings.redis_client.keys import DEFAULT_PREFIX, RedisKeys
from tidings.redis_client.queries import (
    command_dialogue,
    control_script,
    history_script,
    nodes_script,
    pack_control,
    pack_history,
    pack_nodes,
    pack_reply,
    read_nodes,
)
from tidings.redis_client.scripts import pack
from tidings.redis_client.topology import Bucket
from tidings.redis_client.url import RedisAddress
from tidings.wire.control import Command, NodeRecord, NodeReplies
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, PresenceUpdate, PresenceUpdateResult
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import (
    BrokerLimits,
    BrokerPart,
    BrokerState,
    HistoryRule,
    HistorySnapshot,
    LeaseReply,
    NodeLeases,
    Sink,
)
from tidings_hub.brokers.health.call_guard import CallGuard
from tidings_hub.brokers.health.canary import Canary
from tidings_hub.brokers.health.eviction import read_eviction_policy
from tidings_hub.brokers.health.guarded_publisher import GuardedPublisher
from tidings_hub.brokers.health.namespace_rules import NamespaceRules
from tidings_hub.brokers.health.rule_restoring_publisher import RuleRestoringPublisher
from tidings_hub.brokers.herd.history_reads import HistoryReads
from tidings_hub.brokers.herd.shared_lookups import Lookup
from tidings_hub.brokers.inbox import Inbox
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.leases import lease_script, pack_lease, read_lease_reply
from tidings_hub.brokers.lookup_script import LookupRequest, read_history
from tidings_hub.brokers.lookups import Lookups
from tidings_hub.brokers.node_leases import node_leases_script, pack_node_lease, read_node_leases
from tidings_hub.brokers.presence_script import pack_presence_update, presence_script, read_presence_result
from tidings_hub.brokers.reader import Reader
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.brokers.repair import Repairs
from tidings_hub.brokers.revocation_script import FIRST, pack_read, pack_write, read_stored, revocations_script
from tidings_hub.brokers.session_records import (
    claim_script,
    pack_claim,
    pack_writes,
    read_claim,
    read_write_results,
    write_script,
)
from tidings_hub.core.session_records import ClaimedSession, SessionRecord, WriteResult
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask

_STOP_S = 5.0
_LAST_CHECK_S = 2.0
# Ended revocations that one call removes: about a millisecond of Redis' time. The next call removes the next ones.
_ENDED_PER_CALL = 500


class RedisBroker:
    """A `Broker` on Redis. Its reader and its lookups run in two threads, or greenlets where threads are patched.

    It serves one bucket: the only one, or, given a `Bucket` instead of a URL, one of a cluster.

    Raises:
        BadConfig: the URL or the prefix is invalid.
    """

    name = "redis"
    presence_parts = 1

    def __init__(
        self,
        url: str | Bucket,
        *,
        prefix: str = DEFAULT_PREFIX,
        node_id: str = "",
        limits: BrokerLimits,
        metrics: Metrics | None = None,
    ) -> None:
        self._address = url.address if isinstance(url, Bucket) else RedisAddress.parse(url)
        self._keys = url.keys if isinstance(url, Bucket) else RedisKeys(prefix)
        self._limits = limits
        self._metrics = metrics or Metrics()
        self._node_id = node_id or secrets.token_hex(4)
        self._publisher = RedisPublisher(self._address, keys=self._keys)
        self._commands = RedisCommands(self._address, timeout_s=self._limits.timeout_s, metrics=self._metrics)
        # The reader blocks while it waits for replies, so it has its own pool.
        self._reader_commands = RedisCommands(self._address, timeout_s=limits.timeout_s, metrics=self._metrics)
        self._interests = Interests(early_max=self._limits.early_max)
        self._history_reads = HistoryReads(limits, self._metrics)
        self._query_guard = CallGuard("queries", self._metrics, timeout_s=limits.timeout_s)
        self.rules = NamespaceRules(self._keys, self._commands, limits)
        publisher = RuleRestoringPublisher(self._publisher, lambda _channel: self.rules)
        self._publishing = GuardedPublisher(publisher, self._metrics, timeout_s=limits.timeout_s)
        self._threads: list[threading.Thread] = []
        self._started: tuple[Inbox, Repairs, Reader, Lookups] | None = None

    def start(self, sink: Sink) -> None:
        """See `Broker.start`."""
        if self._started is not None:
            raise RuntimeError("a broker is started once")
        limits, metrics = self._limits, self._metrics
        inbox = Inbox(self._keys, self._node_id, limits, metrics)
        repairs = Repairs(self._keys, self._reader_commands, self._interests, sink, limits, metrics)
        reader = Reader(
            self._address,
            self._keys,
            inbox,
            self._interests,
            repairs,
            limits=limits,
            metrics=metrics,
            rules=self.rules,
        )
        lookups = Lookups(
            self._keys,
            self._commands,
            self._interests,
            reader,
            repairs,
            limits=limits,
            metrics=metrics,
            rules=self.rules,
        )
        self._started = inbox, repairs, reader, lookups
        for run, name in ((reader.run, "reader"), (lookups.run, "lookups")):
            task = SupervisedTask(name, run, metrics)
            thread = threading.Thread(target=task, name=f"tidings-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """See `Broker.stop`."""
        if self._started is not None:
            _, _, reader, lookups = self._started
            lookups.stop()
            # The lookups check positions once more: after the stop no node could detect what this node lost.
            self._threads[1].join(_LAST_CHECK_S)
            reader.stop()
            for thread in self._threads:
                thread.join(_STOP_S)
        self._publisher.close()
        self._commands.close()
        self._reader_commands.close()

    def _running(self) -> tuple[Inbox, Repairs, Reader, Lookups]:
        if self._started is None:
            raise Unavailable("the broker was not started")
        return self._started

    # Publishing

    def publish(self, channel: str, body: bytes, *, id: str, idempotency_s: int) -> Receipt:
        """See `Broker.publish`."""
        answer = self.publish_many([OutgoingPublication(channel, body, id, idempotency_s)])[0]
        if isinstance(answer, TidingsError):
            raise answer
        return answer

    def publish_many(self, items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        """See `Broker.publish_many`."""
        return self._publishing.publish(items)

    # Channels

    def subscribe(self, channels: Sequence[str]) -> None:
        """See `Broker.subscribe`."""
        lookup = self.submit_subscribe(channels)
        if lookup is not None:
            self.wait_for(lookup)

    def submit_subscribe(self, channels: Sequence[str]) -> Lookup | None:
        """Start to subscribe. Returns a lookup for `wait_for`; None if all channels are active.

        Raises:
            Unavailable: Redis does not answer, and another caller is trying.
        """
        _, _, _, lookups = self._running()
        if not self._interests.are_active(channels):
            # Before they are added: while Redis is away, refused channels take no memory.
            lookups.admit()
        fresh = self._interests.add(channels)
        return lookups.submit(LookupRequest(fresh), activates=True) if fresh else None

    def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Broker.unsubscribe`. Never waits."""
        self._interests.schedule_removal(channels, time.monotonic() + self._limits.linger_s)

    def read_since(self, channels: Sequence[str], cursor: Cursor | None, *, limit: int) -> HistorySnapshot:
        """See `Broker.read_since`."""
        return self.wait_for(self.submit_read_since(channels, cursor, limit=limit))

    def submit_read_since(self, channels: Sequence[str], cursor: Cursor | None, *, limit: int) -> Lookup:
        """Start to read missed publications. Returns a lookup for `wait_for`. Raises as `submit_subscribe`."""
        _, _, _, lookups = self._running()
        lookups.admit()
        after = {} if cursor is None else dict.fromkeys(channels, cursor.seq)
        most_bytes = self._limits.recovery_max_bytes
        return lookups.submit(
            LookupRequest(list(channels), after, limit + 1, most_bytes, refresh=True, channel_bytes_max=most_bytes)
        )

    def wait_for(self, lookup: Lookup) -> HistorySnapshot:
        """See `Lookups.wait_for`."""
        _, _, _, lookups = self._running()
        return lookups.wait_for(lookup)

    def is_doubted(self, channel: str, cursor: Cursor) -> bool:
        """See `Broker.is_doubted`. A cursor of another epoch is never trusted anyway."""
        _, repairs, _, _ = self._running()
        seq = cursor.seq_in(repairs.positions.epoch or "")
        return seq is not None and repairs.doubts.covers(channel, seq)

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """See `Broker.history`."""
        bounds = limit, self._limits.recovery_max_bytes, self._limits.message_max_bytes
        packed = pack_history(self._keys, channel, since, bounds, newest=newest)
        with self._history_reads.slot(), self._query_guard.call():
            (reply,) = self._commands.run(packed, 1, (history_script(),))
        return read_history(channel, reply, self._limits)

    # Rules, control, revocations

    def write_rules(self, rules: Mapping[str, HistoryRule]) -> None:
        """See `Broker.write_rules`. Before `start` it only remembers them."""
        self.rules.remember(rules)
        if self._started is not None and self._started[2].live.is_set():
            self.rules.write()

    def send_control(self, message: dict[str, object]) -> None:
        """See `Broker.send_control`."""
        packed = pack_control(self._keys, json.dumps(message, separators=(",", ":")).encode())
        self._commands.run_checked(packed, scripts=(control_script(),))

    def run_command(self, command: Command, *, timeout_s: float) -> NodeReplies:
        """See `Broker.run_command`."""
        dialogue = command_dialogue(self._keys, command, timeout_s=timeout_s, now_s=time.monotonic)
        step = next(dialogue)
        while True:
            replies = self._commands.run(step.packed, step.count, step.scripts, timeout_s=step.timeout_s)
            try:
                step = dialogue.send(replies)
            except StopIteration as end:
                answers: NodeReplies = end.value
                return answers

    def reply(self, token: str, reply: Mapping[str, object]) -> None:
        """See `Broker.reply`."""
        self._commands.run_checked(*pack_reply(self._keys, token, reply))

    def write_node(self, node: str, record: Mapping[str, object] | None, *, lease_s: float) -> list[NodeRecord]:
        """See `Broker.write_node`."""
        body = b"" if record is None else json.dumps(record, separators=(",", ":")).encode()
        packed = pack_nodes(self._keys, node=node, lease_s=0.0 if record is None else lease_s, record=body)
        return read_nodes(self._commands.run(packed, 1, (nodes_script(),))[0])

    def nodes(self) -> list[NodeRecord]:
        """See `Broker.nodes`."""
        return read_nodes(self._commands.run(pack_nodes(self._keys), 1, (nodes_script(),))[0])

    def write_revocations(self, until_s: Mapping[str, float]) -> None:
        """See `Broker.write_revocations`."""
        if until_s:
            self._commands.run_checked(pack_write(self._keys, until_s), 1, (revocations_script(),))

    def revocations(self) -> dict[str, float]:
        """See `Broker.revocations`. Removes some that have ended. Neither Redis nor this node stands still for many."""
        active: dict[str, float] = {}
        ended: list[tuple[bytes, bytes]] = []
        cursor: bytes | None = FIRST
        while cursor is not None:
            part = read_stored(self._commands.run(*pack_read(self._keys, cursor)), now_s=time.time())
            active.update(part.active)
            ended += part.ended[: _ENDED_PER_CALL - len(ended)]
            cursor = part.cursor
        if ended:
            self._commands.run_checked(pack_write(self._keys, {}, ended), 1, (revocations_script(),))
        return active

    def renew_node_lease(self, node_id: str, address: str, *, lease_s: float) -> NodeLeases:
        """See `Broker.renew_node_lease`."""
        packed = pack_node_lease(self._keys, node_id, address, lease_s=lease_s)
        return read_node_leases(self._commands.run(packed, 1, (node_leases_script(),))[0])

    def write_sessions(self, records: Sequence[SessionRecord]) -> list[WriteResult]:
        """See `Broker.write_sessions`."""
        if not records:
            return []
        reply = self._commands.run(pack_writes(self._keys, records), 1, (write_script(),))[0]
        return read_write_results(reply, len(records))

    def claim_session(self, key: str, user: str) -> ClaimedSession | None:
        """See `Broker.claim_session`."""
        return read_claim(self._commands.run(pack_claim(self._keys, key, user), 1, (claim_script(),))[0])

    def acquire_lease(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        """See `Broker.acquire_lease`."""
        packed = pack_lease(self._keys, name, holder, lease_s=lease_s)
        return read_lease_reply(self._commands.run(packed, 1, (lease_script(),))[0])

    # Presence

    def presence_part_of(self, channel: str) -> int:
        """See `Broker.presence_part_of`."""
        return 0

    def update_presence(self, update: PresenceUpdate, *, part: int = 0) -> PresenceUpdateResult:
        """See `Broker.update_presence`."""
        return read_presence_result(
            self._commands.run(pack_presence_update(self._keys, update, self._limits), 1, (presence_script(),))[0]
        )

    def members(self, channel: str, *, limit: int) -> Presence:
        """See `Broker.members`."""
        with self._query_guard.call():
            return self._publisher.presence(channel, limit=limit, timeout_s=self._limits.timeout_s)

    # Health

    def canary(self) -> float:
        """See `Broker.canary`."""
        inbox, _, reader, _ = self._running()
        canary = Canary(
            self._keys,
            inbox,
            self._publisher,
            self._commands,
            self._limits,
            self.rules,
            link_error=lambda: reader.last_error,
        )
        return canary.send()

    def eviction_policy(self) -> str:
        """See `Broker.eviction_policy`."""
        return read_eviction_policy(self._commands.run(pack(b"INFO", b"memory"))[0])

    @property
    def position(self) -> Cursor | None:
        """See `Broker.position`."""
        return None if self._started is None else self._started[1].delivered

    def state(self) -> BrokerState:
        """See `Broker.state`."""
        if self._started is None:
            return BrokerState(connected=False, since_s=time.time(), reconnects=0, channels=0, last_error="not started")
        reader = self._started[2]
        is_live = reader.live.is_set()
        return BrokerState(
            connected=is_live,
            since_s=reader.state_since_s,
            reconnects=self._metrics.broker_reconnects,
            channels=len(self._interests),
            last_error=reader.last_error,
            parts=(BrokerPart(self.name, is_live, reader.state_since_s, reader.last_error),),
        )
