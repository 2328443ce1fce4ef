"""One publish on its way into Redis: the commands for what is still open, and what the replies mean. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

from tidings.errors import Unavailable, UnknownNamespace
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.redis.publish_call import pack_publish
from tidings.publishers.retry_state import RetryState
from tidings.receipts import Receipt
from tidings.redis_client.keys import RedisKeys

# Redis says so while it starts, while a replica takes over or a slot moves, and before the first hub has written
# its rules.
_PASSING = ("NOSCRIPT", "LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "NORULES")
_PASSING_CLASSES = (
    *("NoScriptError", "BusyLoadingError", "ReadOnlyError", "MasterDownError", "TryAgainError"),
    *("MovedError", "AskError", "ClusterDownError"),
)
# What lines of a reply begin with.
_NEW, _DUPLICATE, _ERROR = "+", "=", "-"
_SIGNS = (_NEW, _DUPLICATE, _ERROR)
_STRANGE = "Redis gave an answer that the publish script never gives; is it Redis 6.2 or later?"
# Nobody else is served while a call is carried out: of so many items it takes one to two milliseconds.
_CALL_MAX = 100
_CALL_MAX_BYTES = 262_144


class RedisBatch(RetryState):
    """Items on their way into Redis: the caller repeats `request` and one of `take` and `fail`; see `Tries`."""

    def __init__(
        self,
        items: Sequence[OutgoingPublication],
        keys: RedisKeys,
        where: str,
        *,
        timeout_s: float,
        now_s: float,
        random: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(items, where, timeout_s=timeout_s, now_s=now_s, random=random)
        self._keys = keys
        # The items of each call that the last request made.
        self._calls: list[list[int]] = []

    def request(self) -> tuple[bytes, int]:
        """The packed calls for all open items, and how many calls they are."""
        candidate = secrets.token_urlsafe(9)
        self._calls = list(self._shared_out())
        packed = [pack_publish(self._keys, [self._items[index] for index in call], candidate) for call in self._calls]
        return b"".join(packed), len(packed)

    def on_replies(self, replies: Sequence[object]) -> None:
        """One reply per call of the last request, in order; an error reply is an exception."""
        self._attempts += 1
        again: list[int] = []
        for call, reply in zip(self._calls, replies, strict=True):
            if isinstance(reply, Exception) and _passing(reply):
                self._reason = _words(reply)
                again += call
                continue
            items = [self._items[index] for index in call]
            for index, answer in zip(call, read_results(items, reply), strict=True):
                self._results[index] = answer
        self._open = again

    def _shared_out(self) -> Iterator[list[int]]:
        """The open items, as one call takes them."""
        call: list[int] = []
        size_bytes = 0
        for index in self._open:
            size_bytes += len(self._items[index].body)
            if call and (len(call) == _CALL_MAX or size_bytes > _CALL_MAX_BYTES):
                yield call
                call, size_bytes = [], len(self._items[index].body)
            call.append(index)
        if call:
            yield call


def read_results(items: Sequence[OutgoingPublication], reply: object) -> Sequence[PublishResult]:
    """What a call's reply means for each of its items: the lines of publish.lua, or one error for all."""
    if isinstance(reply, Exception):
        return [Unavailable(f"Redis refused it: {str(reply)[:200]}") for _ in items]
    lines = reply.decode(errors="replace").split("\n") if isinstance(reply, bytes) else []
    if len(lines) != len(items) or not all(line[:1] in _SIGNS and line[1:] for line in lines):
        return [Unavailable(_STRANGE) for _ in items]
    return list(map(_answer, items, lines))


def _answer(item: OutgoingPublication, line: str) -> PublishResult:
    sign, said = line[0], line[1:]
    if sign != _ERROR:
        return Receipt(item.id, said, duplicate=sign == _DUPLICATE)
    if said.startswith("UNKNOWNNAMESPACE"):
        name = item.channel.partition(":")[0]
        return UnknownNamespace(f"no rule for the namespace {name!r}; add it to tidings.toml and restart the hub")
    return Unavailable(f"Redis refused it: {said[:200]}")


def _passing(error: Exception) -> bool:
    return type(error).__name__ in _PASSING_CLASSES or str(error).startswith(_PASSING)


def _words(error: Exception) -> str:
    text = str(error)
    if text.startswith("NORULES"):
        return "no hub has started on this broker yet (or its prefix, or its number of buckets, is another one)"
    if type(error).__name__ == "MovedError":
        return "another node of a Redis Cluster serves this now (a cluster's URL begins with redis+cluster://)"
    return text[:200] or type(error).__name__
