"""The reader: one greenlet that owns the subscriber link and processes everything it receives.

Only the reader calls the sink and moves the positions. So it can repair a gap before it delivers any later publication.
The steps of a session:

1. Subscribe to the channels with the newest publications, at most `repair_first`.
2. Compare these channels with the broker, and read those that moved.
3. Wait until the link has received everything up to that read.
4. Repair the gaps, then deliver live publications.

`resync/channel_checks.py` subscribes to the remaining channels in steps, and repairs them, while the reader delivers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tidings.backoff import delay_s
from tidings.errors import TidingsError
from tidings.redis_client.connection import reason_of
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.url import RedisAddress, redis_module
from tidings.wire.publication import Publication
from tidings_hub.brokers.barriers import Barrier, Barriers
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.command_gate import CommandGate
from tidings_hub.brokers.health.namespace_rules import NamespaceRules
from tidings_hub.brokers.inbox import Inbox
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.pubsub_link import (
    LinkDown,
    MessageTooLarge,
    PubSubLink,
    ShardedPubSubLink,
    pong_token,
)
from tidings_hub.brokers.repair import Repairs, seq_of
from tidings_hub.brokers.resync.held_items import HeldItems
from tidings_hub.brokers.resync.missed_channels import Resync
from tidings_hub.core.positions import Anomaly, Repair, Verdict
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

QUIET_S = 2.0
REPLY_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 1.0
BACKOFF_BASE_S = 0.05
BACKOFF_CAP_S = 0.8
# Names in one SUBSCRIBE. Redis buffers its confirmations, about 100 KB, until this node has read them.
SUBSCRIBE_CHUNK = 1_000
_HEARTBEAT = b"heartbeat"
_END_OF_HELD = object()
# Publications that are delivered together, as soon as an item follows that is none.
Batch = list[Publication]


class Reader:
    """Runs sessions on one link after another until it is stopped."""

    def __init__(
        self,
        address: RedisAddress,
        keys: RedisKeys,
        inbox: Inbox,
        interests: Interests,
        repairs: Repairs,
        *,
        limits: BrokerLimits,
        metrics: Metrics,
        rules: NamespaceRules,
    ) -> None:
        self._address = address
        self._keys = keys
        self._inbox = inbox
        self._interests = interests
        self._repairs = repairs
        self._resync = Resync(repairs, interests, limits, metrics)
        self._positions = repairs.positions
        self._limits = limits
        self._metrics = metrics
        self._rules = rules
        self._epochs = repairs.epochs
        self._gate = CommandGate(repairs, limits, metrics)
        self._stopping = threading.Event()
        self._barriers = Barriers()
        self._link: PubSubLink | None = None
        self.link_number = 0
        self.live = threading.Event()
        self.state_since_s = time.time()
        self.last_error = ""

    # For other greenlets

    def live_link(self) -> tuple[PubSubLink, int] | None:
        """The link and its number; None while it is not live."""
        link, number = self._link, self.link_number
        return (link, number) if link is not None and self.live.is_set() else None

    def barrier(self, link: PubSubLink, number: int, action: Callable[[], None] | None = None) -> Barrier:
        """Send a ping. `action` runs in the reader when the reply arrives.

        Raises:
            LinkDown: the ping could not be sent.
        """
        barrier, token = Barrier(number, action), self._barriers.new_token()
        self._barriers.add(token, barrier)
        # Checked only after adding it: a link that breaks from now on breaks the barrier as well.
        if number != self.link_number or not self.live.is_set():
            self._barriers.pop(token)
            raise LinkDown("the link to Redis broke")
        link.ping(token)
        return barrier

    def pass_barrier(self, link: PubSubLink, number: int, action: Callable[[], None] | None = None) -> None:
        """Wait until the link has received everything that Redis sent so far, and `action` has run.

        Raises:
            LinkDown: the link broke, or the reply to the ping did not arrive within `timeout_s`.
        """
        barrier = self.barrier(link, number, action)
        if not barrier.passed.wait(self._limits.timeout_s) or not barrier.ok:
            raise LinkDown("the link to Redis broke")

    def stop(self) -> None:
        """End the current session and start no other one."""
        self._stopping.set()
        link = self._link
        if link is not None:
            link.interrupt()

    # The reader's own greenlet

    def run(self) -> None:
        """Run one session after another until `stop`. No error ends it."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                self._session()
            except MessageTooLarge as error:
                self._metrics.broker_oversize += 1
                self._log_failure(str(error))
            except (LinkDown, TidingsError, OSError, redis_module().RedisError) as error:
                self._log_failure(reason_of(error))
            except Exception:
                logger.exception("unexpected error in the broker's reader; restarting")
                self._log_failure("internal")
            attempt = 0 if self.live.is_set() else attempt + 1
            self._disconnect()
            if not self._stopping.is_set():
                self._stopping.wait(delay_s(attempt, base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S))

    def _log_failure(self, text: str) -> None:
        if not self._stopping.is_set():
            level = logging.WARNING if text != self.last_error else logging.DEBUG
            logger.log(level, "the link to Redis is down: %s", text)
        self.last_error = text

    def _disconnect(self) -> None:
        if self.live.is_set():
            self.state_since_s = time.time()
        self.live.clear()
        self._metrics.broker_connected = 0
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._barriers.break_all()

    def _session(self) -> None:
        self.link_number += 1
        link = self._link = self._connect()
        if self._stopping.is_set():
            return
        self._rules.write()
        link.subscribe([self._keys.control, self._keys.doubts, self._inbox.canary_name])
        held = HeldItems(self._limits.held_max_bytes)
        channels = self._resync.begin_link()
        self._subscribe(link, channels, held)
        missed = self._repair(link, channels, held)
        self._interests.mark_verified(channels)
        self._metrics.broker_channels_unverified += self._interests.pop_unverified_change()
        self._process(link, held.items, missed)
        self.state_since_s = time.time()
        self._metrics.broker_connected = 1
        self._metrics.broker_reconnects += self.link_number > 1
        if self.last_error:
            logger.warning("the link to Redis is up again")
        self.last_error = ""
        self.live.set()
        self._listen(link)

    def _connect(self) -> PubSubLink:
        address, timeout_s, max_bytes = self._address, CONNECT_TIMEOUT_S, self._limits.link_max_bytes
        if self._keys.sharded:
            return ShardedPubSubLink(address, self._keys.control, timeout_s=timeout_s, max_bytes=max_bytes)
        return PubSubLink(address, timeout_s=timeout_s, max_bytes=max_bytes)

    def _subscribe(self, link: PubSubLink, channels: Sequence[str], held: HeldItems) -> None:
        """Subscribe in steps, each confirmed before the next, so that Redis need not buffer all confirmations."""
        fresh = self._interests.claim_for_link(self.link_number, channels)
        for start in range(0, len(fresh), SUBSCRIBE_CHUNK):
            link.subscribe([self._keys.pubsub(channel) for channel in fresh[start : start + SUBSCRIBE_CHUNK]])
            self._read_until_pong(link, held)
        self._metrics.broker_channels += self._interests.pop_size_change()
        self._metrics.broker_channels_unverified += self._interests.pop_unverified_change()

    def _read_until_pong(self, link: PubSubLink, held: HeldItems) -> None:
        """Ping, and hold what arrives until the reply: then `held` has everything that Redis has sent so far."""
        token = self._barriers.new_token()
        link.ping(token)
        end_s = time.monotonic() + self._limits.timeout_s
        while time.monotonic() < end_s:
            has_reply = False
            for item in link.read(REPLY_TIMEOUT_S):
                # Hold the items that the same read returned after the reply.
                if pong_token(item) == token:
                    has_reply = True
                else:
                    held.add(item)
            # A read that finds data does not wait, so other greenlets would not run.
            time.sleep(0)
            if has_reply:
                return
        raise LinkDown("Redis did not answer a ping")

    def _repair(self, link: PubSubLink, channels: Sequence[str], held: HeldItems) -> list[Publication]:
        """Repair these channels up to the broker's position. Returns what they missed, to deliver with `held`."""
        missed = self._resync.find_missed(channels)
        self._read_until_pong(link, held)
        received = [self._inbox.publication(item, among=missed.channels) for item in held.items]
        epoch = self._positions.epoch
        publications = self._resync.apply(missed, [entry for entry in received if entry is not None])
        if epoch not in (None, missed.end.epoch):
            # If Redis was emptied, the rules are gone as well.
            self._rules.write()
        if held.dropped:
            # The next publication or the next position check of such a channel shows the gap, and it is repaired.
            self._metrics.broker_held_dropped += held.dropped
            self._repairs.needs_check = True
        logger.debug("resynchronised %d channels, %d items held", len(channels), len(held.items))
        held.items.append(_END_OF_HELD)
        return publications

    def _repair_again(self, link: PubSubLink, items: deque[Any]) -> list[Publication]:
        """Repair on an unbroken link, before the received `items`. They are extended by what arrives meanwhile."""
        held = HeldItems(self._limits.held_max_bytes, items)
        return self._repair(link, self._positions.by_traffic()[: self._limits.repair_first], held)

    def _listen(self, link: PubSubLink) -> None:
        is_ping_sent = False
        while not self._stopping.is_set():
            items = link.read(REPLY_TIMEOUT_S if is_ping_sent else QUIET_S)
            if items:
                is_ping_sent = False
                self._process(link, deque(items))
                # Let other greenlets run, however much there is to read.
                time.sleep(0)
            elif is_ping_sent:
                raise LinkDown("Redis did not answer a ping")
            else:
                link.ping(_HEARTBEAT)
                is_ping_sent = True

    def _process(self, link: PubSubLink, items: deque[Any], missed: Batch | None = None) -> None:
        """Process received items in order. Publications are delivered in one batch where possible.

        `missed`: publications that a repair found. They are merged with the held ones in order of seq.
        """
        batch: Batch = missed or []
        self._metrics.broker_bytes += link.pop_bytes_read()
        while items:
            item = items.popleft()
            if item is _END_OF_HELD:
                self._positions.ignore_until(0)
                self._repairs.deliver(sorted(batch, key=seq_of))
                self._repairs.delivered = self._positions.cursor
                batch = []
                continue
            publication = self._inbox.publication(item)
            if publication is not None:
                verdict = self._positions.observe(publication)
                if verdict is Verdict.DELIVER:
                    batch.append(publication)
                elif verdict is Verdict.LOOK_UP:
                    batch = self._inspect(link, item, publication, batch, items)
                elif verdict is Verdict.UNTRACKED and not self._interests.buffer_early(publication):
                    self._metrics.broker_held_dropped += self._interests.is_pending(publication.channel)
                continue
            token = pong_token(item)
            if token is None:
                batch = self._process_unnumbered(link, item, batch, items)
            elif token != _HEARTBEAT:
                self._repairs.deliver(sorted(batch, key=seq_of))
                batch = self._on_pong(link, token, items)
        self._repairs.deliver(batch)

    def _on_pong(self, link: PubSubLink, token: bytes, items: deque[Any]) -> Batch:
        """Run the action of a barrier. Returns the batch to continue with."""
        barrier = self._barriers.pop(token)
        if barrier is not None:
            barrier.run()
        if not self._repairs.needs_resync:
            return []
        self._repairs.needs_resync = False
        if self._keys.sharded:
            # A Redis node that was cut off from its cluster does not report that another one serves the slot now.
            raise LinkDown("a new epoch began; the bucket may be on another node")
        return self._repair_again(link, items)

    def _process_unnumbered(self, link: PubSubLink, item: Any, batch: Batch, items: deque[Any]) -> Batch:
        """Process an item that is neither a publication nor a pong. Returns the batch to continue with."""
        doubts = self._inbox.doubts(item)
        if doubts is not None:
            return self._repairs.receive_doubts(doubts, batch)
        if self._process_other(item):
            return batch
        self._repairs.deliver(sorted(batch, key=seq_of))
        items.appendleft(item)
        return self._repair_again(link, items)

    def _process_other(self, item: Any) -> bool:
        """Process a command or a confirmation. False: a new epoch began; resynchronise first."""
        kind = item[0] if isinstance(item, list) and item else item
        if kind == b"unsubscribe" and isinstance(item[1], bytes):
            channel = self._inbox.channel(item[1])
            if channel is not None and (channel not in self._interests or self._interests.is_pending(channel)):
                self._positions.forget(channel)
        elif kind == b"message":
            command = self._inbox.command(item)
            return command is None or self._gate.process(command)
        elif isinstance(kind, Exception):
            raise LinkDown(f"Redis rejected a subscription: {kind}")
        return True

    def _inspect(self, link: PubSubLink, item: Any, publication: Publication, batch: Batch, items: deque[Any]) -> Batch:
        """Look up a publication that is not simply the next one. Returns the batch to continue with."""
        if self._epochs.is_foreign(publication.epoch, now_s=time.monotonic()):
            # The load of another database costs no lookups.
            self._inbox.count_foreign("a publication of another database", publication.channel)
            return batch
        batch.sort(key=seq_of)
        finding = self._repairs.inspect(publication)
        if isinstance(finding, Repair):
            return self._repairs.apply_repair(finding, publication, batch)
        if finding is Anomaly.REPLAYED:
            self._metrics.broker_replays += 1
        elif finding is Anomaly.FORGED:
            self._inbox.count_foreign("a publication that the broker never made", publication.channel)
            if publication.epoch != self._positions.epoch:
                self._epochs.rule_out(publication.epoch, now_s=time.monotonic())
        else:
            self._repairs.deliver(batch)
            items.appendleft(item)
            if finding is Anomaly.REGRESSION:
                self._repairs.rotate_epoch()
            return self._repair_again(link, items)
        return batch
