"""Turns at the broker: one greenlet that tells it who is here, and that this node lives.

At once when something changed, at most ten times a second, and otherwise often enough to keep the node's
lease. A turn that fails is tried again: what is written is always the state, never the step.
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

logger = logging.getLogger("tidings.wire.presence")

# Between two turns: joins of a storm are written, and told, in batches.
_PAUSE_S = 0.1
_AGAIN_S = 0.5
# A turn is due this often, and well within the lease: dead nodes are found, counts told, a forgetful broker noticed.
_BEAT_S = 1.0
_LEASE_SHARE = 4
_SETTLE_S = 5.0
# Changes of one turn, and entries of dead nodes that it removes: some ms of Redis' time.
_CHUNK = 500
_ROUNDS_MAX = 5


class PresenceSync:
    """Keeps the broker's knowledge of this node's users up to date. `namespaces`: those with presence."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        metrics: Metrics,
        namespaces: Sequence[str],
        *,
        now_s: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._metrics = metrics
        self._namespaces = namespaces
        self._now_s = now_s
        self._local = LocalPresence(grace_s=settings.presence_grace_s)
        # Held for a few steps only, never while anything waits: the pump may take it.
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._settling: list[threading.Event] = []
        self._thread: threading.Thread | None = None
        self._writing = False
        self._stopping = False
        self._beat_at_s = 0.0
        self._needs_reset = False
        self._node, self._epoch = self._new_incarnation(), ""

    def start(self) -> None:
        """Begin. Idempotent."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="tidings-presence", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last turn, which leaves the node a lease of one grace, and end."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_SETTLE_S)

    def set_namespaces(self, namespaces: Sequence[str]) -> None:
        """These have presence now; the broker is told with a new life of the node."""
        self._namespaces, self._needs_reset = namespaces, True
        self._wake.set()

    # Changes of who is here. They never wait; the broker is told soon.

    def join(self, user: str, channels: Collection[str], info: bytes) -> None:
        """See `Roster.enter`."""
        with self._lock:
            self._local.join(channels, user, info)
        self._noted()

    def update_info(self, user: str, channels: Collection[str], info: bytes) -> None:
        """See `Roster.inform`."""
        with self._lock:
            self._local.update_info(channels, user, info)
        self._noted()

    def leave(self, user: str, channels: Collection[str]) -> None:
        """See `Roster.leave`."""
        with self._lock:
            self._local.leave(channels, user, now_s=self._now_s())
        self._noted()

    def _noted(self) -> None:
        self._metrics.presence_users = len(self._local)
        self._wake.set()

    def flush(self) -> None:
        """Wait until the broker knows what this node knows now.

        Raises:
            Unavailable: it cannot be told.
        """
        if not (self._needs_reset or self._local.has_changes or self._writing):
            return
        done = threading.Event()
        self._settling.append(done)
        self._wake.set()
        if not done.wait(_SETTLE_S):
            raise Unavailable(f"the broker was not told within {_SETTLE_S:g} s who is here; ask again later")

    # The greenlet that takes turns

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._pause_s())
            self._wake.clear()
            self._try()
            if not self._stopping:
                time.sleep(_PAUSE_S)
        self._end()

    def _pause_s(self) -> float:
        due_s, end_s = self._beat_at_s, self._local.next_expiry_s()
        return max(0.0, (due_s if end_s is None else min(due_s, end_s)) - self._now_s())

    def _try(self) -> None:
        try:
            if self._needs_reset or self._local.has_changes or self._settling or self._pause_s() == 0:
                self._write_all()
        except HubError as error:
            self._metrics.presence_errors += 1
            log_rate_limited(logger, logging.WARNING, "turn", "who is here could not be written: %s", error)
            self._beat_at_s = self._now_s() + _AGAIN_S
            time.sleep(_AGAIN_S)
        except Exception:
            self._metrics.presence_errors += 1
            logger.exception("a mistake in presence; it goes on")
            time.sleep(_BEAT_S)

    def _write_all(self) -> None:
        self._writing = True
        settling, self._settling = self._settling, []
        with self._lock:
            if self._needs_reset:
                self._needs_reset = False
                self._reset()
            left = self._local.pop_changes(self._now_s())
        try:
            self._write(left)
        except BaseException:
            with self._lock:
                self._local.restore_changes(left)
            self._settling += settling
            raise
        finally:
            self._writing = False
            self._metrics.presence_users = len(self._local)
        for done in settling:
            done.set()

    def _write(self, left: list[PresenceChange]) -> None:
        """Write these changes (all that is here, where the broker has forgotten it), and renew the lease."""
        lives = 0
        while True:
            chunk = left[:_CHUNK]
            turned = self._turn(chunk, lease_s=self._settings.presence_lease_s)
            if turned.known:
                self._epoch = turned.epoch
                del left[: len(chunk)]
                if not left and not turned.more:
                    pause_s = min(_BEAT_S, self._settings.presence_lease_s / _LEASE_SHARE)
                    self._beat_at_s = self._now_s() + pause_s
                    return
                continue
            lives += 1
            if lives > _ROUNDS_MAX:
                raise Unavailable("the broker keeps forgetting this node")
            self._metrics.presence_begun_anew += 1
            with self._lock:
                self._reset()
                left[:] = self._local.pop_changes(self._now_s())

    def _turn(self, changes: list[PresenceChange], *, lease_s: float) -> PresenceUpdateResult:
        settings, metrics = self._settings, self._metrics
        turned = self._broker.update_presence(
            PresenceUpdate(
                self._node,
                self._epoch,
                lease_s,
                changes,
                () if self._epoch else self._namespaces,
                settings.presence_list_max,
                settings.publication_max_bytes,
                _CHUNK,
            )
        )
        metrics.presence_turns += 1
        metrics.presence_joins += turned.joined
        metrics.presence_leaves += turned.left
        metrics.presence_ended += turned.ended
        return turned

    def _end(self) -> None:
        try:
            self._write_all()
            self._turn([], lease_s=self._settings.presence_grace_s)
        except TidingsError as error:
            logger.info("this node's users stay until its lease ends: %s", error)
        for done in self._settling:
            done.set()

    def _reset(self) -> None:
        self._node, self._epoch = self._new_incarnation(), ""
        self._local.mark_all_changed()

    def _new_incarnation(self) -> str:
        return f"{self._settings.node_id}.{secrets.token_hex(4)}"
