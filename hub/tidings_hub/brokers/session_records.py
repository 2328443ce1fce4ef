"""Notes: the scripts' calls and what their replies mean (no I/O), and the notes of one process' memory."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

from tidings.errors import Unavailable
from tidings.redis_client.connection import said
from tidings.redis_client.keys import Keys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings_hub.core.session_records import Act, Note, Noted, Taken

_PACKAGE = "tidings_hub.brokers"


def note_script() -> Script:
    """Acts on notes."""
    return load_script(_PACKAGE, "session_write.lua")


def take_script() -> Script:
    """Take one note away."""
    return load_script(_PACKAGE, "session_claim.lua")


def pack_notes(keys: Keys, notes: Sequence[Note]) -> bytes:
    """The call for these acts, at least one."""
    names = [keys.note(note.key) for note in notes]
    words = [
        word
        for note in notes
        for word in (note.act.encode(), note.owner.encode(), b"%d" % note.ttl_s, note.user.encode(), note.body)
    ]
    return pack_call(note_script(), (keys.meta, *names), (_candidate(), *words))


def read_noted(reply: object, count: int) -> list[Noted]:
    """What came of `count` acts.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    if isinstance(reply, list) and len(reply) == count:
        try:
            return [Noted(one) for one in reply]
        except ValueError as error:
            raise _strange(reply) from error
    raise _strange(reply)


def pack_take(keys: Keys, key: str, user: str) -> bytes:
    """The call that takes one note."""
    return pack_call(take_script(), (keys.meta, keys.note(key)), (_candidate(), user.encode()))


def read_taken(reply: object) -> Taken | None:
    """The note; None if there is none.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    match reply:
        case []:
            return None
        case [bytes()]:
            return Taken("", "", b"")
        case [bytes() as owner, bytes() as user, bytes() as body]:
            return Taken(owner.decode("utf-8", "replace"), user.decode("utf-8", "replace"), body)
    raise _strange(reply)


def _candidate() -> bytes:
    return secrets.token_urlsafe(9).encode()


def _strange(reply: object) -> Unavailable:
    if isinstance(reply, Exception):
        return Unavailable(f"Redis refused to answer: {said(reply)}")
    return Unavailable("Redis gave an answer that the script never gives; is it Redis 6.2 or later?")


class MemoryNotes:
    """What `session_write.lua` and `session_claim.lua` keep in Redis. For one thread, or greenlets of one."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._notes: dict[str, tuple[float, Taken]] = {}
        # In order of their ends as they were when they were put here, often earlier than they are now.
        self._ends: deque[tuple[float, str]] = deque()

    def do(self, notes: Sequence[Note]) -> list[Noted]:
        """See `Broker.note`."""
        self._forget()
        return [self._do(note) for note in notes]

    def _do(self, note: Note) -> Noted:
        end_s = self._now_s() + note.ttl_s
        known = self._known(note.key)
        if known is not None and known.owner != note.owner:
            return Noted.OTHERS
        if known is None and note.act is not Act.NEW:
            return Noted.GONE
        if note.act is Act.DROP:
            del self._notes[note.key]
            return Noted.DONE
        if note.key not in self._notes:
            self._ends.append((end_s, note.key))
        kept = known if known is not None and note.act is Act.PROLONG else Taken(note.owner, note.user, note.body)
        self._notes[note.key] = end_s, kept
        return Noted.DONE

    def take(self, key: str, user: str) -> Taken | None:
        """See `Broker.take`."""
        known = self._known(key)
        if known is None:
            return None
        if user and known.user != user:
            return Taken("", "", b"")
        del self._notes[key]
        return known

    def _known(self, key: str) -> Taken | None:
        end_s, known = self._notes.get(key, (0.0, None))
        return known if end_s > self._now_s() else None

    def _forget(self) -> None:
        now_s = self._now_s()
        while self._ends and self._ends[0][0] <= now_s:
            _, key = self._ends.popleft()
            end_s, _ = self._notes.get(key, (0.0, None))
            if end_s > now_s:
                self._ends.append((end_s, key))
            else:
                self._notes.pop(key, None)
