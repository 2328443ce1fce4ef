"""The broker for one node: everything in the memory of this process.

The sequence itself is in `tidings.publishers.memory.store.MemoryStore`, so an emitter with the same `memory://` URL in
the same process reaches this hub. One greenlet delivers publications to the sink.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial

from tidings.errors import TidingsError, Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.memory.store import MemoryStore, open_store
from tidings.receipts import Receipt
from tidings.wire.control import Command, NodeRecord, NodeReplies
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, PresenceUpdate, PresenceUpdateResult
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import (
    BrokerLimits,
    BrokerPart,
    BrokerState,
    ChannelSnapshot,
    HistoryRule,
    HistorySnapshot,
    LeaseReply,
    NodeLease,
    NodeLeases,
    Sink,
)
from tidings_hub.brokers.session_records import MemorySessionRecords
from tidings_hub.core.session_records import ClaimedSession, SessionRecord, WriteResult
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.broker")

_BATCH_MAX = 1_000
_STOP_S = 5.0


class MemoryBroker:
    """A `Broker` without Redis. It loses nothing on the way to its node, so no cursor is ever doubted."""

    name = "memory"
    presence_parts = 1

    def __init__(
        self,
        url: str = "memory://",
        *,
        limits: BrokerLimits,
        metrics: Metrics | None = None,
        store: MemoryStore | None = None,
    ) -> None:
        self._store = store or open_store(url)
        self._limits = limits
        self._metrics = metrics or Metrics()
        # Channel to the time when it is removed; None: it has a listener.
        self._channels: dict[str, float | None] = {}
        self._queue: deque[Publication | dict[str, object] | threading.Event] = deque()
        self._wake = threading.Event()
        # Node id to its address and the end of its lease.
        self._leases: dict[str, tuple[str, float]] = {}
        self._session_records = MemorySessionRecords()
        # Name of a lease to its holder and its end.
        self._named_leases: dict[str, tuple[str, float]] = {}
        self._thread: threading.Thread | None = None
        self._sink: Sink | None = None
        # `_is_delivering`: the task takes from the queue, or has taken, what the sink may not have yet; set first.
        self._stopping = self._is_delivering = False
        self._seq = 0
        self._since_s = time.time()

    def start(self, sink: Sink) -> None:
        """See `Broker.start`."""
        if self._sink is not None:
            raise RuntimeError("a broker is started once")
        self._sink = sink
        self._store.add_listener(self._on_publication)
        self._store.commands.add_listener(self._on_control)
        self._metrics.broker_connected = 1
        self._thread = threading.Thread(
            target=SupervisedTask("memory", partial(self._run, sink), self._metrics), name="tidings-memory", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """See `Broker.stop`."""
        self._stopping = True
        self._store.remove_listener(self._on_publication)
        self._store.commands.remove_listener(self._on_control)
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _on_publication(self, publication: Publication) -> None:
        # Called with the store's lock held, so it only queues the publication.
        if publication.channel in self._channels:
            self._queue.append(publication)
            self._wake.set()

    def _on_control(self, message: dict[str, object]) -> None:
        self._queue.append(message)
        self._wake.set()

    def _run(self, sink: Sink) -> None:
        """Call the sink for everything in the queue. No other greenlet calls it."""
        while not self._stopping:
            self._wake.wait(1.0)
            self._wake.clear()
            self._is_delivering = True
            while self._queue:
                self._drain(sink)
            self._is_delivering = False
            self._remove_unused()
        for item in self._queue:
            if isinstance(item, threading.Event):
                item.set()

    def _drain(self, sink: Sink) -> None:
        batch: list[Publication] = []
        other: dict[str, object] | threading.Event | None = None
        while self._queue and len(batch) < _BATCH_MAX and other is None:
            item = self._queue.popleft()
            if isinstance(item, Publication):
                batch.append(item)
            else:
                other = item
        try:
            if batch:
                sink.deliver(batch)
            if isinstance(other, dict):
                sink.on_control(other)
        except Exception:
            logger.exception("unexpected error in a delivery; the clients of these channels receive a gap")
            if batch:
                sink.on_loss(
                    sorted({publication.channel for publication in batch}), Cursor(self._store.epoch, batch[-1].seq)
                )
        if batch:
            self._seq = max(self._seq, batch[-1].seq)
        if isinstance(other, threading.Event):
            other.set()
        # Let other greenlets run, however much there is to deliver.
        time.sleep(0)

    def _remove_unused(self) -> None:
        now_s = time.monotonic()
        # Where threads are not greenlets, others change the dict meanwhile.
        with self._store.lock:
            for name, remove_at_s in list(self._channels.items()):
                if remove_at_s is not None and remove_at_s <= now_s:
                    del self._channels[name]
        self._metrics.broker_channels = len(self._channels)

    def _wait_until_delivered(self) -> None:
        """Wait until everything in the queue was delivered to the sink."""
        if self._sink is None or self._stopping:
            raise Unavailable("the broker is not running")
        if not self._queue and not self._is_delivering:
            return
        marker = threading.Event()
        self._queue.append(marker)
        self._wake.set()
        is_delivered = marker.wait(self._limits.timeout_s)
        self._metrics.broker_timeouts += not is_delivered
        if not is_delivered or self._stopping:
            raise Unavailable(f"the node did not keep up within {self._limits.timeout_s:g} s")

    # Publishing

    def publish(self, channel: str, body: bytes, *, id: str, idempotency_s: int) -> Receipt:
        """See `Broker.publish`."""
        answer = self._store.publish(OutgoingPublication(channel, body, id, idempotency_s))
        if isinstance(answer, TidingsError):
            raise answer
        return answer

    def publish_many(self, items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        """See `Broker.publish_many`."""
        return [self._store.publish(item) for item in items]

    # Channels

    def subscribe(self, channels: Sequence[str]) -> None:
        """See `Broker.subscribe`."""
        with self._store.lock:
            self._channels.update(dict.fromkeys(channels))
            self._store.keep_pointers(channels)
            position = self._store.seq
        self._metrics.broker_channels = len(self._channels)
        self._wait_until_delivered()
        self._seq = max(self._seq, position)

    def unsubscribe(self, channels: Sequence[str]) -> None:
        """See `Broker.unsubscribe`. Never waits."""
        remove_at_s = time.monotonic() + self._limits.linger_s
        with self._store.lock:
            for channel in channels:
                if self._channels.get(channel, remove_at_s) is None:
                    self._channels[channel] = remove_at_s

    def read_since(self, channels: Sequence[str], cursor: Cursor | None, *, limit: int) -> HistorySnapshot:
        """See `Broker.read_since`."""
        with self._store.lock:
            channel_history = self._store.read_channels(channels, None if cursor is None else cursor.seq, limit=limit)
            position, horizon = self._store.position(), self._store.horizon()
        self._wait_until_delivered()
        self._seq = max(self._seq, position.seq)
        snapshots = {
            name: ChannelSnapshot(last, stored, quiet_since=horizon if last is None else None)
            for name, (last, stored) in channel_history.items()
        }
        return HistorySnapshot(position, snapshots)

    def is_doubted(self, channel: str, cursor: Cursor) -> bool:
        """See `Broker.is_doubted`."""
        del channel, cursor
        return False

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """See `Broker.history`."""
        return self._store.history(channel, since=since, limit=limit, newest=newest)

    # Rules, control, revocations

    def write_rules(self, rules: Mapping[str, HistoryRule]) -> None:
        """See `Broker.write_rules`."""
        self._store.write_rules(
            {name: (rule.history, rule.history_ttl_s) for name, rule in rules.items()},
            pointer_ttl_s=self._limits.pointer_ttl_s,
        )

    def send_control(self, message: dict[str, object]) -> None:
        """See `Broker.send_control`."""
        if self._sink is None or self._stopping:
            raise Unavailable("the broker is not running")
        self._store.commands.broadcast(message)

    def run_command(self, command: Command, *, timeout_s: float) -> NodeReplies:
        """See `Broker.run_command`."""
        if self._sink is None or self._stopping:
            raise Unavailable("the broker is not running")
        return self._store.commands.request(command, timeout_s=timeout_s)

    def reply(self, token: str, reply: Mapping[str, object]) -> None:
        """See `Broker.reply`."""
        self._store.commands.reply(token, reply)

    def write_node(self, node: str, record: Mapping[str, object] | None, *, lease_s: float) -> list[NodeRecord]:
        """See `Broker.write_node`."""
        return self._store.commands.write_node(node, record, lease_s=lease_s)

    def nodes(self) -> list[NodeRecord]:
        """See `Broker.nodes`."""
        return self._store.commands.nodes()

    def write_revocations(self, until_s: Mapping[str, float]) -> None:
        """See `Broker.write_revocations`."""
        for key, end_s in until_s.items():
            self._store.commands.revoke(key, end_s)

    def revocations(self) -> dict[str, float]:
        """See `Broker.revocations`."""
        return self._store.commands.revoked(now_s=time.time())

    def renew_node_lease(self, node_id: str, address: str, *, lease_s: float) -> NodeLeases:
        """See `Broker.renew_node_lease`. Only nodes of this process have a lease."""
        now_s = time.monotonic()
        self._leases[node_id] = (address, now_s + lease_s)
        self._leases = {name: lease for name, lease in self._leases.items() if lease[1] > now_s}
        return NodeLeases(
            time.time(), {name: NodeLease(address, end_s - now_s) for name, (address, end_s) in self._leases.items()}
        )

    def write_sessions(self, records: Sequence[SessionRecord]) -> list[WriteResult]:
        """See `Broker.write_sessions`."""
        with self._store.lock:
            return self._session_records.write(records)

    def claim_session(self, key: str, user: str) -> ClaimedSession | None:
        """See `Broker.claim_session`."""
        with self._store.lock:
            return self._session_records.claim(key, user)

    def acquire_lease(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        """See `Broker.acquire_lease`."""
        now_s = time.monotonic()
        current_holder, end_s = self._named_leases.get(name, ("", now_s))
        if current_holder not in ("", holder) and end_s > now_s:
            return LeaseReply.DENIED
        if not lease_s:
            self._named_leases.pop(name, None)
            return LeaseReply.DENIED
        self._named_leases[name] = (holder, now_s + lease_s)
        return LeaseReply.RENEWED if current_holder == holder and end_s > now_s else LeaseReply.ACQUIRED

    # Presence

    def presence_part_of(self, channel: str) -> int:
        """See `Broker.presence_part_of`."""
        return 0

    def update_presence(self, update: PresenceUpdate, *, part: int = 0) -> PresenceUpdateResult:
        """See `Broker.update_presence`."""
        return self._store.update_presence(update)

    def members(self, channel: str, *, limit: int) -> Presence:
        """See `Broker.members`."""
        return self._store.members(channel, limit=limit)

    # Health

    def canary(self) -> float:
        """See `Broker.canary`."""
        start_s = time.monotonic()
        self._wait_until_delivered()
        return time.monotonic() - start_s

    def eviction_policy(self) -> str:
        """See `Broker.eviction_policy`."""
        return ""

    @property
    def position(self) -> Cursor | None:
        """See `Broker.position`."""
        return None if self._sink is None else Cursor(self._store.epoch, self._seq)

    def state(self) -> BrokerState:
        """See `Broker.state`."""
        running = self._sink is not None and not self._stopping
        return BrokerState(
            connected=running,
            since_s=self._since_s,
            reconnects=0,
            channels=len(self._channels),
            parts=(BrokerPart(self.name, running, self._since_s),),
        )
