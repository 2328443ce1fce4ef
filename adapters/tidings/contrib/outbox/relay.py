"""The relay: publishes the rows of an outbox in order and deletes them. `relay_batch.py` decides."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Self

from tidings.backoff import delay_s
from tidings.contrib.outbox.relay_batch import ATTEMPTS_MAX, ChannelBackoff, RelayBatch
from tidings.contrib.outbox.relay_log import PeriodicReport, log_failures
from tidings.contrib.outbox.sending import send_items
from tidings.contrib.outbox.store import Claim, OutboxStore, open_engine
from tidings.contrib.outbox.table import NAME, sqlalchemy_module
from tidings.contrib.outbox.wakeup import WakeUp
from tidings.contrib.outbox.written_rows import WrittenRow, WrittenRows
from tidings.errors import Unavailable
from tidings.number_checks import check_count, check_seconds
from tidings.options import TIMEOUT_S
from tidings.publishers.base import CALLER_ID_S, Publisher
from tidings.wire.payload import MAX_BYTES

BATCH = 200
BATCH_MAX = 5000
INTERVAL_S = 1.0
KEEP_MAX_S = 86_400
ATTEMPTS_LIMIT = 1_000_000
REPORT_S = 60.0
# A claim is a transaction. It must end before the database's time limit for idle transactions.
CLAIM_MAX_S = 10.0

log = logging.getLogger("tidings.outbox")


class Relay:
    """Publishes the outbox in the database `url` through `publisher`, which it owns. Several may run at once.

    `batch`: rows per claim. After a relay was killed, up to this many are published again, with the same ids.
    `interval_s`: the longest time between two looks at the table. `keep_s`: seconds for which Redis remembers an id and
    discards repetitions (over HTTP the hub's `idempotency_s` applies). `timeout_s`: for one round trip to the hub.
    `attempts_max`: after so many attempts the relay rejects a row that the hub refuses with an error which may be the
    row's fault or the hub's (`internal`, `forbidden`). `report_s`: the time between two reports in the log. A channel
    counts as blocked once its first row has been refused for so long. `inbox_events`: publish also the events of a
    user's inbox; for the notification service.

    Raises:
        BadConfig: an invalid setting. MissingExtra: a package is not installed.
    """

    def __init__(  # noqa: PLR0913 - each is one setting, by name
        self,
        url: str,
        publisher: Publisher,
        *,
        table: str = NAME,
        batch: int = BATCH,
        interval_s: float = INTERVAL_S,
        keep_s: int = CALLER_ID_S,
        attempts_max: int = ATTEMPTS_MAX,
        timeout_s: float = TIMEOUT_S,
        publication_max_bytes: int = MAX_BYTES,
        report_s: float = REPORT_S,
        inbox_events: bool = False,
    ) -> None:
        check_count(batch, "batch", most=BATCH_MAX)
        check_seconds(interval_s, "interval")
        check_seconds(timeout_s, "timeout_s")
        check_count(keep_s, "keep", most=KEEP_MAX_S)
        check_count(attempts_max, "attempts", most=ATTEMPTS_LIMIT)
        check_count(publication_max_bytes, "publication_max_bytes")
        check_seconds(report_s, "report_s")
        self._batch, self._interval_s, self._keep_s, self._timeout_s = batch, interval_s, keep_s, timeout_s
        self._attempts_max = attempts_max
        self._publication_max_bytes = publication_max_bytes
        self._publisher = publisher
        self._inbox_events = inbox_events
        self._engine = open_engine(url)
        self._store = OutboxStore(self._engine, table, publication_max_bytes=publication_max_bytes)
        self._wake_up = WakeUp(self._engine, self._store.table.name)
        dbapi: Any = self._engine.dialect.loaded_dbapi
        self._errors = (sqlalchemy_module().exc.SQLAlchemyError, dbapi.Error, OSError)
        self._backoff = ChannelBackoff()
        self._written = WrittenRows(publisher, keep_s=keep_s, timeout_s=timeout_s)
        self._stopped = self._is_woken = self._is_broker_away = False
        # Held by the thread that publishes.
        self._sweeping = threading.Lock()
        self._sweeps = 0
        self._periodic_report = PeriodicReport(report_s, time.monotonic())
        # Counts since the start: published, of these duplicates, and rejected.
        self._counting = threading.Lock()
        self.published = self.duplicates = self.put_aside = 0

    def create(self) -> None:
        """Create the table unless it exists.

        Raises:
            Unavailable: the database failed.
        """
        try:
            self._store.create()
        except self._errors as error:
            raise Unavailable(f"the database failed: {_reason(error)}") from error

    def run(self) -> None:
        """Publish until `stop`. If the database or the broker is unavailable, it retries for ever and logs that.

        Raises:
            BadConfig: the table does not exist.
        """
        attempt, is_checked = 0, False
        while not self._stopped:
            try:
                if not is_checked:
                    self._store.check()
                    is_checked = True
                    wakes = "at commits" if self._wake_up.can_listen else f"every {self._interval_s:g} s"
                    log.info("relaying", extra={"table": self._store.table.fullname, "wakes": wakes})
                self._wake_up.listen()
                if not self.sweep():
                    self._wait()
                self._report()
                attempt = 0
            except self._errors as error:
                self._wake_up.stop_listening()
                self._engine.dispose()
                log.warning("the database failed; retrying", extra={"error": _reason(error), "attempt": attempt})
                self._wake_up.wait(delay_s(attempt) + 0.1, notifications=False)
                attempt += 1

    def once(self) -> bool:
        """Publish the rows that exist now. Returns whether only rejected rows are left.

        Raises:
            BadConfig: the table does not exist. Unavailable: the database failed.
        """
        try:
            self._store.check()
            while not self._stopped and self.sweep():
                self._report()
            return self._store.lag().waiting == 0
        except self._errors as error:
            raise Unavailable(f"the database failed: {_reason(error)}") from error

    def sweep(self) -> bool:
        """Claim each shard with rows once. Returns whether any row was published, rejected or postponed."""
        with self._sweeping:
            return self._sweep()

    def publish_written(self, rows: Sequence[WrittenRow], *, started_s: float) -> bool:
        """Publish in this thread rows that it has committed. See `WrittenRows`. Returns whether all are published.

        Nothing else may wait in their channels, which are different. What is not published is left to `run`.
        """
        had_none = self._written.left_s() is None
        receipts = [] if self._is_broker_away else self._written.publish(rows, started_s)
        self._count(len(receipts), sum(receipt.duplicate for receipt in receipts))
        if not (is_done := len(receipts) == len(rows)):
            self.wake()
        elif had_none:
            self._wake_up.wake()
        return is_done

    def publish_now(self) -> bool:
        """Publish in this thread what it has committed: a few rows, which leave without a change of threads.

        What it cannot publish at once is left to `run`: another thread or relay publishes, or the broker is away.
        Returns whether no row waits any more.
        """
        if self._is_broker_away or not self._store.locks_in_one_step or not self._sweeping.acquire(blocking=False):
            self.wake()
            return False
        try:
            is_done = self._publish_few()
        except self._errors as error:
            log.debug("the database failed; left to the relay's thread", extra={"error": _reason(error)})
            is_done = False
        finally:
            self._sweeping.release()
        if not is_done:
            self.wake()
        return is_done

    def _publish_few(self) -> bool:
        """Publish the next rows of all shards. Returns whether no others wait."""
        with self._store.claim(*range(self._store.shards)) as claim:
            if claim is None or len(claim.shards) < self._store.shards:
                return False
            batch = self._publish_rows(claim)
        self._record(batch)
        return batch.is_complete and batch.rows < self._batch and not self._backoff.paused_channels(time.monotonic())

    def _sweep(self) -> bool:
        is_woken, self._is_woken = self._is_woken, False
        if self._backoff.is_full(time.monotonic()):
            return False
        if is_woken and self._store.locks_in_one_step:
            # There are new rows, most likely few: without the look at which shards have them, they leave earlier.
            batch = self._relay_shards(range(self._store.shards))
            if batch is not None and batch.has_tried and not batch.broker_away:
                return True
        has_tried = False
        claims = self._store.claims(self._backoff.paused_channels(time.monotonic()), self._batch)
        # Start with another one each time, so that a shard with a failing channel does not delay the others.
        self._sweeps += 1
        first = self._sweeps % max(len(claims), 1)
        for shards in claims[first:] + claims[:first]:
            batch = None if self._stopped else self._relay_shards(shards)
            if batch is not None:
                has_tried = has_tried or batch.has_tried
                if batch.broker_away:
                    # The next claim would most likely fail as well.
                    break
        return has_tried

    def stop(self) -> None:
        """End `run` after the current claim. Can be called from any thread or signal handler."""
        self._stopped = True
        self._wake_up.wake()

    def wake(self) -> None:
        """Look at the table now, for a commit of this process. Can be called from any thread."""
        self._is_woken = True
        self._wake_up.wake()

    def close(self) -> None:
        """Close all connections."""
        self._publisher.close()
        self._wake_up.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _relay_shards(self, shards: Sequence[int]) -> RelayBatch | None:
        """Publish the next rows of some shards. None: other relays have claimed them."""
        with self._store.claim(*shards) as claim:
            if claim is None:
                return None
            batch = self._publish_rows(claim)
        self._record(batch)
        return batch

    def _publish_rows(self, claim: Claim) -> RelayBatch:
        rows = claim.rows(self._backoff.paused_channels(time.monotonic()), self._batch)
        batch = RelayBatch(
            rows,
            keep_s=self._keep_s,
            now_ms=time.time_ns() // 1_000_000,
            publication_max_bytes=self._publication_max_bytes,
            attempts_max=self._attempts_max,
            proven=self._backoff.proven_channels(),
            inbox_events=self._inbox_events,
            published_before=self._written.published(),
        )
        end_s = time.monotonic() + CLAIM_MAX_S
        while (items := batch.next_items()) and not self._stopped and time.monotonic() < end_s:
            batch.on_results(send_items(self._publisher, items, self._timeout_s))
        claim.record_results([*batch.published_before, *batch.published], batch.rejected, batch.refused)
        return batch

    def _record(self, batch: RelayBatch) -> None:
        self._is_broker_away = batch.broker_away
        self._backoff.update(batch, time.monotonic())
        self._written.forget(batch.published_before)
        self._count(len(batch.published), batch.duplicates)
        self.put_aside += len(batch.rejected)
        log_failures(batch)

    def _count(self, published: int, duplicates: int) -> None:
        with self._counting:
            self.published += published
            self.duplicates += duplicates

    def _wait(self) -> None:
        """Wait until there may be rows. Those that were published without a claim are deleted meanwhile."""
        now_s = time.monotonic()
        end_s = now_s + min(self._interval_s, self._backoff.next_retry_s(now_s) or self._interval_s)
        is_notified = False
        while not (is_notified or self._is_woken or self._stopped) and now_s < end_s:
            left_s = self._written.left_s()
            is_notified = self._wake_up.wait(end_s - now_s if left_s is None else min(left_s, end_s - now_s))
            self._written.delete_due(self._store)
            now_s = time.monotonic()

    def _report(self) -> None:
        if self._periodic_report.is_due(now_s := time.monotonic()):
            counts = {"published": self.published, "duplicates": self.duplicates, "put_aside": self.put_aside}
            self._periodic_report.log(counts, self._store.lag(), self._backoff, now_s)


def _reason(error: Exception) -> str:
    """The first line of the driver's message, without the statement."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0][:300]
