"""The asker: takes everybody's questions about channels to Redis together.

While one round trip is under way, questions gather; the next one answers them all. That keeps a storm of
returning clients at a few round trips, and lets one barrier on the link serve every question of a round.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tidings.errors import HubError, Unavailable
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import pack
from tidings_hub.brokers.barriers import Barrier
from tidings_hub.brokers.base import BrokerLimits, HistorySnapshot
from tidings_hub.brokers.interests import Interests
from tidings_hub.brokers.lookup_script import LookupRequest, pack_lookup, read_lookup, since_script
from tidings_hub.brokers.pubsub_link import LinkDown, PubSubLink
from tidings_hub.brokers.reader import Reader
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.brokers.repair import LOOK_CHUNK, Repairs
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")

_TICK_S = 1.0
_DOWN_TICK_S = 0.1
# With recovery_max_bytes it bounds what one round may bring.
_ROUND_MAX = 64
_AGAIN_S = 0.02
_REFRESH_EVERY_S = 3600.0


@dataclass(slots=True)
class Lookup:
    """One look that somebody waits for. `joins`: the look's channels are to be joined."""

    request: LookupRequest
    deadline_s: float
    activates: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    snapshot: HistorySnapshot | None = None
    error: str = ""


class Lookups:
    """Runs rounds until it is stopped; between them it leaves lingering channels and checks positions."""

    def __init__(
        self,
        keys: RedisKeys,
        commands: RedisCommands,
        interests: Interests,
        reader: Reader,
        repairs: Repairs,
        *,
        limits: BrokerLimits,
        metrics: Metrics,
        write_rules: Callable[[], None],
    ) -> None:
        self._keys = keys
        self._commands = commands
        self._interests = interests
        self._reader = reader
        self._repairs = repairs
        self._limits = limits
        self._metrics = metrics
        self._greet = write_rules
        self._questions: deque[Lookup] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._check_at_s = 0.0
        self._refresh_at_s = 0.0
        self._watch_at_s = 0.0

    # For other greenlets

    def run_lookup(self, look: LookupRequest, *, joins: bool = False) -> HistorySnapshot:
        """The answer to a look, after the link brought all that came before it.

        Raises:
            Unavailable: not within `timeout_s`.
        """
        return self.wait_for(self.submit(look, joins=joins))

    def submit(self, look: LookupRequest, *, joins: bool = False) -> Lookup:
        """Ask without waiting; `answer` waits."""
        question = Lookup(look, time.monotonic() + self._limits.timeout_s, joins)
        self._questions.append(question)
        self._wake.set()
        return question

    def wait_for(self, question: Lookup) -> HistorySnapshot:
        """As `ask`, for a question that was put."""
        left_s = max(0.0, question.deadline_s - time.monotonic())
        answered = not self._stopping and question.done.wait(left_s)
        self._metrics.broker_timeouts += not (answered or self._stopping)
        if not answered or question.snapshot is None:
            why = question.error or self._reader.last_error or "no answer"
            raise Unavailable(f"the broker did not answer within {self._limits.timeout_s:g} s: {why}")
        return question.snapshot

    def stop(self) -> None:
        """End; whoever waits gets no answer."""
        self._stopping = True
        self._wake.set()

    # The asker's own greenlet

    def run(self) -> None:
        """Rounds until `stop`. Nothing but that ends it."""
        while not self._stopping:
            if self._reader.live.is_set():
                self._wake.wait(_TICK_S)
            self._wake.clear()
            try:
                self._turn()
            except (LinkDown, HubError) as error:
                logger.debug("a round failed: %s", error)
                time.sleep(_AGAIN_S)
            except Exception:
                logger.exception("a mistake in the broker's asker; it goes on")
                time.sleep(_TICK_S)
        self._look_last()
        for question in self._questions:
            question.done.set()

    def _look_last(self) -> None:
        """What was lost and not yet found is known to nobody else: find it before this node ends."""
        current = self._reader.live_link()
        if current is None:
            return
        try:
            self._check(*current)
        except (LinkDown, HubError) as error:
            logger.warning("the last check for lost publications failed: %s", error)

    def _turn(self) -> None:
        current = self._reader.live_link()
        if current is None:
            self._reader.live.wait(_DOWN_TICK_S)
            current = self._reader.live_link()
            if current is None:
                self._drop_late()
                return
        link, number = current
        now_s = time.monotonic()
        due = self._interests.due(now_s)
        for start in range(0, len(due), LOOK_CHUNK):
            # What was lost there in silence is found now or never.
            self._look(link, number, [LookupRequest(due[start : start + LOOK_CHUNK])], [])
        gone = self._interests.remove_due(now_s)
        for start in range(0, len(gone), LOOK_CHUNK):
            link.unsubscribe([self._keys.pubsub(channel) for channel in gone[start : start + LOOK_CHUNK]])
        self._metrics.broker_channels += self._interests.pop_size_change()
        if now_s >= self._watch_at_s:
            self._watch_at_s = now_s + _TICK_S
            self._watch(link, number, now_s)
        while self._questions and not self._stopping:
            self._answer(link, number)

    def _drop_late(self) -> None:
        """Nobody waits any longer for questions whose time is over."""
        now_s = time.monotonic()
        for _ in range(len(self._questions)):
            question = self._questions.popleft()
            if question.deadline_s > now_s:
                self._questions.append(question)

    def _answer(self, link: PubSubLink, number: int) -> None:
        """One round: everything that is waiting, at most `_ROUND_MAX` questions."""
        now_s = time.monotonic()
        waiting = [self._questions.popleft() for _ in range(min(len(self._questions), _ROUND_MAX))]
        waiting = [one for one in waiting if one.deadline_s > now_s]
        try:
            joins = [one for one in waiting if one.activates]
            sinces = [one for one in waiting if not one.activates]
            self._join(link, number, joins)
            self._look(link, number, [one.request for one in sinces], sinces)
        except (LinkDown, HubError) as error:
            for question in waiting:
                question.error = str(error)
            raise
        finally:
            again = [one for one in waiting if not one.done.is_set()]
            self._questions.extendleft(reversed(again))
            if again:
                self._wake.set()

    def _join(self, link: PubSubLink, number: int, questions: list[Lookup]) -> None:
        if not questions:
            return
        wanted = list(dict.fromkeys(channel for one in questions for channel in one.request.channels))
        fresh = self._interests.claim_for_link(number, wanted)
        for start in range(0, len(fresh), LOOK_CHUNK):
            link.subscribe([self._keys.pubsub(channel) for channel in fresh[start : start + LOOK_CHUNK]])
        if fresh:
            self._pass(self._reader.barrier(link, number))
            self._metrics.broker_channels += self._interests.pop_size_change()
        looks = [
            LookupRequest(wanted[start : start + LOOK_CHUNK], refresh=True)
            for start in range(0, len(wanted), LOOK_CHUNK)
        ]
        pasts = self._look(link, number, looks, [], joins=True)
        for question in questions:
            if pasts and not any(self._interests.is_pending(channel) for channel in question.request.channels):
                question.snapshot = pasts[-1]
                question.done.set()

    def _look(
        self, link: PubSubLink, number: int, looks: list[LookupRequest], questions: list[Lookup], *, joins: bool = False
    ) -> list[HistorySnapshot]:
        """Look, then wait until the link has brought everything up to there. Empty: look again."""
        if not looks:
            return []
        floor = self._repairs.positions.cursor
        packed = b"".join([pack_lookup(self._keys, look, self._limits) for look in looks])
        replies = self._commands.run(packed, len(looks), (since_script(),))
        pasts = [read_lookup(look, reply, self._limits) for look, reply in zip(looks, replies, strict=True)]
        good: list[bool] = []

        def settle() -> None:
            good.extend([self._repairs.apply_lookup(past, floor, joins=joins) for past in pasts])

        self._pass(self._reader.barrier(link, number, settle))
        if not all(good):
            return []
        for question, past in zip(questions, pasts, strict=False):
            question.snapshot = past
            question.done.set()
        return pasts

    def _pass(self, barrier: Barrier) -> None:
        if not barrier.passed.wait(self._limits.timeout_s) or not barrier.ok:
            raise LinkDown("the link to Redis broke")

    def _watch(self, link: PubSubLink, number: int, now_s: float) -> None:
        """Notice what no message tells: a new epoch on a quiet day, vanished rules, lost last messages."""
        if self._commands.run(pack(b"EXISTS", self._keys.rules))[0] == 0:
            self._greet()
        if now_s < self._check_at_s:
            self._look(link, number, [LookupRequest([])], [])
            return
        self._check_at_s = now_s + self._limits.position_check_s
        refresh = now_s >= self._refresh_at_s
        if refresh and len(self._repairs.positions):
            self._refresh_at_s = now_s + _REFRESH_EVERY_S
        self._check(link, number, refresh=refresh)

    def _check(self, link: PubSubLink, number: int, *, refresh: bool = False) -> None:
        channels = self._repairs.positions.channels()
        self._metrics.position_checks += 1
        for start in range(0, max(1, len(channels)), LOOK_CHUNK):
            self._look(link, number, [LookupRequest(channels[start : start + LOOK_CHUNK], refresh=refresh)], [])
