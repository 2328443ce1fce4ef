"""Session records: the calls of the Lua scripts, their replies (no I/O), and the records in a process' own memory."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

from tidings.errors import Unavailable
from tidings.redis_client.connection import error_text
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings_hub.core.session_records import ClaimedSession, RecordOperation, SessionRecord, WriteResult

_PACKAGE = "tidings_hub.brokers"


def write_script() -> Script:
    """Creates, updates, touches and deletes session records."""
    return load_script(_PACKAGE, "session_write.lua")


def claim_script() -> Script:
    """Reads and deletes one session record."""
    return load_script(_PACKAGE, "session_claim.lua")


def pack_writes(keys: RedisKeys, records: Sequence[SessionRecord]) -> bytes:
    """The call that writes these records, at least one."""
    redis_keys = [keys.session_record(record.key) for record in records]
    arguments = [
        argument
        for record in records
        for argument in (
            record.operation.encode(),
            record.owner.encode(),
            b"%d" % record.ttl_s,
            record.user.encode(),
            record.body,
        )
    ]
    return pack_call(write_script(), (keys.meta, *redis_keys), (_candidate(), *arguments))


def read_write_results(reply: object, count: int) -> list[WriteResult]:
    """The results of `count` operations.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    if isinstance(reply, list) and len(reply) == count:
        try:
            return [WriteResult(number) for number in reply]
        except ValueError as error:
            raise _unexpected(reply) from error
    raise _unexpected(reply)


def pack_claim(keys: RedisKeys, key: str, user: str) -> bytes:
    """The call that claims one record."""
    return pack_call(claim_script(), (keys.meta, keys.session_record(key)), (_candidate(), user.encode()))


def read_claim(reply: object) -> ClaimedSession | None:
    """The record; None if there is none.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    match reply:
        case []:
            return None
        case [bytes()]:
            return ClaimedSession("", "", b"")
        case [bytes() as owner, bytes() as user, bytes() as body]:
            return ClaimedSession(owner.decode("utf-8", "replace"), user.decode("utf-8", "replace"), body)
    raise _unexpected(reply)


def _candidate() -> bytes:
    return secrets.token_urlsafe(9).encode()


def _unexpected(reply: object) -> Unavailable:
    if isinstance(reply, Exception):
        return Unavailable(f"Redis refused to answer: {error_text(reply)}")
    return Unavailable("Redis gave an answer that the script never gives; is it Redis 6.2 or later?")


class MemorySessionRecords:
    """What `session_write.lua` and `session_claim.lua` do in Redis. For one thread, or the greenlets of one."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        # By key: when the record expires, and the record.
        self._records: dict[str, tuple[float, ClaimedSession]] = {}
        # In order of the expiry at creation; a touch may have extended it since.
        self._expiries: deque[tuple[float, str]] = deque()

    def write(self, records: Sequence[SessionRecord]) -> list[WriteResult]:
        """See `Broker.write_sessions`."""
        self._remove_expired()
        return [self._write_record(record) for record in records]

    def _write_record(self, record: SessionRecord) -> WriteResult:
        end_s = self._now_s() + record.ttl_s
        stored = self._stored(record.key)
        if stored is not None and stored.owner != record.owner:
            return WriteResult.NOT_OWNER
        if stored is None and record.operation is not RecordOperation.CREATE:
            return WriteResult.MISSING
        if record.operation is RecordOperation.DELETE:
            del self._records[record.key]
            return WriteResult.OK
        if record.key not in self._records:
            self._expiries.append((end_s, record.key))
        if stored is None or record.operation is not RecordOperation.TOUCH:
            stored = ClaimedSession(record.owner, record.user, record.body)
        self._records[record.key] = end_s, stored
        return WriteResult.OK

    def claim(self, key: str, user: str) -> ClaimedSession | None:
        """See `Broker.claim_session`."""
        stored = self._stored(key)
        if stored is None:
            return None
        if user and stored.user != user:
            return ClaimedSession("", "", b"")
        del self._records[key]
        return stored

    def _stored(self, key: str) -> ClaimedSession | None:
        end_s, stored = self._records.get(key, (0.0, None))
        return stored if end_s > self._now_s() else None

    def _remove_expired(self) -> None:
        now_s = self._now_s()
        while self._expiries and self._expiries[0][0] <= now_s:
            _, key = self._expiries.popleft()
            end_s, _ = self._records.get(key, (0.0, None))
            if end_s > now_s:
                self._expiries.append((end_s, key))
            else:
                self._records.pop(key, None)
