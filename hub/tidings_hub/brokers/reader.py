"""The reader: one greenlet that owns the subscriber link and processes everything it receives.

Only the reader calls the sink and moves the positions. So it can repair a gap before it delivers any later publication.
The steps of a session:

1. Subscribe to all channels.
2. Look up all channels.
3. Wait until the link has received everything up to that lookup.
4. Repair the gaps, then deliver live publications.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tidings.backoff import delay_s
from tidings.errors import TidingsError
from tidings.redis_client.connection import reason_of
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.url import RedisAddress, redis_module
from tidings.wire.publication import Publication
from tidings_hub.brokers.barriers import Barrier, Barriers
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.inbox import Inbox
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.pubsub_link import (
    LinkDown,
    MessageTooLarge,
    PubSubLink,
    ShardedPubSubLink,
    message_bytes,
    pong_token,
)
from tidings_hub.brokers.repair import Repairs
from tidings_hub.core.positions import Anomaly, Repair, Verdict
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

QUIET_S = 2.0
REPLY_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 1.0
BACKOFF_BASE_S = 0.05
BACKOFF_CAP_S = 0.8
_SUBSCRIBE_CHUNK = 1_000
_HEARTBEAT = b"heartbeat"
_END_OF_HELD = object()


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
        write_rules: Callable[[], None],
    ) -> None:
        self._address = address
        self._keys = keys
        self._inbox = inbox
        self._interests = interests
        self._repairs = repairs
        self._positions = repairs.positions
        self._limits = limits
        self._metrics = metrics
        self._write_rules = write_rules
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
        items: deque[Any] = deque()
        self._write_rules()
        link.subscribe([self._keys.control, self._inbox.canary_name])
        self._subscribe_all(link, items)
        self._resync(link, items)
        self.state_since_s = time.time()
        self._metrics.broker_connected = 1
        self._metrics.broker_reconnects += self.link_number > 1
        if self.last_error:
            logger.warning("the link to Redis is up again")
        self.last_error = ""
        self.live.set()
        self._process(link, items)
        self._listen(link)

    def _connect(self) -> PubSubLink:
        address, timeout_s, max_bytes = self._address, CONNECT_TIMEOUT_S, self._limits.link_max_bytes
        if self._keys.sharded:
            return ShardedPubSubLink(address, self._keys.control, timeout_s=timeout_s, max_bytes=max_bytes)
        return PubSubLink(address, timeout_s=timeout_s, max_bytes=max_bytes)

    def _subscribe_all(self, link: PubSubLink, items: deque[Any]) -> None:
        """Subscribe in chunks, each confirmed before the next, so that Redis need not buffer all replies."""
        channels = self._interests.claim_for_link(self.link_number)
        for channel in self._positions.channels():
            if channel not in self._interests:
                self._positions.forget(channel)
        for start in range(0, len(channels), _SUBSCRIBE_CHUNK):
            link.subscribe([self._keys.pubsub(channel) for channel in channels[start : start + _SUBSCRIBE_CHUNK]])
            self._read_until_pong(link, items)
        self._metrics.broker_channels += self._interests.pop_size_change()

    def _read_until_pong(self, link: PubSubLink, items: deque[Any]) -> None:
        """Ping, and read into `items` until the reply: then they hold everything that Redis has sent so far."""
        token = self._barriers.new_token()
        link.ping(token)
        end_s = time.monotonic() + self._limits.timeout_s
        room = self._limits.held_max_bytes - sum(message_bytes(item) for item in items)
        while time.monotonic() < end_s:
            has_reply = False
            for item in link.read(REPLY_TIMEOUT_S):
                if pong_token(item) == token:
                    # Keep the items that the same read returned after the reply.
                    has_reply = True
                    continue
                room -= message_bytes(item)
                if room >= 0 or message_bytes(item) == 0:
                    items.append(item)
                else:
                    # The channel's next publication or the next position check shows the gap, and it is repaired.
                    self._metrics.broker_held_dropped += 1
            if has_reply:
                return
        raise LinkDown("Redis did not answer a ping")

    def _resync(self, link: PubSubLink, items: deque[Any]) -> None:
        """Repair every tracked channel up to the broker's position, or report it as lost."""
        snapshots = self._repairs.lookup_all()
        before = len(items)
        self._read_until_pong(link, items)
        decoded = (self._inbox.publication(item, count=False) for item in items)
        received = [publication for publication in decoded if publication is not None]
        if self._repairs.apply_resync(snapshots, received):
            # If Redis was emptied, the rules are gone as well.
            self._write_rules()
        logger.debug("resynchronised %d channels, %d items held", len(self._positions), len(items) - before)
        items.append(_END_OF_HELD)

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

    def _process(self, link: PubSubLink, items: deque[Any]) -> None:
        """Process received items in order. Publications are delivered in one batch where possible."""
        batch: list[Publication] = []
        self._metrics.broker_bytes += link.pop_bytes_read()
        while items:
            item = items.popleft()
            if item is _END_OF_HELD:
                self._positions.ignore_until(0)
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
                self._process_other(item)
            elif token != _HEARTBEAT:
                self._repairs.deliver(batch)
                batch = []
                self._on_pong(link, token, items)
        self._repairs.deliver(batch)

    def _on_pong(self, link: PubSubLink, token: bytes, items: deque[Any]) -> None:
        barrier = self._barriers.pop(token)
        if barrier is not None:
            barrier.run()
        if self._repairs.needs_resync:
            self._repairs.needs_resync = False
            if self._keys.sharded:
                # A Redis node that was cut off from its cluster does not report that another one serves the slot now.
                raise LinkDown("a new epoch began; the bucket may be on another node")
            self._resync(link, items)

    def _process_other(self, item: Any) -> None:
        kind = item[0] if isinstance(item, list) and item else item
        if kind == b"unsubscribe" and isinstance(item[1], bytes):
            channel = self._inbox.channel(item[1])
            if channel is not None and (channel not in self._interests or self._interests.is_pending(channel)):
                self._positions.forget(channel)
        elif kind == b"message":
            self._inbox.on_control(item)
        elif isinstance(kind, Exception):
            raise LinkDown(f"Redis rejected a subscription: {kind}")

    def _inspect(
        self, link: PubSubLink, item: Any, publication: Publication, batch: list[Publication], items: deque[Any]
    ) -> list[Publication]:
        """Look up a publication that is not simply the next one. Returns the batch to continue with."""
        finding = self._repairs.inspect(publication)
        if isinstance(finding, Repair):
            return self._repairs.apply_repair(finding, publication, batch)
        if finding is Anomaly.REPLAYED:
            self._metrics.broker_replays += 1
        elif finding is Anomaly.FORGED:
            self._inbox.count_foreign("a publication that the broker never made", publication.channel)
        else:
            self._repairs.deliver(batch)
            items.appendleft(item)
            if finding is Anomaly.REGRESSION:
                self._repairs.rotate_epoch()
            self._resync(link, items)
            return []
        return batch
