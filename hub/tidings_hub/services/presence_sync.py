"""Presence sync: a greenlet that writes this node's members to one part of the broker, and renews its lease there.

It writes when something changed, at most ten times a second, and otherwise often enough to renew the lease. A failed
write is retried. An update always contains the state of a member, never the step, so a repeated write does no harm.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Sequence

from tidings.errors import HubError, TidingsError, Unavailable
from tidings.wire.presence import PresenceChange, PresenceUpdate, PresenceUpdateResult
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import Settings
from tidings_hub.core.local_presence import LocalPresence
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.presence")

# Seconds between two updates: the joins of a connection storm are written, and published, in batches.
_PAUSE_S = 0.1
_RETRY_S = 0.5
# Seconds between two updates without changes. Each update also removes members of dead nodes, publishes counts, and
# detects a broker that lost its data. It is well within the lease, and never more than a quarter of it.
_IDLE_INTERVAL_S = 1.0
_LEASE_SHARE = 4
_FLUSH_TIMEOUT_S = 5.0
# A broker that has answered no update for so long is away: no request waits for it.
_AWAY_S = 2.0
# Changes in one update, and members of dead nodes that it removes: a few milliseconds of Redis' time.
_CHUNK = 500
# Members whose changes are collected before other greenlets run: about 5 ms.
_PART = 5_000
_RESETS_MAX = 5


class PresenceSync:
    """Keeps this node's members in one part of the broker up to date. `namespaces`: those with presence.

    Each part has a sync of its own, so one that does not answer delays no other.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        metrics: Metrics,
        namespaces: Sequence[str],
        *,
        now_s: Callable[[], float],
        part: int = 0,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._part = part
        self._metrics = metrics
        self._namespaces = namespaces
        self._now_s = now_s
        self._local = LocalPresence(grace_s=settings.presence_grace_s)
        # This part's share of the metric.
        self._users_count = 0
        # Held for a few steps, never while waiting: the pump may take it.
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._flush_waiters: list[threading.Event] = []
        self._thread: threading.Thread | None = None
        self._is_writing = False
        self._is_stopping = False
        self._next_update_s = 0.0
        # When the first update began that failed, while updates fail.
        self._failed_since_s: float | None = None
        self._needs_reset = False
        self._node, self._epoch = self._new_incarnation(), ""

    def start(self) -> None:
        """Start the greenlet. Idempotent."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(
            target=SupervisedTask("presence", self._run, self._metrics), name="tidings-presence", daemon=True
        )
        self._thread.start()

    def begin_stop(self) -> None:
        """Send the remaining changes, shorten this node's lease to `presence_grace_s`, and stop. Never waits.

        Users who reconnect elsewhere within that time produce no leave event.
        """
        self._is_stopping = True
        self._wake.set()

    def wait_stopped(self) -> None:
        """Wait until it has stopped, at most as long as `flush`."""
        if self._thread is not None:
            self._thread.join(_FLUSH_TIMEOUT_S)

    def set_namespaces(self, namespaces: Sequence[str]) -> None:
        """Replace the namespaces with presence. The broker learns of them from a new incarnation of the node."""
        self._namespaces, self._needs_reset = namespaces, True
        self._wake.set()

    # Changes of this node's members. They never wait; the greenlet writes them soon.

    def join(self, user: str, channels: Collection[str], info: bytes) -> None:
        """See `LocalPresence.join`."""
        with self._lock:
            self._local.join(channels, user, info)
        self._on_changed()

    def update_info(self, user: str, channels: Collection[str], info: bytes) -> None:
        """See `LocalPresence.update_info`."""
        with self._lock:
            self._local.update_info(channels, user, info)
        self._on_changed()

    def leave(self, user: str, channels: Collection[str]) -> None:
        """See `LocalPresence.leave`."""
        with self._lock:
            self._local.leave(channels, user, now_s=self._now_s())
        self._on_changed()

    def _on_changed(self) -> None:
        self._count_users()
        self._wake.set()

    def _count_users(self) -> None:
        with self._lock:
            self._metrics.presence_users += len(self._local) - self._users_count
            self._users_count = len(self._local)

    def flush(self) -> None:
        """Wait until this part of the broker has all changes up to now.

        Raises:
            Unavailable: the broker did not accept them in time.
        """
        if not (self._needs_reset or self._local.has_changes or self._is_writing):
            return
        if self._failed_since_s is not None and self._now_s() - self._failed_since_s > _AWAY_S:
            raise Unavailable("the broker does not answer (presence); try again later")
        flushed = threading.Event()
        self._flush_waiters.append(flushed)
        self._wake.set()
        if not flushed.wait(_FLUSH_TIMEOUT_S):
            raise Unavailable(
                f"this node could not write its members to the broker within {_FLUSH_TIMEOUT_S:g} s; try again later"
            )

    # The greenlet

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.wait(self._wait_s())
            self._wake.clear()
            self._sync()
            if not self._is_stopping:
                time.sleep(_PAUSE_S)
        self._write_last_update()

    def _wait_s(self) -> float:
        update_s, expiry_s = self._next_update_s, self._local.next_expiry_s()
        return max(0.0, (update_s if expiry_s is None else min(update_s, expiry_s)) - self._now_s())

    def _sync(self) -> None:
        began_s = self._now_s()
        try:
            if self._needs_reset or self._local.has_changes or self._flush_waiters or self._wait_s() == 0:
                self._write_changes()
                self._failed_since_s = None
        except HubError as error:
            self._failed_since_s = began_s if self._failed_since_s is None else self._failed_since_s
            self._metrics.presence_errors += 1
            log_rate_limited(logger, logging.WARNING, "turn", "presence could not be written; retrying: %s", error)
            self._next_update_s = self._now_s() + _RETRY_S
            time.sleep(_RETRY_S)
        except Exception:
            self._metrics.presence_errors += 1
            logger.exception("unexpected error in presence sync; retrying")
            time.sleep(_IDLE_INTERVAL_S)

    def _write_changes(self) -> None:
        self._is_writing = True
        waiters, self._flush_waiters = self._flush_waiters, []
        try:
            with self._lock:
                if self._needs_reset:
                    self._needs_reset = False
                    self._reset()
            # Enough parts for every member. With more, members change faster than they are written.
            for _ in range(1 + len(self._local) // _PART):
                self._write_part()
                if not self._local.has_changes:
                    break
        except BaseException:
            self._flush_waiters += waiters
            raise
        finally:
            self._is_writing = False
            self._count_users()
        if self._local.has_changes:
            self._wake.set()
        for flushed in waiters:
            flushed.set()

    def _write_part(self) -> None:
        with self._lock:
            changes = self._local.pop_changes(self._now_s(), limit=_PART)
        try:
            self._write(changes)
        except BaseException:
            with self._lock:
                self._local.restore_changes(changes)
            raise

    def _write(self, changes: list[PresenceChange]) -> None:
        """Write the changes in chunks and renew the lease. Removes from `changes` what was written.

        If the broker has lost this node's data, it writes all members of the node instead.
        """
        resets = 0
        while True:
            chunk = changes[:_CHUNK]
            result = self._send(chunk, lease_s=self._settings.presence_lease_s)
            if result.known:
                self._epoch = result.epoch
                del changes[: len(chunk)]
                if not changes and not result.more:
                    pause_s = min(_IDLE_INTERVAL_S, self._settings.presence_lease_s / _LEASE_SHARE)
                    self._next_update_s = self._now_s() + pause_s
                    return
                continue
            resets += 1
            if resets > _RESETS_MAX:
                raise Unavailable("the broker keeps losing this node's presence")
            self._metrics.presence_begun_anew += 1
            with self._lock:
                self._reset()
                changes[:] = self._local.pop_changes(self._now_s(), limit=_PART)

    def _send(self, changes: list[PresenceChange], *, lease_s: float) -> PresenceUpdateResult:
        settings, metrics = self._settings, self._metrics
        result = self._broker.update_presence(
            PresenceUpdate(
                self._node,
                self._epoch,
                lease_s,
                changes,
                () if self._epoch else self._namespaces,
                settings.presence_list_max,
                settings.publication_max_bytes,
                _CHUNK,
            ),
            part=self._part,
        )
        metrics.presence_turns += 1
        metrics.presence_joins += result.joined
        metrics.presence_leaves += result.left
        metrics.presence_ended += result.ended
        return result

    def _write_last_update(self) -> None:
        try:
            self._write_changes()
            self._send([], lease_s=self._settings.presence_grace_s)
        except TidingsError as error:
            logger.info("this node's users stay members until its lease ends: %s", error)
        for flushed in self._flush_waiters:
            flushed.set()

    def _reset(self) -> None:
        self._node, self._epoch = self._new_incarnation(), ""
        self._local.mark_all_changed()

    def _new_incarnation(self) -> str:
        return f"{self._settings.node_id}.{secrets.token_hex(4)}"
