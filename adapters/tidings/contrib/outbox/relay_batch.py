"""What a relay publishes next, what it puts aside, and which channels it leaves alone for a while. No I/O, no clock.

A channel's rows are published in the order of their numbers, always: of each channel only the first row that is not
settled is ever on its way. A publisher answers for each publication of a batch by itself, and a broker can refuse one
and take the next (Redis at its memory limit, or before its first hub; a slot of a cluster that moves): two rows of one
channel in one batch could change places.
"""

from __future__ import annotations

import random as _random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidings.backoff import delay_s
from tidings.contrib.outbox.rows import Row, publication_of
from tidings.errors import BadChannel, BadData, BadEvent, BadId, TidingsError, TooLarge, UnknownNamespace
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.receipts import Receipt

# What is wrong with the row itself. Every other error passes, also those of a relay with a wrong API key: nobody wants
# all rows put aside for that.
POISON = (BadChannel, BadEvent, BadData, BadId, TooLarge, UnknownNamespace)
REASON_MAX = 500
CHANNELS_MAX = 500
BASE_S = 0.2
CAP_S = 20.0
# A channel whose pause has ended for so long without another try has no rows any more.
FORGET_S = 60.0


class RelayBatch:
    """The rows of one claim, lowest `row_no` first. The caller repeats `wave` and `take` until a wave is empty.

    `published`: the numbers of the rows that the broker has; `duplicates`: how many of them it had before.
    `refused`: the reasons by number of what must be put aside. `held`: the errors by channel of what has to wait.
    `moved`: the channels that got on. `away`: the broker took nothing of the last wave, and the turn is over.
    """

    def __init__(self, rows: Sequence[Row], *, keep_s: int, now_ms: int, publication_max_bytes: int) -> None:
        self.published: list[int] = []
        self.duplicates = 0
        self.rejected: dict[int, str] = {}
        self.postponed: dict[str, TidingsError] = {}
        self.progressed: set[str] = set()
        self.broker_away = False
        self._open: dict[str, deque[tuple[int, OutgoingPublication]]] = {}
        self._wave: list[str] = []
        self._doubted: deque[str] = deque()
        for row in rows:
            try:
                item = publication_of(row, keep_s=keep_s, now_ms=now_ms, publication_max_bytes=publication_max_bytes)
            except POISON as error:
                self._refuse(row.row_no, error)
            else:
                self._open.setdefault(row.channel, deque()).append((row.row_no, item))

    def next_items(self) -> list[OutgoingPublication]:
        """The first open row of each channel, or one alone that was refused among others; empty: the turn is over."""
        self._wave = [self._doubted.popleft()] if self._doubted else [] if self.broker_away else list(self._open)
        return [self._open[channel][0][1] for channel in self._wave]

    def on_results(self, answers: Sequence[PublishResult]) -> None:
        """The answers to the last wave, in order."""
        taken = False
        for channel, answer in zip(self._wave, answers, strict=True):
            if isinstance(answer, Receipt):
                taken = True
                self.duplicates += answer.duplicate
                self.published.append(self._settle(channel))
            elif not isinstance(answer, POISON):
                self.postponed[channel] = answer
                del self._open[channel]
            elif len(self._wave) > 1:
                # A hub or a proxy may have refused the request as a whole: only alone it is surely this row.
                taken = True
                self._doubted.append(channel)
            else:
                taken = True
                self._refuse(self._settle(channel), answer)
        self.broker_away = not taken

    def _settle(self, channel: str) -> int:
        rows = self._open[channel]
        row_no, _ = rows.popleft()
        self.progressed.add(channel)
        if not rows:
            del self._open[channel]
        return row_no

    def _refuse(self, row_no: int, error: TidingsError) -> None:
        self.rejected[row_no] = f"{error.code.name}: {error}"[:REASON_MAX]


@dataclass(frozen=True, slots=True)
class _Pause:
    attempts: int
    until_s: float
    away: bool


class ChannelBackoff:
    """Channels that are left alone for a while; times are seconds of the caller's clock.

    `random` returns a float in [0, 1).
    """

    def __init__(self, *, random: Callable[[], float] = _random.random) -> None:
        self._random = random
        self._pauses: dict[str, _Pause] = {}

    def update(self, turn: RelayBatch, now_s: float) -> None:
        """Pause what the turn held; what got on is free again, and so is what only waited for the broker to be back."""
        back = bool(turn.published)
        self._pauses = {
            channel: pause
            for channel, pause in self._pauses.items()
            if channel not in turn.progressed and not (back and pause.away) and now_s < pause.until_s + FORGET_S
        } | {channel: self._longer(channel, turn, now_s) for channel in turn.postponed}

    def _longer(self, channel: str, turn: RelayBatch, now_s: float) -> _Pause:
        before = self._pauses.get(channel)
        attempts = 0 if before is None or channel in turn.progressed else before.attempts
        # Jitter may be next to nothing: the sum keeps a relay from asking again at once.
        pause_s = BASE_S + delay_s(attempts, base_s=BASE_S, cap_s=CAP_S, random=self._random)
        return _Pause(attempts + 1, now_s + pause_s, turn.broker_away)

    def paused_channels(self, now_s: float) -> list[str]:
        """Those that are to be left alone now."""
        return [channel for channel, pause in self._pauses.items() if pause.until_s > now_s]

    def is_full(self, now_s: float) -> bool:
        """Whether so many wait that nothing else should be tried."""
        return len(self.paused_channels(now_s)) >= CHANNELS_MAX

    def next_retry_s(self, now_s: float) -> float | None:
        """Seconds until the first pause ends, or None."""
        return min((pause.until_s - now_s for pause in self._pauses.values() if pause.until_s > now_s), default=None)
