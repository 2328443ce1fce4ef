"""The checks of channels that no caller waits for: after a reconnect, before a removal, and for lost publications.

They compare pointers with the broker in steps of `COMPARE_CHUNK` channels, so that lookups of callers run in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits, HistorySnapshot
from tidings_hub.brokers.health.namespace_rules import NamespaceRules
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.lookup_script import (
    ComparisonRequest,
    LookupRequest,
    compare_script,
    pack_comparison,
    pack_lookup,
    read_comparison,
    read_lookup,
    since_script,
)
from tidings_hub.brokers.pubsub_link import PubSubLink
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.brokers.repair import COMPARE_CHUNK, LOOKUP_CHUNK, Repairs
from tidings_hub.metrics import Metrics

# The lifetime of pointers of channels in use is extended this often, much more often than the shortest `pointer_ttl_s`
# requires.
_REFRESH_EVERY_S = 3600.0


class _Reader(Protocol):
    def pass_barrier(self, link: PubSubLink, number: int, action: Callable[[], None] | None = None) -> None: ...


class ChannelChecks:
    """Compares channels with the broker. Only the greenlet of the lookups calls it."""

    def __init__(
        self,
        keys: RedisKeys,
        commands: RedisCommands,
        interests: Interests,
        reader: _Reader,
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
        self._metrics = metrics
        self._rules = rules
        # What the current position check has still to compare, the next ones at the end.
        self._to_check: list[str] = []
        self._refreshes = False
        self._check_at_s = 0.0
        self._refresh_at_s = 0.0

    def remove_due(self, link: PubSubLink, number: int, now_s: float) -> None:
        """Remove channels without a listener, one step per round."""
        due = self._interests.due(now_s, COMPARE_CHUNK)
        if not due:
            return
        # The last chance to detect a loss in these channels.
        self.compare(link, number, due)
        removed = self._interests.remove(due, now_s)
        if removed:
            link.unsubscribe([self._keys.pubsub(channel) for channel in removed])
        self._count_channels()

    def _count_channels(self) -> None:
        self._metrics.broker_channels += self._interests.pop_size_change()
        self._metrics.broker_channels_unverified += self._interests.pop_unverified_change()

    def has_steps(self) -> bool:
        """Whether there is work for `run_step`, or a channel to remove."""
        return bool(self._to_check or self._interests.next_unverified(1) or self._interests.due(time.monotonic(), 1))

    def run_step(self, link: PubSubLink, number: int) -> None:
        """Do one bounded part of the work that no caller waits for: verify channels, then check positions."""
        if channels := self._interests.next_unverified(COMPARE_CHUNK):
            self.verify(link, number, channels, refresh=False)
        elif self._to_check:
            part = self._to_check[-COMPARE_CHUNK:]
            del self._to_check[-COMPARE_CHUNK:]
            self.compare(link, number, part, refresh=self._refreshes)

    def verify(self, link: PubSubLink, number: int, channels: list[str], *, refresh: bool) -> Cursor | None:
        """Subscribe to these channels and compare them with the broker, which activates or repairs them.

        `refresh`: extend the TTL of their pointers.

        Returns the broker's position, or None if the result is useless: then try again.
        """
        position = None
        for start in range(0, len(channels), COMPARE_CHUNK):
            part = channels[start : start + COMPARE_CHUNK]
            fresh = self._interests.claim_for_link(number, part)
            if fresh:
                link.subscribe([self._keys.pubsub(channel) for channel in fresh])
                self._reader.pass_barrier(link, number)
            position = self.compare(link, number, part, refresh=refresh, activates=True)
            if position is None:
                break
            self._interests.mark_verified(part)
        self._count_channels()
        return position

    def compare(
        self, link: PubSubLink, number: int, channels: Sequence[str], *, refresh: bool = False, activates: bool = False
    ) -> Cursor | None:
        """Compare at most `COMPARE_CHUNK` channels with the broker, and repair those that are behind.

        Returns the broker's position, or None if the result is useless.
        """
        positions = self._repairs.positions
        floor = positions.cursor
        after = {channel: last for channel in channels if (last := positions.last_seq(channel)) is not None}
        request = ComparisonRequest(channels, after, refresh)
        packed = pack_comparison(self._keys, request, self._limits)
        snapshot, undecided = read_comparison(request, self._commands.run(packed, 1, (compare_script(),))[0])
        parts = [undecided[start : start + LOOKUP_CHUNK] for start in range(0, len(undecided), LOOKUP_CHUNK)]
        snapshots = [snapshot, *map(self._lookup, parts)]
        is_usable = self._apply(link, number, snapshots, floor, activates=activates)
        return snapshots[-1].position if is_usable else None

    def _apply(
        self,
        link: PubSubLink,
        number: int,
        snapshots: Sequence[HistorySnapshot],
        floor: Cursor | None,
        *,
        activates: bool = False,
    ) -> bool:
        """Apply lookups once the link has received everything up to them. Returns whether all were usable."""
        usable: list[bool] = []

        def apply() -> None:
            usable.extend([self._repairs.apply_lookup(result, floor, activates=activates) for result in snapshots])

        self._reader.pass_barrier(link, number, apply)
        return all(usable)

    def _lookup(self, channels: Sequence[str]) -> HistorySnapshot:
        """Look up channels of which a comparison decides nothing. Only their pointers are read."""
        request = LookupRequest(channels)
        reply = self._commands.run(pack_lookup(self._keys, request, self._limits), 1, (since_script(),))
        return read_lookup(request, reply[0], self._limits)

    def check_broker(self, link: PubSubLink, number: int, now_s: float) -> None:
        """Detect what no message shows: a new epoch without traffic, missing rules, lost last messages of a channel."""
        self._rules.restore()
        floor = self._repairs.positions.cursor
        # It also keeps the marks of the horizon.
        self._apply(link, number, [self._lookup([])], floor)
        # If the last check is not finished, this node has no time for the next one.
        if self._to_check or (now_s < self._check_at_s and not self._repairs.needs_check):
            return
        self._check_at_s = now_s + self._limits.position_check_s
        refreshes = now_s >= self._refresh_at_s and len(self._repairs.positions) > 0
        if refreshes:
            self._refresh_at_s = now_s + _REFRESH_EVERY_S
        self._begin_check(refreshes=refreshes)

    def _begin_check(self, *, refreshes: bool) -> None:
        """Begin to compare all channels. `run_step` does it in parts, those with the newest publications first."""
        self._repairs.needs_check = False
        self._refreshes = refreshes
        self._to_check = self._repairs.positions.by_traffic()[::-1]
        self._metrics.position_checks += 1

    def finish(self, link: PubSubLink, number: int) -> None:
        """Compare every channel once more."""
        self._begin_check(refreshes=False)
        while self._to_check:
            # First those that are not verified since the last reconnect.
            self.run_step(link, number)
