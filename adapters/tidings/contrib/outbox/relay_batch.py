"""The decisions of a relay: which rows to publish next, which to reject, and when to retry a channel. No I/O, no clock.

Rows of a channel are always published in the order of their numbers. So a request holds at most one row per channel:
the first open one. A broker may reject one publication of a request and accept the next: Redis at its memory limit or
before its first hub, a slot of a cluster that moves. Two rows of one channel in a request could change their order.

An error of the row itself rejects the row. An error of the hub, the broker or the relay postpones the channel, for as
long as it lasts. Every other answer (`internal`, `forbidden`) may be the fault of either. It counts if the request had
this row alone, and only up to a limit, because no row may block its channel for ever.
"""

from __future__ import annotations

import random as _random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from tidings.backoff import delay_s
from tidings.contrib.outbox.rows import Row, item_of
from tidings.errors import (
    BadChannel,
    BadConfig,
    BadData,
    BadEvent,
    BadId,
    BadRequest,
    Draining,
    Full,
    TidingsError,
    TooFast,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownCategory,
    UnknownNamespace,
)
from tidings.publishers.base import Outgoing, OutgoingResult
from tidings.receipts import NotificationReceipt, Receipt

# Errors of the row itself. BadRequest: a hub does not take the row for a reason that this version does not check.
ROW_ERRORS = (BadRequest, BadChannel, BadEvent, BadData, BadId, TooLarge, UnknownNamespace, UnknownCategory)
# Errors that are never the row's: a broker that is away, a wrong API key or URL. They must not reject any row.
TEMPORARY_ERRORS = (Unavailable, Draining, Full, TooFast, Unauthorized, BadConfig)
# The default number of all other errors after which a row is rejected. With the back-off this takes about 15 minutes.
ATTEMPTS_MAX = 100
# While the relay publishes nothing else, this many times as many: then the hub is more likely at fault than the row.
UNPROVEN_FACTOR = 10
REASON_MAX = 500
CHANNELS_MAX = 500
BASE_S = 0.2
CAP_S = 20.0
# A channel whose pause ended this long ago without another attempt has no rows any more.
FORGET_S = 60.0


class RelayBatch:
    """The rows of one claim, lowest `row_no` first. The caller repeats `next_items` and `on_results`.

    `rows`: their number.
    `published`: numbers of the rows that the broker has; `duplicates`: how many of them it had before.
    `rejected`: reasons by row number of rows that cannot be published. `postponed`: errors by channel, to retry later.
    `postponed_rows`: the numbers of their rows by channel.
    `refused`: numbers of the postponed rows whose attempt counts. `progressed`: channels of which a row was published
    or rejected. `broker_away`: the broker accepted nothing of the last request, which ends the batch.

    `attempts_max`: see `ATTEMPTS_MAX`. `proven`: channels since whose last attempt the hub accepted other rows.
    `inbox_events`: see `item_of`. `published_before`: rows that were published without a claim, and are not sent again.
    The field has those of this claim.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        keep_s: int,
        now_ms: int,
        publication_max_bytes: int,
        attempts_max: int = ATTEMPTS_MAX,
        proven: Collection[str] = (),
        inbox_events: bool = False,
        published_before: Collection[int] = (),
    ) -> None:
        self.published: list[int] = []
        self.published_before: list[int] = []
        self.rows = len(rows)
        self.duplicates = 0
        self.rejected: dict[int, str] = {}
        self.postponed: dict[str, TidingsError] = {}
        self.postponed_rows: dict[str, int] = {}
        self.progressed: set[str] = set()
        self.refused: list[int] = []
        self.broker_away = False
        self._attempts_max = attempts_max
        self._proven = frozenset(proven)
        self._attempts: dict[int, int] = {}
        self._open: dict[str, deque[tuple[int, Outgoing]]] = {}
        self._requested: list[str] = []
        self._to_try_alone: deque[str] = deque()
        for row in rows:
            if row.row_no in published_before:
                self.published_before.append(row.row_no)
                continue
            try:
                item = item_of(
                    row,
                    keep_s=keep_s,
                    now_ms=now_ms,
                    publication_max_bytes=publication_max_bytes,
                    inbox_events=inbox_events,
                )
            except ROW_ERRORS as error:
                self._reject(row.row_no, error)
            else:
                self._open.setdefault(row.channel, deque()).append((row.row_no, item))
                # SQLite stores any type in any column.
                self._attempts[row.row_no] = row.attempts if isinstance(row.attempts, int) else 0

    @property
    def is_complete(self) -> bool:
        """Whether each row was published, now or before."""
        return len(self.published) + len(self.published_before) == self.rows

    @property
    def has_tried(self) -> bool:
        """Whether any row was published, now or before, rejected or postponed."""
        return bool(self.published or self.published_before or self.rejected or self.postponed)

    def next_items(self) -> list[Outgoing]:
        """The first open row of each channel, or one row that failed before. Empty: the batch is done.

        A row that the hub refused in an earlier batch would make the hub refuse the others of a request again.
        """
        self._requested = []
        if not self._to_try_alone and not self.broker_away:
            for channel, rows in self._open.items():
                (self._to_try_alone if self._attempts[rows[0][0]] else self._requested).append(channel)
        if not self._requested and self._to_try_alone and not self.broker_away:
            self._requested = [self._to_try_alone.popleft()]
        return [self._open[channel][0][1] for channel in self._requested]

    def on_results(self, results: Sequence[OutgoingResult]) -> None:
        """Record the results of the last request, in order."""
        is_reachable = False
        for channel, result in zip(self._requested, results, strict=True):
            if isinstance(result, Receipt | NotificationReceipt):
                is_reachable = True
                self.duplicates += result.duplicate
                self.published.append(self._close_first(channel))
            elif isinstance(result, TEMPORARY_ERRORS):
                self._postpone(channel, result)
            elif len(self._requested) > 1:
                # A hub or proxy may have rejected the whole request. A request with this row alone shows the cause.
                is_reachable = True
                self._to_try_alone.append(channel)
            elif isinstance(result, ROW_ERRORS):
                is_reachable = True
                self._reject(self._close_first(channel), result)
            else:
                is_reachable = True
                self._refuse(channel, result)
        self.broker_away = not is_reachable

    def _refuse(self, channel: str, error: TidingsError) -> None:
        row_no, _ = self._open[channel][0]
        attempts = self._attempts[row_no] + 1
        is_proven = bool(self.published) or channel in self._proven
        if attempts >= self._attempts_max * (1 if is_proven else UNPROVEN_FACTOR):
            self._reject(self._close_first(channel), error, effort=f" (after {attempts} attempts)")
        else:
            self.refused.append(row_no)
            self._postpone(channel, error)

    def _postpone(self, channel: str, error: TidingsError) -> None:
        self.postponed[channel] = error
        self.postponed_rows[channel] = self._open.pop(channel)[0][0]

    def _close_first(self, channel: str) -> int:
        rows = self._open[channel]
        row_no, _ = rows.popleft()
        self.progressed.add(channel)
        if not rows:
            del self._open[channel]
        return row_no

    def _reject(self, row_no: int, error: TidingsError, *, effort: str = "") -> None:
        # The reason may hold a key of the data. PostgreSQL stores no NUL, and then the row would stop its channel.
        reason = "".join(char if char.isprintable() else "?" for char in str(error))
        self.rejected[row_no] = f"{error.code.name}: {reason}"[: REASON_MAX - len(effort)] + effort


@dataclass(frozen=True, slots=True)
class BlockedChannel:
    """A channel whose first row has been refused again and again, since `since_s`. Its later rows wait."""

    channel: str
    row_no: int
    since_s: float
    attempts: int
    error: TidingsError


@dataclass(frozen=True, slots=True)
class _Pause:
    attempts: int
    until_s: float
    broker_away: bool
    blocked: BlockedChannel
    # Whether a row of another channel was published since.
    is_proven: bool = False


class ChannelBackoff:
    """The back-off of channels whose rows could not be published. Times are seconds of the caller's clock.

    `random` returns a float in [0, 1).
    """

    def __init__(self, *, random: Callable[[], float] = _random.random) -> None:
        self._random = random
        self._pauses: dict[str, _Pause] = {}

    def update(self, batch: RelayBatch, now_s: float) -> None:
        """Pause postponed channels. End the pause of channels that progressed, or that only waited for the broker."""
        is_broker_back = bool(batch.published)
        self._pauses = {
            channel: replace(pause, is_proven=pause.is_proven or is_broker_back)
            for channel, pause in self._pauses.items()
            if channel not in batch.progressed
            and not (is_broker_back and pause.broker_away)
            and now_s < pause.until_s + FORGET_S
        } | {channel: self._longer(channel, batch, now_s) for channel in batch.postponed}

    def _longer(self, channel: str, batch: RelayBatch, now_s: float) -> _Pause:
        before = self._pauses.get(channel)
        before = None if channel in batch.progressed else before
        attempts = 0 if before is None else before.attempts
        since_s = now_s if before is None else before.blocked.since_s
        # The jitter may be close to 0: the constant keeps the relay from retrying immediately.
        pause_s = BASE_S + delay_s(attempts, base_s=BASE_S, cap_s=CAP_S, random=self._random)
        row_no, error = batch.postponed_rows[channel], batch.postponed[channel]
        blocked = BlockedChannel(channel, row_no, since_s, attempts + 1, error)
        return _Pause(attempts + 1, now_s + pause_s, batch.broker_away, blocked)

    def paused_channels(self, now_s: float) -> list[str]:
        """The channels that are paused now."""
        return [channel for channel, pause in self._pauses.items() if pause.until_s > now_s]

    def proven_channels(self) -> list[str]:
        """The paused channels since whose last attempt the hub accepted rows of others: it works."""
        return [channel for channel, pause in self._pauses.items() if pause.is_proven]

    def blocked_channels(self, now_s: float, *, for_s: float) -> list[BlockedChannel]:
        """The channels that have been refused for `for_s` seconds or longer, the longest one first."""
        blocked = (pause.blocked for pause in self._pauses.values())
        long_blocked = [channel for channel in blocked if now_s - channel.since_s >= for_s]
        return sorted(long_blocked, key=lambda channel: channel.since_s)

    def is_full(self, now_s: float) -> bool:
        """Whether so many channels are paused that no other should be tried."""
        return len(self.paused_channels(now_s)) >= CHANNELS_MAX

    def next_retry_s(self, now_s: float) -> float | None:
        """Seconds until the first pause ends; None: no channel is paused."""
        return min((pause.until_s - now_s for pause in self._pauses.values() if pause.until_s > now_s), default=None)
