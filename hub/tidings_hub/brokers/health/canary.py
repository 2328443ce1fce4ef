"""The canary of one sequence: a publication of a node to itself, on the path of every other publication.

It is numbered, stored and published by the same script, with the same connections and the same rights. So what makes
every publish fail makes the canary fail: Redis without free memory (OOM), too few replicas (NOREPLICAS), a replica
instead of a master (READONLY), failed snapshots (MISCONF), a missing right (NOPERM).

Then the node reads it back, as it reads what a client or the node itself has missed. What makes every such read fail
makes the canary fail as well. Otherwise no client would recover, and nothing would say so.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from tidings.errors import TidingsError, TimedOut, Unavailable
from tidings.publishers.base import OutgoingPublication
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.redis_client.keys import RedisKeys
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.inbox import Inbox
from tidings_hub.brokers.lookup_script import LookupRequest, pack_lookup, read_message_count, since_script
from tidings_hub.brokers.redis_commands import RedisCommands

# The rule of the reserved namespace, as Redis stores it: a history of about one publication, for a minute.
CANARY_NAMESPACE: Final = b"canary"
CANARY_RULE: Final = b"1 60"
# For the last step, if the time is over when it begins. `node.readiness` allows for it.
_LAST_STEP_S: Final = 0.5


class StoredRules(Protocol):
    """The part of the rules in Redis that this module uses."""

    def restore(self, *, timeout_s: float | None = None) -> None:
        """Write the rules that Redis lacks."""


class Canary:
    """Publishes to the node's own channel `canary:<node id>` and waits until the reader receives it."""

    def __init__(
        self,
        keys: RedisKeys,
        inbox: Inbox,
        publisher: RedisPublisher,
        commands: RedisCommands,
        limits: BrokerLimits,
        rules: StoredRules,
        *,
        link_error: Callable[[], str],
    ) -> None:
        self._keys = keys
        self._inbox = inbox
        self._publisher = publisher
        self._commands = commands
        self._limits = limits
        self._rules = rules
        self._link_error = link_error

    def send(self) -> float:
        """Send one canary. Returns the seconds until it arrived.

        All of it takes about `canary_timeout_s`, so a part that does not answer does not delay the canaries of others.

        Raises:
            Unavailable: Redis rejected it or does not return it, or it did not arrive within `canary_timeout_s`.
            TimedOut: no reply in time.
        """
        timeout_s = self._limits.canary_timeout_s
        token = secrets.token_hex(8)
        event = self._inbox.canaries[token.encode()] = threading.Event()
        start_s = time.monotonic()
        end_s = start_s + timeout_s
        # Without an id of its own: nothing repeats it, and Redis stores no id.
        item = OutgoingPublication(self._inbox.canary_channel, token.encode(), token, 0)
        try:
            result = self._publisher.publish([item], timeout_s=timeout_s)[0]
            if isinstance(result, TidingsError):
                if not isinstance(result, TimedOut):
                    # It may have no rule for canaries: Redis evicted it, or a hub of version 0.1 wrote its own. If that
                    # fails as well, the cause is still that of the canary.
                    with suppress(TidingsError):
                        self._rules.restore(timeout_s=_left_s(end_s))
                raise Unavailable(f"a canary was not published: {result}") from result
            if not event.wait(max(0.0, end_s - time.monotonic())):
                cause = self._link_error() or "the link to Redis receives nothing"
                raise Unavailable(f"a canary did not arrive within {timeout_s:g} s: {cause}")
        finally:
            del self._inbox.canaries[token.encode()]
        trip_s = time.monotonic() - start_s
        self._read_back(Cursor.parse(result.cursor), end_s)
        return trip_s

    def _read_back(self, cursor: Cursor, end_s: float) -> None:
        """Read it in both ways: oldest first, as repairs do, and newest first, as clients recover.

        Raises:
            Unavailable: Redis rejected the read, or does not return the canary. TimedOut: no reply in time.
        """
        channel, limits = self._inbox.canary_channel, self._limits
        oldest = LookupRequest([channel], {channel: cursor.seq - 1}, bytes_max=limits.message_max_bytes)
        requests = (oldest, replace(oldest, channel_bytes_max=limits.message_max_bytes))
        packed = b"".join(pack_lookup(self._keys, request, limits) for request in requests)
        for reply in self._commands.run(packed, 2, (since_script(),), timeout_s=_left_s(end_s)):
            position, count = read_message_count(reply)
            # In a new epoch nothing of the old one is returned.
            if position.epoch == cursor.epoch and not count:
                raise Unavailable(
                    "a canary was published, but Redis does not return it from its stream: nothing can be recovered."
                    " Does its ACL allow XRANGE and XREVRANGE?"
                )


def _left_s(end_s: float) -> float:
    return max(_LAST_STEP_S, end_s - time.monotonic())
