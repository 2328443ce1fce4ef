"""The broker for a Redis Cluster: one `RedisBroker` per bucket, behind one face (DESIGN 3, PROTOCOL.md section 7).

Each bucket has its own sequence, link, rounds and repairs, on whichever master serves its slot. What they
have in common is the sink, which one of them at a time may call, and the cursors, which name a place in each.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tidings.errors import HubError, TimedOut
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.redis.cluster import ClusterPublisher
from tidings.receipts import Receipt
from tidings.redis_client.buckets import bucket_of
from tidings.redis_client.keys import DEFAULT_PREFIX
from tidings.redis_client.topology import open_buckets
from tidings.wire.control import Command, NodeRecord, NodeReplies
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, PresenceChange, PresenceUpdate, PresenceUpdateResult, presence_channel
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
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.core.bucket_positions import BucketPositions
from tidings_hub.core.session_records import ClaimedSession, SessionRecord, WriteResult
from tidings_hub.metrics import Metrics

# Between the buckets' epochs, in what a node keeps of a turn; no epoch has it.
_EPOCHS = "~"


class ClusterBroker:
    """A `Broker` on a Redis Cluster.

    Raises:
        BadConfig: the URL or the prefix is none.
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
        self._turn = threading.Lock()
        self._parts = [
            RedisBroker(
                bucket,
                node_id=node_id or secrets.token_hex(4),
                limits=self._limits,
                metrics=self._metrics,
            )
            for bucket in buckets
        ]

    def _places(self) -> BucketPositions:
        return BucketPositions([part.position for part in self._parts])

    def start(self, sink: Sink) -> None:
        """See `Broker.start`."""
        for bucket, part in enumerate(self._parts):
            part.start(BucketSink(bucket, self._places, self._turn, sink))

    def stop(self) -> None:
        """See `Broker.stop`."""
        for part in self._parts:
            part.stop()
        self._publisher.close()

    def _part(self, channel: str) -> RedisBroker:
        return self._parts[bucket_of(channel, len(self._parts))]

    def _shares(self, channels: Sequence[str]) -> dict[int, list[str]]:
        """The channels of each bucket that has any."""
        shares: dict[int, list[str]] = {}
        for channel in channels:
            shares.setdefault(bucket_of(channel, len(self._parts)), []).append(channel)
        return shares

    # Publishing

    def publish(self, channel: str, body: bytes, *, id: str, idempotency_s: int) -> Receipt:
        """See `Broker.publish`."""
        return self._part(channel).publish(channel, body, id=id, idempotency_s=idempotency_s)

    def publish_many(self, items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        """See `Broker.publish_many`. One round trip per bucket."""
        answers = self._publisher.publish(items, timeout_s=self._limits.timeout_s)
        self._metrics.broker_timeouts += any(isinstance(answer, TimedOut) for answer in answers)
        return answers

    # Channels

    def subscribe(self, channels: Sequence[str]) -> None:
        """See `Broker.subscribe`. All buckets at the same time."""
        asked = [(self._parts[bucket], names) for bucket, names in self._shares(channels).items()]
        waiting = [(part, part.submit_subscribe(names)) for part, names in asked]
        for part, question in waiting:
            if question is not None:
                part.wait_for(question)

    def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Broker.unsubscribe`. Never waits."""
        for bucket, names in self._shares(channels).items():
            self._parts[bucket].unsubscribe(names)

    def read_since(self, channels: Sequence[str], cursor: Cursor | None, *, limit: int) -> HistorySnapshot:
        """See `Broker.read_since`. One atomic look per bucket, all at the same time."""
        shares = self._shares(channels) or {0: []}
        waiting = {
            bucket: self._parts[bucket].submit_read_since(names, self._own(bucket, cursor), limit=limit)
            for bucket, names in shares.items()
        }
        pasts = {bucket: self._parts[bucket].wait_for(question) for bucket, question in waiting.items()}
        seen = {
            name: replace(one, epoch=past.position.epoch)
            for past in pasts.values()
            for name, one in past.channels.items()
        }
        return HistorySnapshot(self._places().combine({bucket: past.position for bucket, past in pasts.items()}), seen)

    def _own(self, bucket: int, cursor: Cursor | None) -> Cursor | None:
        """The place of a cursor in one bucket, if it has one there."""
        position = self._parts[bucket].position
        seq = cursor.seq_in(position.epoch) if cursor and position else None
        return None if seq is None or position is None else Cursor(position.epoch, seq)

    def is_doubted(self, channel: str, cursor: Cursor) -> bool:
        """See `Broker.is_doubted`."""
        return self._part(channel).is_doubted(channel, cursor)

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """See `Broker.history`."""
        bucket = bucket_of(channel, len(self._parts))
        own = self._own(bucket, since) or since
        position, found = self._parts[bucket].history(channel, since=own, limit=limit, newest=newest)
        return self._places().combine({bucket: position}), found

    # Rules go into every bucket; the rest is in the first.

    def write_rules(self, rules: Mapping[str, HistoryRule]) -> None:
        """See `Broker.write_rules`."""
        for part in self._parts:
            part.write_rules(rules)

    def send_control(self, message: dict[str, object]) -> None:
        """See `Broker.send_control`."""
        self._parts[0].send_control(message)

    def run_command(self, command: Command, *, timeout_s: float) -> NodeReplies:
        """See `Broker.run_command`."""
        return self._parts[0].run_command(command, timeout_s=timeout_s)

    def reply(self, token: str, reply: Mapping[str, object]) -> None:
        """See `Broker.reply`."""
        self._parts[0].reply(token, reply)

    def write_node(self, node: str, record: Mapping[str, object] | None, *, lease_s: float) -> list[NodeRecord]:
        """See `Broker.write_node`."""
        return self._parts[0].write_node(node, record, lease_s=lease_s)

    def nodes(self) -> list[NodeRecord]:
        """See `Broker.nodes`."""
        return self._parts[0].nodes()

    def revoke(self, key: str, until_s: float) -> None:
        """See `Broker.revoke`."""
        self._parts[0].revoke(key, until_s)

    def revocations(self) -> dict[str, float]:
        """See `Broker.revocations`."""
        return self._parts[0].revocations()

    def renew_node_lease(self, node_id: str, address: str, *, lease_s: float) -> NodeLeases:
        """See `Broker.renew_node_lease`."""
        return self._parts[0].renew_node_lease(node_id, address, lease_s=lease_s)

    def write_sessions(self, records: Sequence[SessionRecord]) -> list[WriteResult]:
        """See `Broker.write_sessions`."""
        return self._parts[0].write_sessions(records)

    def claim_session(self, key: str, user: str) -> ClaimedSession | None:
        """See `Broker.claim_session`."""
        return self._parts[0].claim_session(key, user)

    def acquire_lease(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        """See `Broker.acquire_lease`."""
        return self._parts[0].acquire_lease(name, holder, lease_s=lease_s)

    # Presence: what concerns a channel is in the bucket of its presence channel.

    def update_presence(self, update: PresenceUpdate) -> PresenceUpdateResult:
        """See `Broker.update_presence`. Each bucket gets an update, also if another bucket does not answer."""
        shares: dict[int, list[PresenceChange]] = {}
        for change in update.changes:
            shares.setdefault(self._bucket_of_presence(change.channel), []).append(change)
        epochs = update.epoch.split(_EPOCHS) if update.epoch else [""] * len(self._parts)
        turned: list[PresenceUpdateResult] = []
        errors: list[HubError] = []
        for bucket, (part, epoch) in enumerate(zip(self._parts, _filled(epochs, len(self._parts)), strict=True)):
            try:
                turned.append(part.update_presence(replace(update, epoch=epoch, changes=shares.get(bucket, ()))))
            except HubError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return PresenceUpdateResult(
            _EPOCHS.join(one.epoch for one in turned),
            known=all(one.known for one in turned),
            more=any(one.more for one in turned),
            joined=sum(one.joined for one in turned),
            left=sum(one.left for one in turned),
            ended=max(one.ended for one in turned),
        )

    def members(self, channel: str, *, limit: int) -> Presence:
        """See `Broker.members`."""
        bucket = self._bucket_of_presence(channel)
        found = self._parts[bucket].members(channel, limit=limit)
        return replace(found, cursor=str(self._places().combine({bucket: Cursor.parse(found.cursor)})))

    def _bucket_of_presence(self, channel: str) -> int:
        return bucket_of(presence_channel(channel), len(self._parts))

    # Health

    def canary(self) -> float:
        """See `Broker.canary`. Through every bucket; the slowest counts."""
        return max(part.canary() for part in self._parts)

    @property
    def position(self) -> Cursor | None:
        """See `Broker.position`."""
        return self._places().cursor

    def state(self) -> BrokerState:
        """See `Broker.state`. Connected is what reaches every bucket."""
        states = [part.state() for part in self._parts]
        return BrokerState(
            connected=all(one.connected for one in states),
            since_s=max(one.since_s for one in states),
            reconnects=self._metrics.broker_reconnects,
            channels=sum(one.channels for one in states),
            last_error=next((one.last_error for one in states if one.last_error), ""),
        )


def _filled(epochs: list[str], count: int) -> list[str]:
    """One epoch per bucket; where that is not what the broker answered, none that it can know."""
    return epochs if len(epochs) == count else ["?"] * count


class BucketSink:
    """The sink of one bucket: gives publications their places in the other buckets, and passes them on in turn."""

    def __init__(self, bucket: int, places: Callable[[], BucketPositions], turn: threading.Lock, sink: Sink) -> None:
        self._bucket = bucket
        self._places = places
        self._turn = turn
        self._sink = sink

    def deliver(self, publications: list[Publication]) -> None:
        """See `Sink.deliver`."""
        with self._turn:
            others = self._places().others(self._bucket)
            for publication in publications:
                publication.other_places = others
            self._sink.deliver(publications)

    def on_loss(self, channels: list[str], position: Cursor) -> None:
        """See `Sink.on_loss`."""
        with self._turn:
            self._sink.on_loss(channels, self._places().combine({self._bucket: position}))

    def on_doubt(self, channels: list[str], first: int, last: int, position: Cursor) -> bool:
        """See `Sink.on_doubt`."""
        with self._turn:
            return self._sink.on_doubt(channels, first, last, self._places().combine({self._bucket: position}))

    def on_control(self, message: dict[str, object]) -> None:
        """See `Sink.on_control`."""
        with self._turn:
            self._sink.on_control(message)
