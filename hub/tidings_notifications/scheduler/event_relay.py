"""Publishes the events that changes of inboxes have written to the outbox: at once after a commit of this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from tidings.contrib.outbox import Relay
from tidings.contrib.outbox.written_rows import WrittenRow
from tidings.errors import TidingsError
from tidings.publishers.base import Publisher
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.store.database import Database
from tidings_notifications.store.tables import OUTBOX
from tidings_notifications.store.waiting_events import oldest_event_ms
from tidings_notifications.writer import now_ms

logger = logging.getLogger("tidings.notifications")

# At the shutdown the relay publishes for at most so long. The rest waits for the next start.
DRAIN_S: Final = 3.0
_POLL_S: Final = 0.02


class EventRelay:
    """The relay of the outbox `OUTBOX`. Several services may run one each. It owns `publisher`."""

    def __init__(
        self, database: Database, publisher: Publisher, *, publication_max_bytes: int, metrics: ServiceMetrics
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._relay = Relay(
            database.url, publisher, table=OUTBOX, publication_max_bytes=publication_max_bytes, inbox_events=True
        )
        self._published = self._rejected = 0

    def run(self) -> None:
        """Publish until `stop`."""
        self._relay.run()

    def wake(self) -> None:
        """Publish what was committed. From any thread."""
        self._relay.wake()

    def publish_now(self) -> bool:
        """Publish in this thread what waits, if that is few. Otherwise the same as `wake`. See `Relay.publish_now`."""
        return self._relay.publish_now()

    def publish_written(self, events: Sequence[WrittenRow], started_s: float) -> bool:
        """Publish in this thread events that it has committed. See `Relay.publish_written`."""
        return self._relay.publish_written(events, started_s=started_s)

    def drain(self, deadline_s: float) -> None:
        """Wait until every event is published, but not longer than `deadline_s`, a time of `time.monotonic`."""
        deadline_s = min(deadline_s, time.monotonic() + DRAIN_S)
        try:
            while self._database.read(oldest_event_ms) is not None:
                if time.monotonic() >= deadline_s:
                    logger.warning("some events are not published; they wait for the next start")
                    return
                self._relay.wake()
                time.sleep(_POLL_S)
        except TidingsError as error:
            logger.warning("events may wait for the next start: %s", error)

    def stop(self) -> None:
        """End `run` after the current claim."""
        self._relay.stop()

    def observe(self) -> None:
        """Bring the metrics up to date. From one thread.

        Raises:
            Unavailable: the database failed.
        """
        published, rejected = self._relay.published, self._relay.put_aside
        self._metrics.published.inc(published - self._published)
        self._metrics.events_rejected.inc(rejected - self._rejected)
        self._published, self._rejected = published, rejected
        oldest_ms = self._database.read(oldest_event_ms)
        self._metrics.events_oldest_s.set(0 if oldest_ms is None else max(0, now_ms() - oldest_ms) / 1000)

    def close(self) -> None:
        """Close all connections."""
        self._relay.close()
