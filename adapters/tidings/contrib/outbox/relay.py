"""The relay: publishes what is in an outbox, in order, and deletes what the broker has. `turn.py` decides."""

from __future__ import annotations

import logging
import math
import time
from types import TracebackType
from typing import Any, Self

from tidings.backoff import delay_s
from tidings.contrib.outbox.relay_batch import ChannelBackoff, RelayBatch
from tidings.contrib.outbox.store import OutboxStore, open_engine
from tidings.contrib.outbox.table import NAME, sqlalchemy_module
from tidings.contrib.outbox.wakeup import WakeUp
from tidings.errors import BadConfig, Unavailable
from tidings.options import TIMEOUT_S
from tidings.publishers.base import CALLER_ID_S, Publisher
from tidings.wire.payload import MAX_BYTES

BATCH = 200
BATCH_MAX = 5000
INTERVAL_S = 1.0
KEEP_MAX_S = 86_400
REPORT_S = 60.0
# A claim is a transaction: it must end before the database or its keeper loses patience.
TURN_MAX_S = 10.0

log = logging.getLogger("tidings.outbox")


class Relay:
    """Publishes the outbox in the database `url` through `publisher`, which it owns. Several may run at once.

    `batch`: rows per claim; so many may be published again, with the same ids, after a relay was killed.
    `interval_s`: it looks at least so often. `keep_s`: seconds that Redis knows an id, and so for how long publishing
    again is no repetition (over HTTP the hub's `idempotency_s` says it). `timeout_s`: for one round trip to the hub.

    Raises:
        BadConfig: a setting that cannot be. MissingExtra: a package is not installed.
    """

    def __init__(
        self,
        url: str,
        publisher: Publisher,
        *,
        table: str = NAME,
        batch: int = BATCH,
        interval_s: float = INTERVAL_S,
        keep_s: int = CALLER_ID_S,
        timeout_s: float = TIMEOUT_S,
        publication_max_bytes: int = MAX_BYTES,
    ) -> None:
        if not 1 <= batch <= BATCH_MAX:
            raise BadConfig(f"batch is {batch}; it is a number of rows, 1 to {BATCH_MAX}")
        if not (math.isfinite(interval_s) and interval_s > 0 and math.isfinite(timeout_s) and timeout_s > 0):
            raise BadConfig("interval and timeout are numbers of seconds above 0")
        if not 1 <= keep_s <= KEEP_MAX_S:
            raise BadConfig(f"keep is {keep_s}; it is a number of seconds, 1 to {KEEP_MAX_S}")
        self._batch, self._interval_s, self._keep_s, self._timeout_s = batch, interval_s, keep_s, timeout_s
        self._publication_max_bytes = publication_max_bytes
        self._publisher = publisher
        self._engine = open_engine(url)
        self._store = OutboxStore(self._engine, table, publication_max_bytes=publication_max_bytes)
        self._waiting = WakeUp(self._engine, self._store.table.name)
        self._pauses = ChannelBackoff()
        self._stopped = False
        self._sweeps = 0
        self._report_at_s = time.monotonic() + REPORT_S
        # Since it was made: published (of these so many had been before), and put aside.
        self.published = self.duplicates = self.put_aside = 0

    def create(self) -> None:
        """Make the table if it is not there.

        Raises:
            Unavailable: the database failed.
        """
        try:
            self._store.create()
        except self._errors() as error:
            raise Unavailable(f"the database failed: {_reason(error)}") from error

    def run(self) -> None:
        """Publish until `stop`. A database or broker that is away is tried again for ever; the log says so.

        Raises:
            BadConfig: there is no such table.
        """
        attempt, checked = 0, False
        while not self._stopped:
            try:
                if not checked:
                    self._store.check()
                    checked = True
                    log.info("relaying", extra={"table": self._store.table.fullname, "wakes": self._wakes()})
                self._waiting.listen()
                if not self.sweep():
                    self._wait()
                self._report()
                attempt = 0
            except self._errors() as error:
                self._waiting.stop_listening()
                self._engine.dispose()
                log.warning("the database failed; trying again", extra={"error": _reason(error), "attempt": attempt})
                self._waiting.wait(delay_s(attempt) + 0.1, heed=False)
                attempt += 1

    def once(self) -> bool:
        """Publish what is there now; whether nothing is left but what was put aside.

        Raises:
            BadConfig: there is no such table. Unavailable: the database failed.
        """
        try:
            self._store.check()
            while not self._stopped and self.sweep():
                self._report()
            return self._store.lag().waiting == 0
        except self._errors() as error:
            raise Unavailable(f"the database failed: {_reason(error)}") from error

    def sweep(self) -> bool:
        """One claim of each shard that has rows; whether anything was tried, so that another look is worth it."""
        if self._pauses.is_full(time.monotonic()):
            return False
        tried = False
        shards = self._store.shards_with_rows(self._pauses.paused_channels(time.monotonic()), self._batch)
        # Not always the same first: a shard with a channel that fails must not keep the others waiting.
        self._sweeps += 1
        first = self._sweeps % max(len(shards), 1)
        for shard in shards[first:] + shards[:first]:
            turn = None if self._stopped else self._turn(shard)
            if turn is not None:
                tried = tried or bool(turn.published or turn.rejected or turn.postponed)
                if turn.broker_away:
                    # The next shard would most likely wait in vain as well; the next sweep begins with another one.
                    break
        return tried

    def stop(self) -> None:
        """End `run` soon, with what is on its way settled. From any thread or signal handler."""
        self._stopped = True
        self._waiting.wake()

    def close(self) -> None:
        """Give up all connections."""
        self._publisher.close()
        self._waiting.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _turn(self, shard: int) -> RelayBatch | None:
        """Publish the next rows of one shard; None: another relay has it."""
        with self._store.claim(shard) as claim:
            if claim is None:
                return None
            rows = claim.rows(self._pauses.paused_channels(time.monotonic()), self._batch)
            turn = RelayBatch(
                rows,
                keep_s=self._keep_s,
                now_ms=time.time_ns() // 1_000_000,
                publication_max_bytes=self._publication_max_bytes,
            )
            end_s = time.monotonic() + TURN_MAX_S
            while (items := turn.next_items()) and not self._stopped and time.monotonic() < end_s:
                turn.on_results(self._publisher.publish(items, timeout_s=self._timeout_s))
            claim.settle(turn.published, turn.rejected)
        self._learn(turn)
        return turn

    def _learn(self, turn: RelayBatch) -> None:
        self._pauses.update(turn, time.monotonic())
        self.published += len(turn.published)
        self.duplicates += turn.duplicates
        self.put_aside += len(turn.rejected)
        if turn.rejected:
            row_no, reason = next(iter(turn.rejected.items()))
            log.error("put aside", extra={"rows": len(turn.rejected), "row_no": row_no, "reason": reason})
        if turn.postponed:
            channel, error = next(iter(turn.postponed.items()))
            held = {"channels": len(turn.postponed), "first": channel, "error": error}
            log.warning("not published; trying again", extra=held)

    def _wait(self) -> None:
        pause_s = self._pauses.next_retry_s(time.monotonic())
        self._waiting.wait(self._interval_s if pause_s is None else min(pause_s, self._interval_s))

    def _report(self) -> None:
        """A line a minute: what was done since the start, and what waits."""
        if time.monotonic() < self._report_at_s:
            return
        self._report_at_s = time.monotonic() + REPORT_S
        lag = self._store.lag()
        oldest_s = 0.0 if lag.oldest_ms is None else max(0.0, time.time() - lag.oldest_ms / 1000)
        log.info(
            "relayed",
            extra={
                "published": self.published,
                "duplicates": self.duplicates,
                "put_aside": self.put_aside,
                "waiting": lag.waiting,
                "oldest_s": f"{oldest_s:.1f}",
                "failed": lag.failed,
            },
        )

    def _wakes(self) -> str:
        return "at commits" if self._waiting.can_listen else f"every {self._interval_s:g} s"

    def _errors(self) -> tuple[type[Exception], ...]:
        dbapi: Any = self._engine.dialect.loaded_dbapi
        return (sqlalchemy_module().exc.SQLAlchemyError, dbapi.Error, OSError)


def _reason(error: Exception) -> str:
    """The driver's words, without the statement."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0][:300]
