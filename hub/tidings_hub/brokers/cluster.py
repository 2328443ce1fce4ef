"""The broker for a Redis Cluster: one `RedisBroker` per bucket, behind one interface (PROTOCOL.md section 7).

Each bucket has its own sequence, link, lookups and repairs, on the master that serves its slot. All buckets share the
sink, which one of them at a time may call. Their cursors name a place in each bucket.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from tidings.errors import HubError
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.redis.cluster import ClusterPublisher
from tidings.receipts import Receipt
from tidings.redis_client.buckets import bucket_of
from tidings.redis_client.keys import DEFAULT_PREFIX
from tidings.redis_client.topology import open_buckets
from tidings.wire.control import Command, NodeRecord, NodeReplies
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, PresenceUpdate, PresenceUpdateResult, presence_channel
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import (
    BrokerLimits,
    BrokerState,
    HistoryRule,
    HistorySnapshot,
    LeaseReply,
    NodeLeases,
    Sink,
)
from tidings_hub.brokers.bucket_sink import REPLY_SEPARATOR, BucketSink
from tidings_hub.brokers.buckets.bucket_revocations import BucketRevocations
from tidings_hub.brokers.buckets.call_all import call_all
from tidings_hub.brokers.health.bucket_health import BucketHealth, check_all
from tidings_hub.brokers.health.eviction import NO_EVICTION
from tidings_hub.brokers.health.guarded_publisher import GuardedPublisher
from tidings_hub.brokers.health.rule_restoring_publisher import RuleRestoringPublisher
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.core.bucket_positions import BucketPositions
from tidings_hub.core.session_records import ClaimedSession, SessionRecord, WriteResult
from tidings_hub.metrics import Metrics


class ClusterBroker:
    """A `Broker` on a Redis Cluster.

    Raises:
        BadConfig: the URL or the prefix is invalid.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        node_id: str = "",
        limits: BrokerLimits,
        metrics: Metrics | None = None,
    ) -> None:
        self._limits = limits
        self._metrics = metrics or Metrics()
        self._publisher = ClusterPublisher(url, prefix=prefix)
        buckets = open_buckets(url, prefix)
        self.presence_parts = len(buckets)
        self._sink_lock = threading.Lock()
        self._brokers = [
            RedisBroker(
                bucket,
                node_id=node_id or secrets.token_hex(4),
                limits=self._limits,
                metrics=self._metrics,
            )
            for bucket in buckets
        ]
        self._publishing = GuardedPublisher(
            RuleRestoringPublisher(self._publisher, lambda channel: self._broker_of(channel).rules),
            self._metrics,
            timeout_s=limits.timeout_s,
            buckets=len(buckets),
        )
        self._revocations = BucketRevocations(self._brokers, self._metrics)
        self._health = [BucketHealth(f"bucket {number}", broker) for number, broker in enumerate(self._brokers)]

    def _positions(self) -> BucketPositions:
        return BucketPositions([broker.position for broker in self._brokers])

    def start(self, sink: Sink) -> None:
        """See `Broker.start`."""
        for bucket, broker in enumerate(self._brokers):
            broker.start(BucketSink(bucket, self._positions, self._sink_lock, sink))

    def stop(self) -> None:
        """See `Broker.stop`."""
        for broker in self._brokers:
            broker.stop()
        self._publisher.close()

    def _broker_of(self, channel: str) -> RedisBroker:
        return self._brokers[bucket_of(channel, len(self._brokers))]

    def _shares(self, channels: Sequence[str]) -> dict[int, list[str]]:
        """`channels` by bucket, without buckets that have none."""
        shares: dict[int, list[str]] = {}
        for channel in channels:
            shares.setdefault(bucket_of(channel, len(self._brokers)), []).append(channel)
        return shares

    # Publishing

    def publish(self, channel: str, body: bytes, *, id: str, idempotency_s: int) -> Receipt:
        """See `Broker.publish`."""
        return self._broker_of(channel).publish(channel, body, id=id, idempotency_s=idempotency_s)

    def publish_many(self, items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        """See `Broker.publish_many`. One round trip per bucket."""
        return self._publishing.publish(items)

    # Channels

    def subscribe(self, channels: Sequence[str]) -> None:
        """See `Broker.subscribe`. All buckets at the same time."""
        shares = [(self._brokers[bucket], names) for bucket, names in self._shares(channels).items()]
        lookups = [(broker, broker.submit_subscribe(names)) for broker, names in shares]
        for broker, lookup in lookups:
            if lookup is not None:
                broker.wait_for(lookup)

    def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Broker.unsubscribe`. Never waits."""
        for bucket, names in self._shares(channels).items():
            self._brokers[bucket].unsubscribe(names)

    def read_since(self, channels: Sequence[str], cursor: Cursor | None, *, limit: int) -> HistorySnapshot:
        """See `Broker.read_since`. One atomic lookup per bucket, all at the same time."""
        shares = self._shares(channels) or {self._first_connected(): []}
        lookups = {
            bucket: self._brokers[bucket].submit_read_since(names, self._cursor_in(bucket, cursor), limit=limit)
            for bucket, names in shares.items()
        }
        snapshots = {bucket: self._brokers[bucket].wait_for(lookup) for bucket, lookup in lookups.items()}
        by_channel = {
            name: replace(channel, epoch=snapshot.position.epoch)
            for snapshot in snapshots.values()
            for name, channel in snapshot.channels.items()
        }
        position = self._positions().combine({bucket: snapshot.position for bucket, snapshot in snapshots.items()})
        return HistorySnapshot(position, by_channel)

    def _first_connected(self) -> int:
        states = [broker.state().connected for broker in self._brokers]
        return states.index(True) if True in states else 0

    def _cursor_in(self, bucket: int, cursor: Cursor | None) -> Cursor | None:
        """The place of `cursor` in one bucket; None if it has none there."""
        position = self._brokers[bucket].position
        seq = cursor.seq_in(position.epoch) if cursor and position else None
        return None if seq is None or position is None else Cursor(position.epoch, seq)

    def is_doubted(self, channel: str, cursor: Cursor) -> bool:
        """See `Broker.is_doubted`."""
        return self._broker_of(channel).is_doubted(channel, cursor)

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """See `Broker.history`."""
        bucket = bucket_of(channel, len(self._brokers))
        bucket_cursor = self._cursor_in(bucket, since) or since
        position, publications = self._brokers[bucket].history(channel, since=bucket_cursor, limit=limit, newest=newest)
        return self._positions().combine({bucket: position}), publications

    # Rules and revocations are stored in every bucket, everything else in the first one.

    def write_rules(self, rules: Mapping[str, HistoryRule]) -> None:
        """See `Broker.write_rules`. A bucket that is away does not keep the others from their rules."""
        call_all(partial(broker.write_rules, rules) for broker in self._brokers)

    def send_control(self, message: dict[str, object]) -> None:
        """See `Broker.send_control`."""
        self._brokers[0].send_control(message)

    def run_command(self, command: Command, *, timeout_s: float) -> NodeReplies:
        """See `Broker.run_command`. A revocation takes the first bucket that answers, and is stored in the others."""
        if command.revocation is not None:
            return self._revocations.send(command, timeout_s=timeout_s)
        return self._brokers[0].run_command(command, timeout_s=timeout_s)

    def reply(self, token: str, reply: Mapping[str, object]) -> None:
        """See `Broker.reply`."""
        bucket, _, own_token = token.partition(REPLY_SEPARATOR)
        self._brokers[int(bucket)].reply(own_token, reply)

    def write_node(self, node: str, record: Mapping[str, object] | None, *, lease_s: float) -> list[NodeRecord]:
        """See `Broker.write_node`."""
        return self._brokers[0].write_node(node, record, lease_s=lease_s)

    def nodes(self) -> list[NodeRecord]:
        """See `Broker.nodes`."""
        return self._brokers[0].nodes()

    def write_revocations(self, until_s: Mapping[str, float]) -> None:
        """See `Broker.write_revocations`. To every bucket that answers; one is enough."""
        self._revocations.write(until_s)

    def revocations(self) -> dict[str, float]:
        """See `Broker.revocations`. From every bucket that answers; one is enough."""
        return self._revocations.read()

    def renew_node_lease(self, node_id: str, address: str, *, lease_s: float) -> NodeLeases:
        """See `Broker.renew_node_lease`."""
        return self._brokers[0].renew_node_lease(node_id, address, lease_s=lease_s)

    def write_sessions(self, records: Sequence[SessionRecord]) -> list[WriteResult]:
        """See `Broker.write_sessions`."""
        return self._brokers[0].write_sessions(records)

    def claim_session(self, key: str, user: str) -> ClaimedSession | None:
        """See `Broker.claim_session`."""
        return self._brokers[0].claim_session(key, user)

    def acquire_lease(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        """See `Broker.acquire_lease`."""
        return self._brokers[0].acquire_lease(name, holder, lease_s=lease_s)

    # Presence: the members of a channel are stored in the bucket of its presence channel.

    def presence_part_of(self, channel: str) -> int:
        """See `Broker.presence_part_of`."""
        return bucket_of(presence_channel(channel), len(self._brokers))

    def update_presence(self, update: PresenceUpdate, *, part: int = 0) -> PresenceUpdateResult:
        """See `Broker.update_presence`. Only this bucket has to answer."""
        return self._brokers[part].update_presence(update)

    def members(self, channel: str, *, limit: int) -> Presence:
        """See `Broker.members`."""
        bucket = self.presence_part_of(channel)
        presence = self._brokers[bucket].members(channel, limit=limit)
        return replace(presence, cursor=str(self._positions().combine({bucket: Cursor.parse(presence.cursor)})))

    # Health

    def canary(self) -> float:
        """See `Broker.canary`."""
        return check_all(self._health)

    def eviction_policy(self) -> str:
        """See `Broker.eviction_policy`. Of a bucket whose master evicts, if there is one."""
        policies: list[str] = []
        errors: list[HubError] = []
        for broker in self._brokers:
            if broker.state().connected:
                try:
                    policies.append(broker.eviction_policy())
                except HubError as error:
                    errors.append(error)
        if errors and not policies:
            raise errors[0]
        return next((policy for policy in policies if policy not in {"", NO_EVICTION}), policies[0] if policies else "")

    @property
    def position(self) -> Cursor | None:
        """See `Broker.position`."""
        return self._positions().cursor

    def state(self) -> BrokerState:
        """See `Broker.state`. Connected means that every bucket is connected."""
        states = [broker.state() for broker in self._brokers]
        return BrokerState(
            connected=all(state.connected for state in states),
            since_s=max(state.since_s for state in states),
            reconnects=self._metrics.broker_reconnects,
            channels=sum(state.channels for state in states),
            last_error=next((state.last_error for state in states if state.last_error), ""),
            parts=tuple(health.part() for health in self._health),
        )
