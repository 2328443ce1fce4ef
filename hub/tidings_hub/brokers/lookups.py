"""Runs the lookups of all callers in shared round trips to Redis.

Lookups that are submitted during one round trip wait, and the next round trip runs all of them. So when many clients
reconnect at the same time, a few round trips suffice, and one barrier on the link serves all lookups of a round.

Lookups of a round that read the history of the same channel share one read (`core.herd.shared_reads`). It begins after
all of them were submitted, so after the subscriptions of their clients became active.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from tidings.errors import HubError, Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings_hub.brokers.base import BrokerLimits, HistorySnapshot
from tidings_hub.brokers.health.call_guard import CallGuard
from tidings_hub.brokers.health.namespace_rules import NamespaceRules
from tidings_hub.brokers.herd.shared_lookups import Lookup, share_lookups
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.lookup_script import (
    LookupRequest,
    pack_lookup,
    read_lookup,
    since_script,
)
from tidings_hub.brokers.pubsub_link import LinkDown, PubSubLink
from tidings_hub.brokers.reader import Reader
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.brokers.repair import COMPARE_CHUNK, LOOKUP_CHUNK, Repairs
from tidings_hub.brokers.resync.channel_checks import ChannelChecks
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

_TICK_S = 1.0
_DOWN_TICK_S = 0.1
# Lookups of one round. recovery_round_max_bytes bounds its data, so this only bounds the work between two checks.
_ROUND_MAX = 512
# Clients whose lookups are done continue in groups, and the node serves its other clients between two groups. A client
# that receives what it missed needs about 0.5 ms, another one about 0.2 ms. Each pause costs a turn of the event loop.
_WAKE_MAX = 64
_WAKE_MAX_WITH_DATA = 16
_RETRY_S = 0.02
# Callers do not wait for a link that is down for longer. A link that breaks is back within this time.
_DOWN_MAX_S = 1.0


class Lookups:
    """Runs rounds of lookups, and the checks of channels between them."""

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
        rules: NamespaceRules,
    ) -> None:
        self._keys = keys
        self._commands = commands
        self._interests = interests
        self._reader = reader
        self._repairs = repairs
        self._limits = limits
        self._guard = CallGuard("channels", metrics, timeout_s=limits.timeout_s)
        self._metrics = metrics
        self._waiting: deque[Lookup] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._down_since_s: float | None = None
        self._checks = ChannelChecks(
            keys,
            commands,
            interests,
            reader,
            repairs,
            limits=limits,
            metrics=metrics,
            rules=rules,
        )
        self._check_broker_at_s = 0.0

    # For other greenlets

    def admit(self) -> None:
        """Return if a lookup may begin.

        Raises:
            Unavailable: Redis does not answer, and another caller is trying.
        """
        if self._reader.live.is_set():
            self._note_up()
        self._guard.admit()

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
            if not self._stopping:
                self._guard.fail(lookup.deadline_s - self._limits.timeout_s)
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
            if self._reader.live.is_set() and not self._checks.has_steps():
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
            self._checks.finish(*current)
        except (LinkDown, HubError) as error:
            logger.warning("the last check for lost publications failed: %s", error)

    def _run_round(self) -> None:
        current = self._reader.live_link()
        if current is None:
            self._reader.live.wait(_DOWN_TICK_S)
            current = self._reader.live_link()
            if current is None:
                self._drop_expired()
                self._note_down()
                return
        self._note_up()
        link, number = current
        now_s = time.monotonic()
        self._checks.remove_due(link, number, now_s)
        if now_s >= self._check_broker_at_s:
            self._check_broker_at_s = now_s + _TICK_S
            self._checks.check_broker(link, number, now_s)
        while self._waiting and not self._stopping:
            self._run_waiting(link, number)
            # Callers come first, but with many of them the other work continues as well.
            self._checks.run_step(link, number)
        self._checks.run_step(link, number)

    def _note_up(self) -> None:
        if self._down_since_s is not None:
            self._down_since_s = None
            self._guard.succeed()

    def _note_down(self) -> None:
        """Let callers fail at once if the link stays down."""
        now_s = time.monotonic()
        if self._down_since_s is None:
            self._down_since_s = now_s
        elif now_s > self._down_since_s + _DOWN_MAX_S and self._guard.is_closed:
            self._guard.fail(self._down_since_s)

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
            self._read(link, number, [lookup for lookup in waiting if not lookup.activates])
        except (LinkDown, HubError) as error:
            for lookup in waiting:
                lookup.error = str(error)
            raise
        finally:
            unfinished = [lookup for lookup in waiting if not lookup.done.is_set]
            self._waiting.extendleft(reversed(unfinished))
            if unfinished:
                self._wake.set()

    def _activate(self, link: PubSubLink, number: int, lookups: list[Lookup]) -> None:
        """Subscribe to the channels of these lookups, in steps: the first callers need not wait for the last."""
        group: list[Lookup] = []
        channels: dict[str, None] = {}
        for lookup in lookups:
            if group and len(channels) + len(lookup.request.channels) > COMPARE_CHUNK:
                self._activate_group(link, number, group, list(channels))
                group, channels = [], {}
            group.append(lookup)
            channels |= dict.fromkeys(lookup.request.channels)
        if group:
            self._activate_group(link, number, group, list(channels))

    def _activate_group(self, link: PubSubLink, number: int, lookups: list[Lookup], channels: list[str]) -> None:
        position = self._checks.verify(link, number, channels, refresh=True)
        if position:
            active = [
                lookup
                for lookup in lookups
                if not any(self._interests.is_pending(channel) for channel in lookup.request.channels)
            ]
            self._finish([(lookup, HistorySnapshot(position, {})) for lookup in active], _WAKE_MAX)

    def _read(self, link: PubSubLink, number: int, lookups: list[Lookup]) -> None:
        """Read what the clients of these lookups missed: each channel once for all of them."""
        # One after the other: the clients of the first read have received its data before the next one is read.
        for shared in share_lookups(
            lookups, channels_max=LOOKUP_CHUNK, bytes_max=self._limits.recovery_round_max_bytes
        ):
            snapshot = self._lookup(link, number, shared.request)
            if snapshot is None:
                return
            results = list(shared.results(snapshot))
            self._metrics.recoveries_deferred += len(shared.lookups) - len(results)
            self._finish(results, _WAKE_MAX_WITH_DATA)
            first = shared.lookups[0]
            if not first.done.is_set:
                # A read of its own, so that each round completes at least one lookup.
                self._read(link, number, [first])

    def _finish(self, results: list[tuple[Lookup, HistorySnapshot]], group_max: int) -> None:
        if results:
            self._guard.succeed()
        for count, (lookup, snapshot) in enumerate(results, start=1):
            lookup.snapshot = snapshot
            lookup.done.set()
            if count % group_max == 0:
                time.sleep(0)

    def _lookup(self, link: PubSubLink, number: int, request: LookupRequest) -> HistorySnapshot | None:
        """Run one request, wait until the link has received everything up to it, and apply it.

        Returns None if the result is useless: then try again.
        """
        floor = self._repairs.positions.cursor
        reply = self._commands.run(pack_lookup(self._keys, request, self._limits), 1, (since_script(),))
        snapshot = read_lookup(request, reply[0], self._limits)
        usable: list[bool] = []

        def apply() -> None:
            usable.append(self._repairs.apply_lookup(snapshot, floor, activates=False))

        self._reader.pass_barrier(link, number, apply)
        return snapshot if all(usable) else None
