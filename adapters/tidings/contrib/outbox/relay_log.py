"""What a relay writes into its log: the failures of each batch, and from time to time counts and blocked channels."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from tidings.contrib.outbox.relay_batch import ChannelBackoff, RelayBatch
from tidings.contrib.outbox.store import Lag

# The report names so many blocked channels, those that are blocked longest.
BLOCKED_SHOWN = 5

log = logging.getLogger("tidings.outbox")


class PeriodicReport:
    """A report every `report_s` seconds. Times are those of `time.monotonic`."""

    def __init__(self, report_s: float, now_s: float) -> None:
        self._report_s = report_s
        self._due_s = now_s + report_s

    def is_due(self, now_s: float) -> bool:
        """Whether it is time for a report."""
        return now_s >= self._due_s

    def log(self, counts: Mapping[str, int], lag: Lag, backoff: ChannelBackoff, now_s: float) -> None:
        """Log a report. `counts`: since the start, by name."""
        self._due_s = now_s + self._report_s
        blocked = backoff.blocked_channels(now_s, for_s=self._report_s)
        for channel in blocked[:BLOCKED_SHOWN]:
            log.warning(
                "channel blocked: its first row is refused again and again",
                extra={
                    "channel": channel.channel,
                    "row_no": channel.row_no,
                    "for_s": f"{now_s - channel.since_s:.0f}",
                    "attempts": channel.attempts,
                    "error": channel.error,
                },
            )
        state = {
            "waiting": lag.waiting,
            "oldest_s": f"{lag.oldest_s(time.time()):.1f}",
            "failed": lag.failed,
            "blocked": len(blocked),
        }
        log.info("relayed", extra={**counts, **state})


def log_failures(batch: RelayBatch) -> None:
    """Log the first rejected row of a batch, and the first one to retry."""
    if batch.rejected:
        row_no, reason = next(iter(batch.rejected.items()))
        log.error("row rejected", extra={"rows": len(batch.rejected), "row_no": row_no, "reason": reason})
    if batch.postponed:
        channel, error = next(iter(batch.postponed.items()))
        fields = {"channels": len(batch.postponed), "first": channel, "error": error}
        log.warning("not published; retrying", extra=fields | {"row_no": batch.postponed_rows[channel]})
