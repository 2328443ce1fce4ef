"""One publish on its way: what is still open, what the replies mean, when to try again. No I/O.

Trying again is safe because every item has an id that the broker remembers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from tidings.backoff import delay_s
from tidings.errors import TidingsError, TimedOut, Unavailable, UnknownNamespace
from tidings.publication import Receipt
from tidings.publishers.base import Answer, Outgoing
from tidings.publishers.keys import Keys
from tidings.publishers.script import pack_publish

_BASE_S = 0.02
_CAP_S = 0.5
# Redis says so while it starts, while a replica takes over or a slot moves, and before the first hub has written
# its rules.
_PASSING = ("NOSCRIPT", "LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "NORULES")
_PASSING_CLASSES = (
    *("NoScriptError", "BusyLoadingError", "ReadOnlyError", "MasterDownError", "TryAgainError"),
    *("MovedError", "AskError", "ClusterDownError"),
)


class Batch:
    """Items that are to be published before `deadline_s`, a time of the clock that the caller uses.

    The caller repeats `request` and one of `take` and `fail`, waits for `pause_s`, and stops when it is None.
    """

    def __init__(
        self,
        items: Sequence[Outgoing],
        keys: Keys,
        where: str,
        *,
        timeout_s: float,
        now_s: float,
        random: Callable[[], float] | None = None,
    ) -> None:
        self.deadline_s = now_s + timeout_s
        self._items = items
        self._keys = keys
        self._where = where
        self._timeout_s = timeout_s
        self._answers: list[Answer | None] = [None] * len(items)
        self._open = list(range(len(items)))
        self._attempts = 0
        self._sent = False
        self._final = False
        self._reason = ""
        self._random = random or secrets.SystemRandom().random

    def request(self) -> tuple[bytes, int]:
        """The packed commands of all open items, and how many they are."""
        candidate = secrets.token_urlsafe(9)
        packed = [pack_publish(self._keys, self._items[index], candidate) for index in self._open]
        return b"".join(packed), len(packed)

    def take(self, replies: Sequence[object]) -> None:
        """One reply per open item, in order; an error reply is an exception."""
        self._attempts += 1
        again = []
        for index, reply in zip(self._open, replies, strict=True):
            if isinstance(reply, Exception) and _passing(reply):
                self._reason = _words(reply)
                again.append(index)
            else:
                self._answers[index] = read_answer(self._items[index], reply)
        self._open = again

    def fail(self, reason: str, *, sent: bool, final: bool) -> None:
        """No replies. `sent`: the request may have been carried out; `final`: do not try again."""
        self._attempts += 1
        self._sent = self._sent or sent
        self._final = final
        self._reason = reason

    def pause_s(self, now_s: float) -> float | None:
        """Seconds to wait before the next request; None: it is over."""
        left_s = self.deadline_s - now_s
        if not self._open or self._final or left_s <= 0:
            return None
        # The first request goes at once; so does the second when a connection had died while it was idle.
        if self._attempts == 0 or (self._attempts == 1 and self._sent):
            return 0.0
        pause_s = delay_s(self._attempts - 1, base_s=_BASE_S, cap_s=_CAP_S, random=self._random)
        # An attempt without time for its answer would only turn a clear refusal into a doubt.
        return pause_s if pause_s < left_s else None

    def answers(self) -> list[Answer]:
        """One answer per item; what is still open is an error that says what to do."""
        return [self._given_up() if answer is None else answer for answer in self._answers]

    def _given_up(self) -> TidingsError:
        tried = f"after {self._attempts} attempts in {self._timeout_s:g} s"
        if self._sent:
            return TimedOut(
                f"no answer {tried}: {self._reason}. It may or may not be published; "
                "publish again with the same id, that is safe"
            )
        return Unavailable(f"not published {tried}: {self._reason}. Check that {self._where} is right and runs")


def read_answer(item: Outgoing, reply: object) -> Answer:
    """What the publish script's reply means: `[cursor, duplicate]`, or an error."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], bytes):
        return Receipt(item.id, reply[0].decode(), duplicate=bool(reply[1]))
    if isinstance(reply, Exception):
        text = str(reply)
        if text.startswith("UNKNOWNNAMESPACE"):
            name = item.channel.partition(":")[0]
            return UnknownNamespace(f"no rule for the namespace {name!r}; add it to tidings.toml and restart the hub")
        return Unavailable(f"Redis refused it: {text[:200]}")
    return Unavailable("Redis gave an answer that the publish script never gives; is it Redis 6.2 or later?")


def _passing(error: Exception) -> bool:
    return type(error).__name__ in _PASSING_CLASSES or str(error).startswith(_PASSING)


def _words(error: Exception) -> str:
    text = str(error)
    if text.startswith("NORULES"):
        return "no hub has started on this broker yet (or its prefix, or its number of buckets, is another one)"
    if type(error).__name__ == "MovedError":
        return "another node of a Redis Cluster serves this now (a cluster's URL begins with redis+cluster://)"
    return text[:200] or type(error).__name__
