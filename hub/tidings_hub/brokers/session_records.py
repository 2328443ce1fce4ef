"""Notes: the scripts' calls and what their replies mean (no I/O), and the notes of one process' memory."""

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
    """Acts on notes."""
    return load_script(_PACKAGE, "session_write.lua")


def claim_script() -> Script:
    """Take one note away."""
    return load_script(_PACKAGE, "session_claim.lua")


def pack_writes(keys: RedisKeys, records: Sequence[SessionRecord]) -> bytes:
    """The call for these acts, at least one."""
    names = [keys.session_record(note.key) for note in records]
    words = [
        word
        for note in records
        for word in (note.operation.encode(), note.owner.encode(), b"%d" % note.ttl_s, note.user.encode(), note.body)
    ]
    return pack_call(write_script(), (keys.meta, *names), (_candidate(), *words))


def read_write_results(reply: object, count: int) -> list[WriteResult]:
    """What came of `count` acts.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    if isinstance(reply, list) and len(reply) == count:
        try:
            return [WriteResult(one) for one in reply]
        except ValueError as error:
            raise _strange(reply) from error
    raise _strange(reply)


def pack_claim(keys: RedisKeys, key: str, user: str) -> bytes:
    """The call that takes one note."""
    return pack_call(claim_script(), (keys.meta, keys.session_record(key)), (_candidate(), user.encode()))


def read_claim(reply: object) -> ClaimedSession | None:
    """The note; None if there is none.

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
    raise _strange(reply)


def _candidate() -> bytes:
    return secrets.token_urlsafe(9).encode()


def _strange(reply: object) -> Unavailable:
    if isinstance(reply, Exception):
        return Unavailable(f"Redis refused to answer: {error_text(reply)}")
    return Unavailable("Redis gave an answer that the script never gives; is it Redis 6.2 or later?")


class MemorySessionRecords:
    """What `session_write.lua` and `session_claim.lua` keep in Redis. For one thread, or greenlets of one."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._records: dict[str, tuple[float, ClaimedSession]] = {}
        # In order of their ends as they were when they were put here, often earlier than they are now.
        self._ends: deque[tuple[float, str]] = deque()

    def write(self, notes: Sequence[SessionRecord]) -> list[WriteResult]:
        """See `Broker.write_sessions`."""
        self._forget()
        return [self._write_record(note) for note in notes]

    def _write_record(self, note: SessionRecord) -> WriteResult:
        end_s = self._now_s() + note.ttl_s
        known = self._known(note.key)
        if known is not None and known.owner != note.owner:
            return WriteResult.NOT_OWNER
        if known is None and note.operation is not RecordOperation.CREATE:
            return WriteResult.MISSING
        if note.operation is RecordOperation.DELETE:
            del self._records[note.key]
            return WriteResult.OK
        if note.key not in self._records:
            self._ends.append((end_s, note.key))
        kept = (
            known
            if known is not None and note.operation is RecordOperation.TOUCH
            else ClaimedSession(note.owner, note.user, note.body)
        )
        self._records[note.key] = end_s, kept
        return WriteResult.OK

    def claim(self, key: str, user: str) -> ClaimedSession | None:
        """See `Broker.claim_session`."""
        known = self._known(key)
        if known is None:
            return None
        if user and known.user != user:
            return ClaimedSession("", "", b"")
        del self._records[key]
        return known

    def _known(self, key: str) -> ClaimedSession | None:
        end_s, known = self._records.get(key, (0.0, None))
        return known if end_s > self._now_s() else None

    def _forget(self) -> None:
        now_s = self._now_s()
        while self._ends and self._ends[0][0] <= now_s:
            _, key = self._ends.popleft()
            end_s, _ = self._records.get(key, (0.0, None))
            if end_s > now_s:
                self._ends.append((end_s, key))
            else:
                self._records.pop(key, None)
