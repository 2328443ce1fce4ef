"""Moves notifications from a stream of Redis into the inbox: read, store in one transaction, acknowledge.

An entry is removed after the commit. If the process dies in between, the entry is read again, and the store recognizes
its id. So each notification is stored once, whenever and wherever the service fails.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from tidings.backoff import delay_s
from tidings.errors import BadConfig, HubError, Internal, TidingsError
from tidings.redis_client.connection import ConnectionLost
from tidings.wire.notification import Notification
from tidings_hub.log import log_rate_limited
from tidings_notifications.intake.entries import group_entries, read_entry
from tidings_notifications.intake.stream import DeadLetter, Entry, NotificationStream, Own
from tidings_notifications.metrics import ServiceMetrics

logger = logging.getLogger("tidings.notifications")

# How often a consumer looks for entries of others that have ended.
CLAIM_S: Final = 2.0
# How often it writes the rules again, in case that their key was deleted.
ANNOUNCE_S: Final = 10.0
# An entry that fails alone for a reason that nothing explains is tried so many times before it is dead-lettered.
ATTEMPTS_MAX: Final = 5
_REASON_MAX = 500
_RETRY_BASE_S = 0.1
_RETRY_CAP_S = 5.0
# A connection that lasted so long was healthy: the next attempt follows soon.
_HEALTHY_S = 10.0

# Stores a batch in one transaction: see `Inbox.store`.
Store = Callable[[Sequence[Notification]], Sequence[object]]


class StreamConsumer:
    """The consumer of one stream. `store`: stores a batch. `stopping`: set at the shutdown.

    `stored` of `/metrics` is counted by `store`. Run `run` in a thread.
    """

    def __init__(
        self,
        stream: NotificationStream,
        store: Store,
        *,
        publication_max_bytes: int,
        metrics: ServiceMetrics,
        stopping: threading.Event,
    ) -> None:
        self._stream = stream
        self._store = store
        self._max_bytes = publication_max_bytes
        self._metrics = metrics
        self._stopping = stopping
        self._own = Own.AFTER_START
        self.last_error = "not connected yet"

    @property
    def name(self) -> str:
        """The name of the stream."""
        return self._stream.name

    @property
    def is_connected(self) -> bool:
        """Whether it reads the stream."""
        return not self.last_error

    def run(self) -> None:
        """Consume until the service stops. If Redis is away, it connects again for ever."""
        attempt = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                self._stream.open()
                self._set_error("")
                self._consume()
            except ConnectionLost as error:
                self._set_error(str(error))
                log_rate_limited(
                    logger, logging.WARNING, f"intake {self._stream.name}", "intake interrupted: %s", error
                )
                attempt = 0 if time.monotonic() - started_s >= _HEALTHY_S else attempt + 1
                self._stopping.wait(delay_s(attempt, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S))
            finally:
                self._stream.close()
        self._set_error("stopped")

    def _consume(self) -> None:
        # What this consumer had read before its connection broke, or before the process ended, is older than the rest.
        while (pending := self._stream.take_pending(self._own)) and not self._stopping.is_set():
            self._process(pending)
        self._own = Own.AFTER_BREAK
        claim_at_s = announce_at_s = time.monotonic()
        while not self._stopping.is_set():
            now_s = time.monotonic()
            if now_s >= claim_at_s:
                claim_at_s = now_s + CLAIM_S
                self._process(self._stream.take_pending())
                self._metrics.waiting.labels(self._stream.name).set(self._stream.length())
            if now_s >= announce_at_s:
                announce_at_s = now_s + ANNOUNCE_S
                self._stream.announce()
            self._process(self._stream.read())
        self._stream.flush()

    def _process(self, entries: Sequence[Entry]) -> None:
        self._metrics.received.inc(len(entries))
        self._metrics.claimed.inc(sum(entry.is_claimed for entry in entries))
        for group in group_entries(entries):
            if not self._stopping.is_set():
                self._store_group(group)

    def _store_group(self, group: Sequence[Entry]) -> None:
        """Store some entries in one transaction. If something unexpected fails, each one alone."""
        attempt = 0
        while group and not self._stopping.is_set():
            try:
                group = self._attempt(group)
            except (HubError, BadConfig) as error:
                # The database is away, or lacks its tables: nothing is wrong with the entries.
                log_rate_limited(logger, logging.WARNING, "intake store", "not stored; retrying: %s", error)
            except ConnectionLost:
                raise
            except Exception as error:
                if len(group) > 1:
                    logger.exception("a batch of %d notifications failed; storing each one alone", len(group))
                    for entry in group:
                        self._store_group([entry])
                    return
                if isinstance(error, TidingsError):
                    self._bury(group[0], error.code.name, str(error))
                    return
                if attempt + 1 >= ATTEMPTS_MAX:
                    self._bury(group[0], Internal.code_name, f"{type(error).__name__}: {error}")
                    return
                log_rate_limited(logger, logging.WARNING, "intake alone", "not stored; retrying: %s", error)
            if group:
                self._stopping.wait(delay_s(attempt, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S))
                self._stream.touch()
                attempt += 1

    def _attempt(self, group: Sequence[Entry]) -> list[Entry]:
        """Store a group once. Returns the entries to try again.

        Raises:
            HubError: the database failed. ConnectionLost: Redis did; the group is stored, or none of it.
        """
        readings = [read_entry(entry, max_bytes=self._max_bytes) for entry in group]
        notifications = [reading for reading in readings if isinstance(reading, Notification)]
        results = iter(self._store(notifications) if notifications else ())
        answers = [next(results) if isinstance(reading, Notification) else reading for reading in readings]
        stored: list[Entry] = []
        dead: list[DeadLetter] = []
        again: list[Entry] = []
        for entry, answer in zip(group, answers, strict=True):
            if isinstance(answer, HubError):
                again.append(entry)
            elif isinstance(answer, TidingsError):
                dead.append(self._dead_letter(entry, answer.code.name, str(answer)))
            else:
                stored.append(entry)
        self._stream.finish(stored, dead)
        return again

    def _bury(self, entry: Entry, code: str, reason: str) -> None:
        self._stream.finish((), [self._dead_letter(entry, code, reason)])

    def _dead_letter(self, entry: Entry, code: str, reason: str) -> DeadLetter:
        self._metrics.dead.labels(code).inc()
        logger.error(
            "notification dead-lettered",
            extra={"entry": entry.id.decode(), "code": code, "reason": reason[:_REASON_MAX]},
        )
        return DeadLetter(entry, code, reason[:_REASON_MAX])

    def _set_error(self, text: str) -> None:
        self._metrics.connected.inc((not text) - self.is_connected)
        self.last_error = text
