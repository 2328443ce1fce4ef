"""One publish or notify to Redis: the commands for its open items, and the results in the replies. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from tidings.errors import BadConfig, TidingsError, Unavailable, UnknownCategory, UnknownNamespace
from tidings.publishers.base import (
    STEP_MAX,
    STEP_MAX_BYTES,
    NotifyResult,
    OutgoingNotification,
    OutgoingPublication,
    PublishResult,
)
from tidings.publishers.redis.notify_call import notify_script, pack_notify
from tidings.publishers.redis.publish_call import pack_publish
from tidings.publishers.retry_state import Item, Proof, RetryState
from tidings.receipts import NotificationReceipt, Receipt
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, publish_script

# Error replies while Redis starts, while a replica takes over or a slot moves, and before a hub has written its rules;
# and while the notification service is behind.
_TRANSIENT = ("NOSCRIPT", "LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "NORULES", "BEHIND")
_TRANSIENT_CLASSES = (
    *("NoScriptError", "BusyLoadingError", "ReadOnlyError", "MasterDownError", "TryAgainError"),
    *("MovedError", "AskError", "ClusterDownError"),
)
# The first character of each line of a reply.
_NEW, _DUPLICATE, _ERROR = "+", "=", "-"
_SIGNS = (_NEW, _DUPLICATE, _ERROR)
_UNEXPECTED = "unexpected reply to publish.lua; is it Redis 6.2 or later?"
_NO_SERVICE = (
    "no notification service has ever used this Redis, or with another prefix or number of buckets: "
    "set [notifications] in the hub's tidings.toml"
)


@dataclass(frozen=True, slots=True)
class ScriptCall(Generic[Item, Proof]):
    """A script that takes many items. `pack` and `read`: the call for some of them, and the results in its reply."""

    script: Callable[[], Script]
    pack: Callable[[RedisKeys, Sequence[Item], str], bytes]
    read: Callable[[Sequence[Item], object], Sequence[Proof | TidingsError]]


class RedisBatch(RetryState[Item, Proof]):
    """Items to send to Redis. The caller repeats `request` and then `on_replies` or `fail`; see `RetryState`."""

    def __init__(
        self,
        call: ScriptCall[Item, Proof],
        items: Sequence[Item],
        keys: RedisKeys,
        target: str,
        *,
        timeout_s: float,
        now_s: float,
        random: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(items, target, timeout_s=timeout_s, now_s=now_s, random=random)
        self._keys = keys
        self.script, self._pack, self._read = call.script, call.pack, call.read
        # The indexes of the items in each call of the last request.
        self._calls: list[list[int]] = []

    def request(self) -> tuple[bytes, int]:
        """The packed calls for all open items, and how many calls they are."""
        candidate = secrets.token_urlsafe(9)
        self._calls = list(self._split_into_calls())
        packed = [self._pack(self._keys, [self._items[index] for index in call], candidate) for call in self._calls]
        return b"".join(packed), len(packed)

    def on_replies(self, replies: Sequence[object]) -> None:
        """Record the replies to the last request: one per call, in order. An error reply is an exception."""
        self._attempts += 1
        still_open: list[int] = []
        for call, reply in zip(self._calls, replies, strict=True):
            if isinstance(reply, Exception) and _is_transient(reply):
                self._reason = _explain(reply)
                still_open += call
                continue
            items = [self._items[index] for index in call]
            for index, result in zip(call, self._read(items, reply), strict=True):
                self._results[index] = result
        self._open = still_open

    def _split_into_calls(self) -> Iterator[list[int]]:
        """The indexes of the open items, as many as one call may hold at a time."""
        call: list[int] = []
        size_bytes = 0
        for index in self._open:
            size_bytes += len(self._items[index].body)
            if call and (len(call) == STEP_MAX or size_bytes > STEP_MAX_BYTES):
                yield call
                call, size_bytes = [], len(self._items[index].body)
            call.append(index)
        if call:
            yield call


def read_results(items: Sequence[OutgoingPublication], reply: object) -> Sequence[PublishResult]:
    """The result of each item of a call: from the lines that publish.lua returned, or one error for all."""
    if isinstance(reply, Exception):
        return [Unavailable(f"Redis returned an error: {str(reply)[:200]}") for _ in items]
    lines = reply.decode(errors="replace").split("\n") if isinstance(reply, bytes) else []
    if len(lines) != len(items) or not all(line[:1] in _SIGNS and line[1:] for line in lines):
        return [Unavailable(_UNEXPECTED) for _ in items]
    return list(map(_result, items, lines))


def read_notify_results(items: Sequence[OutgoingNotification], reply: object) -> Sequence[NotifyResult]:
    """The result of each item of a call: from the lines that notify.lua returned, or one error for all."""
    if isinstance(reply, Exception):
        if str(reply).startswith("NOSERVICE"):
            return [BadConfig(_NO_SERVICE) for _ in items]
        return [Unavailable(f"Redis returned an error: {str(reply)[:200]}") for _ in items]
    lines = reply.decode(errors="replace").split("\n") if isinstance(reply, bytes) else []
    if len(lines) != len(items) or not {*lines} <= {_NEW, _ERROR}:
        return [Unavailable("unexpected reply to notify.lua; is it Redis 6.2 or later?") for _ in items]
    return [
        NotificationReceipt(item.id, "accepted") if line == _NEW else _unknown_category(item)
        for item, line in zip(items, lines, strict=True)
    ]


def _unknown_category(item: OutgoingNotification) -> UnknownCategory:
    name = item.notification.category
    return UnknownCategory(f"no category {name!r}; add [notifications.categories.{name}] to tidings.toml")


# What `RedisBatch` sends.
PUBLISH: ScriptCall[OutgoingPublication, Receipt] = ScriptCall(publish_script, pack_publish, read_results)
NOTIFY: ScriptCall[OutgoingNotification, NotificationReceipt] = ScriptCall(
    notify_script, pack_notify, read_notify_results
)


def _result(item: OutgoingPublication, line: str) -> PublishResult:
    sign, text = line[0], line[1:]
    if sign != _ERROR:
        return Receipt(item.id, text, duplicate=sign == _DUPLICATE)
    if text.startswith("UNKNOWNNAMESPACE"):
        name = item.channel.partition(":")[0]
        return UnknownNamespace(
            f"no rule for the namespace {name!r}; add it to tidings.toml and reload the hub (SIGHUP)"
        )
    return Unavailable(f"Redis returned an error: {text[:200]}")


def _is_transient(error: Exception) -> bool:
    return type(error).__name__ in _TRANSIENT_CLASSES or str(error).startswith(_TRANSIENT)


def _explain(error: Exception) -> str:
    text = str(error)
    if text.startswith("NORULES"):
        return "no hub has started on this broker yet, or it uses another prefix or number of buckets"
    if text.startswith("BEHIND"):
        return "the notification service is behind: its stream is full (stream_max); is it running?"
    if type(error).__name__ == "MovedError":
        return "another node of a Redis Cluster serves this key (a cluster's URL begins with redis+cluster://)"
    return text[:200] or type(error).__name__
