"""Runs the lookups of all callers in shared round trips to Redis.

Lookups that are submitted during one round trip wait, and the next round trip runs all of them. So when many clients
reconnect at the same time, a few round trips suffice, and one barrier on the link serves all lookups of a round.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tidings.errors import HubError, Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import pack
from tidings_hub.brokers.barriers import Barrier
from tidings_hub.brokers.base import BrokerLimits, HistorySnapshot
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.lookup_script import LookupRequest, pack_lookup, read_lookup, since_script
from tidings_hub.brokers.pubsub_link import LinkDown, PubSubLink
from tidings_hub.brokers.reader import Reader
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.brokers.repair import LOOKUP_CHUNK, Repairs
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

_TICK_S = 1.0
_DOWN_TICK_S = 0.1
# Together with recovery_max_bytes it bounds the data of one round.
_ROUND_MAX = 64
_RETRY_S = 0.02
_REFRESH_EVERY_S = 3600.0


@dataclass(slots=True)
class Lookup:
    """One lookup and its result. `activates`: subscribe to the channels of `request` and make them active."""

    request: LookupRequest
    deadline_s: float
    activates: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    snapshot: HistorySnapshot | None = None
    error: str = ""


class Lookups:
    """Runs rounds of lookups. Between rounds it unsubscribes unused channels and checks positions."""

    def __init__(
        self,
        keys: RedisKeys,
        commands: RedisCommands,
        interests: Interests,
        reader: Reader,
        repairs: Repairs,
        *,
        limits: BrokerLimits,
        metrics: Metrics,
        write_rules: Callable[[], None],
    ) -> None:
        self._keys = keys
        self._commands = commands
        self._interests = interests
        self._reader = reader
        self._repairs = repairs
        self._limits = limits
        self._metrics = metrics
        self._write_rules = write_rules
        self._waiting: deque[Lookup] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._check_at_s = 0.0
        self._refresh_at_s = 0.0
        self._check_broker_at_s = 0.0

    # For other greenlets

    def submit(self, request: LookupRequest, *, activates: bool = False) -> Lookup:
        """Queue a lookup without waiting for it. Use `wait_for` for its result."""
        lookup = Lookup(request, time.monotonic() + self._limits.timeout_s, activates)
        self._waiting.append(lookup)
        self._wake.set()
        return lookup

    def wait_for(self, lookup: Lookup) -> HistorySnapshot:
        """The result of a submitted lookup.

        Raises:
            Unavailable: there was no result within `timeout_s`.
        """
        left_s = max(0.0, lookup.deadline_s - time.monotonic())
        is_done = not self._stopping and lookup.done.wait(left_s)
        self._metrics.broker_timeouts += not (is_done or self._stopping)
        if not is_done or lookup.snapshot is None:
            cause = lookup.error or self._reader.last_error or "no answer"
            raise Unavailable(f"the broker did not answer within {self._limits.timeout_s:g} s: {cause}")
        return lookup.snapshot

    def stop(self) -> None:
        """Stop. Waiting callers get `Unavailable`."""
        self._stopping = True
        self._wake.set()

    # Runs in its own greenlet

    def run(self) -> None:
        """Run rounds until `stop`. No error ends it."""
        while not self._stopping:
            if self._reader.live.is_set():
                self._wake.wait(_TICK_S)
            self._wake.clear()
            try:
                self._run_round()
            except (LinkDown, HubError) as error:
                logger.debug("a round of lookups failed: %s", error)
                time.sleep(_RETRY_S)
            except Exception:
                logger.exception("unexpected error in the broker's lookups; retrying")
                time.sleep(_TICK_S)
        self._check_finally()
        for lookup in self._waiting:
            lookup.done.set()

    def _check_finally(self) -> None:
        """Check positions before this node ends: no other node can detect what this node lost."""
        current = self._reader.live_link()
        if current is None:
            return
        try:
            self._check_positions(*current)
        except (LinkDown, HubError) as error:
            logger.warning("the last check for lost publications failed: %s", error)

    def _run_round(self) -> None:
        current = self._reader.live_link()
        if current is None:
            self._reader.live.wait(_DOWN_TICK_S)
            current = self._reader.live_link()
            if current is None:
                self._drop_expired()
                return
        link, number = current
        now_s = time.monotonic()
        due = self._interests.due(now_s)
        for start in range(0, len(due), LOOKUP_CHUNK):
            # The last chance to detect a loss in these channels.
            self._lookup(link, number, [LookupRequest(due[start : start + LOOKUP_CHUNK])], [])
        removed = self._interests.remove_due(now_s)
        for start in range(0, len(removed), LOOKUP_CHUNK):
            link.unsubscribe([self._keys.pubsub(channel) for channel in removed[start : start + LOOKUP_CHUNK]])
        self._metrics.broker_channels += self._interests.pop_size_change()
        if now_s >= self._check_broker_at_s:
            self._check_broker_at_s = now_s + _TICK_S
            self._check_broker(link, number, now_s)
        while self._waiting and not self._stopping:
            self._run_waiting(link, number)

    def _drop_expired(self) -> None:
        """Drop the lookups whose deadline has passed: their callers no longer wait."""
        now_s = time.monotonic()
        for _ in range(len(self._waiting)):
            lookup = self._waiting.popleft()
            if lookup.deadline_s > now_s:
                self._waiting.append(lookup)

    def _run_waiting(self, link: PubSubLink, number: int) -> None:
        """Run the waiting lookups, at most `_ROUND_MAX` of them."""
        now_s = time.monotonic()
        waiting = [self._waiting.popleft() for _ in range(min(len(self._waiting), _ROUND_MAX))]
        waiting = [lookup for lookup in waiting if lookup.deadline_s > now_s]
        try:
            self._activate(link, number, [lookup for lookup in waiting if lookup.activates])
            others = [lookup for lookup in waiting if not lookup.activates]
            self._lookup(link, number, [lookup.request for lookup in others], others)
        except (LinkDown, HubError) as error:
            for lookup in waiting:
                lookup.error = str(error)
            raise
        finally:
            unfinished = [lookup for lookup in waiting if not lookup.done.is_set()]
            self._waiting.extendleft(reversed(unfinished))
            if unfinished:
                self._wake.set()

    def _activate(self, link: PubSubLink, number: int, lookups: list[Lookup]) -> None:
        if not lookups:
            return
        channels = list(dict.fromkeys(channel for lookup in lookups for channel in lookup.request.channels))
        fresh = self._interests.claim_for_link(number, channels)
        for start in range(0, len(fresh), LOOKUP_CHUNK):
            link.subscribe([self._keys.pubsub(channel) for channel in fresh[start : start + LOOKUP_CHUNK]])
        if fresh:
            self._wait_until_passed(self._reader.barrier(link, number))
            self._metrics.broker_channels += self._interests.pop_size_change()
        requests = [
            LookupRequest(channels[start : start + LOOKUP_CHUNK], refresh=True)
            for start in range(0, len(channels), LOOKUP_CHUNK)
        ]
        snapshots = self._lookup(link, number, requests, [], activates=True)
        for lookup in lookups:
            if snapshots and not any(self._interests.is_pending(channel) for channel in lookup.request.channels):
                lookup.snapshot = snapshots[-1]
                lookup.done.set()

    def _lookup(
        self,
        link: PubSubLink,
        number: int,
        requests: list[LookupRequest],
        lookups: list[Lookup],
        *,
        activates: bool = False,
    ) -> list[HistorySnapshot]:
        """Run the requests in one round trip, wait until the link has received everything up to them, and apply them.

        Sets the results of `lookups`. Returns an empty list if the results are useless: then try again.
        """
        if not requests:
            return []
        floor = self._repairs.positions.cursor
        packed = b"".join([pack_lookup(self._keys, request, self._limits) for request in requests])
        replies = self._commands.run(packed, len(requests), (since_script(),))
        snapshots = [
            read_lookup(request, reply, self._limits) for request, reply in zip(requests, replies, strict=True)
        ]
        usable: list[bool] = []

        def apply() -> None:
            usable.extend([self._repairs.apply_lookup(snapshot, floor, activates=activates) for snapshot in snapshots])

        self._wait_until_passed(self._reader.barrier(link, number, apply))
        if not all(usable):
            return []
        for lookup, snapshot in zip(lookups, snapshots, strict=False):
            lookup.snapshot = snapshot
            lookup.done.set()
        return snapshots

    def _wait_until_passed(self, barrier: Barrier) -> None:
        if not barrier.passed.wait(self._limits.timeout_s) or not barrier.ok:
            raise LinkDown("the link to Redis broke")

    def _check_broker(self, link: PubSubLink, number: int, now_s: float) -> None:
        """Detect what no message shows: a new epoch without traffic, missing rules, lost last messages of a channel."""
        if self._commands.run(pack(b"EXISTS", self._keys.rules))[0] == 0:
            self._write_rules()
        if now_s < self._check_at_s:
            self._lookup(link, number, [LookupRequest([])], [])
            return
        self._check_at_s = now_s + self._limits.position_check_s
        refresh = now_s >= self._refresh_at_s
        if refresh and len(self._repairs.positions):
            self._refresh_at_s = now_s + _REFRESH_EVERY_S
        self._check_positions(link, number, refresh=refresh)

    def _check_positions(self, link: PubSubLink, number: int, *, refresh: bool = False) -> None:
        channels = self._repairs.positions.channels()
        self._metrics.position_checks += 1
        for start in range(0, max(1, len(channels)), LOOKUP_CHUNK):
            self._lookup(link, number, [LookupRequest(channels[start : start + LOOKUP_CHUNK], refresh=refresh)], [])
