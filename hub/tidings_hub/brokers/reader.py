"""The reader: one greenlet that owns the subscriber link and everything that comes through it.

Only it calls the sink and moves the positions, so whatever it finds missing it can repair before
anything later passes. Order of a session: subscribe all, look at all channels, wait until
the link has brought everything up to that look, repair, go on live.
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
from tidings_hub.brokers.pubsub_link import LinkDown, MessageTooLarge, PubSubLink, ShardedPubSubLink
from tidings_hub.brokers.repair import Repairs
from tidings_hub.core.positions import Anomaly, Repair, Verdict
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

QUIET_S = 2.0
ANSWER_S = 2.0
CONNECT_TIMEOUT_S = 1.0
BACKOFF_BASE_S = 0.05
BACKOFF_CAP_S = 0.8
_SUBSCRIBE_CHUNK = 1_000
_HEARTBEAT = b"heartbeat"
_HELD_ENDS = object()


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
        self._greet = write_rules
        self._stopping = threading.Event()
        self._barriers = Barriers()
        self._link: PubSubLink | None = None
        self.link_number = 0
        self.live = threading.Event()
        self.since_s = time.time()
        self.last_error = ""

    # For other greenlets

    def live_link(self) -> tuple[PubSubLink, int] | None:
        """The link and its number, while it is live."""
        link, number = self._link, self.link_number
        return (link, number) if link is not None and self.live.is_set() else None

    def barrier(self, link: PubSubLink, number: int, action: Callable[[], None] | None = None) -> Barrier:
        """Send a ping; `action` runs in the reader when its answer comes.

        Raises:
            LinkDown: it could not be sent.
        """
        barrier, token = Barrier(number, action), self._barriers.new_token()
        self._barriers.add(token, barrier)
        # Only after adding it: a link that breaks from now on breaks the barrier as well.
        if number != self.link_number or not self.live.is_set():
            self._barriers.pop(token)
            raise LinkDown("the link to Redis broke")
        link.ping(token)
        return barrier

    def stop(self) -> None:
        """End the current session and begin none."""
        self._stopping.set()
        link = self._link
        if link is not None:
            link.interrupt()

    # The reader's own greenlet

    def run(self) -> None:
        """Sessions until `stop`. Nothing but that ends it."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                self._session()
            except MessageTooLarge as error:
                self._metrics.broker_oversize += 1
                self._note(str(error))
            except (LinkDown, TidingsError, OSError, redis_module().RedisError) as error:
                self._note(reason_of(error))
            except Exception:
                logger.exception("a mistake in the broker's reader; it starts again")
                self._note("internal")
            attempt = 0 if self.live.is_set() else attempt + 1
            self._down()
            if not self._stopping.is_set():
                self._stopping.wait(delay_s(attempt, base_s=BACKOFF_BASE_S, cap_s=BACKOFF_CAP_S))

    def _note(self, text: str) -> None:
        if not self._stopping.is_set():
            level = logging.WARNING if text != self.last_error else logging.DEBUG
            logger.log(level, "the link to Redis is down: %s", text)
        self.last_error = text

    def _down(self) -> None:
        if self.live.is_set():
            self.since_s = time.time()
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
        self._greet()
        link.subscribe([self._keys.control, self._inbox.canary_name])
        self._subscribe_all(link, items)
        self._resync(link, items)
        self.since_s = time.time()
        self._metrics.broker_connected = 1
        self._metrics.broker_reconnects += self.link_number > 1
        if self.last_error:
            logger.warning("the link to Redis is up again")
        self.last_error = ""
        self.live.set()
        self._take(link, items)
        self._listen(link)

    def _connect(self) -> PubSubLink:
        address, timeout_s, max_bytes = self._address, CONNECT_TIMEOUT_S, self._limits.link_max_bytes
        if self._keys.sharded:
            return ShardedPubSubLink(address, self._keys.control, timeout_s=timeout_s, max_bytes=max_bytes)
        return PubSubLink(address, timeout_s=timeout_s, max_bytes=max_bytes)

    def _subscribe_all(self, link: PubSubLink, items: deque[Any]) -> None:
        """Chunk by chunk, each confirmed before the next: Redis must not have to buffer all the answers."""
        channels = self._interests.claim_for_link(self.link_number)
        for channel in self._positions.channels():
            if channel not in self._interests:
                self._positions.forget(channel)
        for start in range(0, len(channels), _SUBSCRIBE_CHUNK):
            link.subscribe([self._keys.pubsub(channel) for channel in channels[start : start + _SUBSCRIBE_CHUNK]])
            self._pump(link, items)
        self._metrics.broker_channels += self._interests.pop_size_change()

    def _pump(self, link: PubSubLink, items: deque[Any]) -> None:
        """Read until everything that Redis sent so far is in `items`."""
        token = self._barriers.new_token()
        link.ping(token)
        end_s = time.monotonic() + self._limits.timeout_s
        room = self._limits.held_max_bytes - sum(_size(item) for item in items)
        while time.monotonic() < end_s:
            answered = False
            for item in link.read(ANSWER_S):
                if _pong(item) == token:
                    # What the same read brought after the answer counts, too.
                    answered = True
                    continue
                room -= _size(item)
                if room >= 0 or _size(item) == 0:
                    items.append(item)
                else:
                    # Found missing and repaired by the channel's next publication or the next check.
                    self._metrics.broker_held_dropped += 1
            if answered:
                return
        raise LinkDown("Redis did not answer a ping")

    def _resync(self, link: PubSubLink, items: deque[Any]) -> None:
        """Bring every tracked channel to where the broker is, or tell that it cannot be."""
        pasts = self._repairs.lookup_all()
        before = len(items)
        self._pump(link, items)
        held = [one for one in (self._inbox.publication(item, count=False) for item in items) if one is not None]
        if self._repairs.apply_resync(pasts, held):
            # Whatever emptied Redis took the rules as well.
            self._greet()
        logger.debug("resynchronised %d channels, %d items held", len(self._positions), len(items) - before)
        items.append(_HELD_ENDS)

    def _listen(self, link: PubSubLink) -> None:
        asked = False
        while not self._stopping.is_set():
            items = link.read(ANSWER_S if asked else QUIET_S)
            if items:
                asked = False
                self._take(link, deque(items))
                # Let others run, however much there is to read.
                time.sleep(0)
            elif asked:
                raise LinkDown("Redis did not answer a ping")
            else:
                link.ping(_HEARTBEAT)
                asked = True

    def _take(self, link: PubSubLink, items: deque[Any]) -> None:
        """Deal with what the link brought, in order; deliver it as one batch as far as that can be."""
        batch: list[Publication] = []
        self._metrics.broker_bytes += link.pop_bytes_read()
        while items:
            item = items.popleft()
            if item is _HELD_ENDS:
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
            token = _pong(item)
            if token is None:
                self._other(item)
            elif token != _HEARTBEAT:
                self._repairs.deliver(batch)
                batch = []
                self._pass(link, token, items)
        self._repairs.deliver(batch)

    def _pass(self, link: PubSubLink, token: bytes, items: deque[Any]) -> None:
        barrier = self._barriers.pop(token)
        if barrier is not None:
            barrier.run()
        if self._repairs.needs_resync:
            self._repairs.needs_resync = False
            if self._keys.sharded:
                # A node that was cut off from its cluster does not say that the slot is served elsewhere by now.
                raise LinkDown("a new epoch began; the bucket may be on another node")
            self._resync(link, items)

    def _other(self, item: Any) -> None:
        kind = item[0] if isinstance(item, list) and item else item
        if kind == b"unsubscribe" and isinstance(item[1], bytes):
            channel = self._inbox.channel(item[1])
            if channel is not None and (channel not in self._interests or self._interests.is_pending(channel)):
                self._positions.forget(channel)
        elif kind == b"message":
            self._inbox.on_control(item)
        elif isinstance(kind, Exception):
            raise LinkDown(f"Redis refused a subscription: {kind}")

    def _inspect(
        self, link: PubSubLink, item: Any, publication: Publication, batch: list[Publication], items: deque[Any]
    ) -> list[Publication]:
        """Ask the broker about a publication that is not simply the next one. Returns the batch to go on with."""
        ruling = self._repairs.inspect(publication)
        if isinstance(ruling, Repair):
            return self._repairs.apply_repair(ruling, publication, batch)
        if ruling is Anomaly.REPLAYED:
            self._metrics.broker_replays += 1
        elif ruling is Anomaly.FORGED:
            self._inbox.count_foreign("a publication that was never made", publication.channel)
        else:
            self._repairs.deliver(batch)
            items.appendleft(item)
            if ruling is Anomaly.REGRESSION:
                self._repairs.rotate_epoch()
            self._resync(link, items)
            return []
        return batch


def _pong(item: Any) -> bytes | None:
    """The token of an answer to PING: a list while subscribed (RESP2), otherwise the token alone."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, list) and len(item) == 2 and item[0] == b"pong":
        return bytes(item[1])
    return None


def _size(item: Any) -> int:
    if isinstance(item, list) and len(item) == 3 and isinstance(item[2], bytes):
        return len(item[2])
    return 0
