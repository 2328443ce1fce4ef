"""One publish on its way into Redis: the commands for what is still open, and what the replies mean. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from tidings.errors import Unavailable, UnknownNamespace
from tidings.publication import Receipt
from tidings.publishers.base import Answer, Outgoing
from tidings.publishers.keys import Keys
from tidings.publishers.script import pack_publish
from tidings.publishers.tries import Tries

# Redis says so while it starts, while a replica takes over or a slot moves, and before the first hub has written
# its rules.
_PASSING = ("NOSCRIPT", "LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "NORULES")
_PASSING_CLASSES = (
    *("NoScriptError", "BusyLoadingError", "ReadOnlyError", "MasterDownError", "TryAgainError"),
    *("MovedError", "AskError", "ClusterDownError"),
)


class Batch(Tries):
    """Items on their way into Redis: the caller repeats `request` and one of `take` and `fail`; see `Tries`."""

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
        super().__init__(items, where, timeout_s=timeout_s, now_s=now_s, random=random)
        self._keys = keys

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
