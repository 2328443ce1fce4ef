"""The stream of notifications in one bucket of Redis, read as a member of a consumer group (redis.io, Streams)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tidings.redis_client.connection import ConnectionLost, RedisConnection
from tidings.redis_client.keys import STREAM_MAX_FIELD, RedisKeys
from tidings.redis_client.scripts import load_script, pack, pack_call
from tidings.redis_client.url import RedisAddress

GROUP = b"inbox"
# The field of an entry that holds the notification as JSON.
FIELD = b"n"
# Notifications in one transaction.
BATCH = 500
# How long one read waits for new entries. After a stop it ends within this time.
BLOCK_MS = 500
# A consumer that did not read for so long has ended: it reads at least every BLOCK_MS, also while the database is away.
SILENCE_MS = 5_000
# Only services of two machines that share host name and address have the same consumer. An entry that one of them has
# not acknowledged for so long is the other one's to take.
OWN_SILENCE_MS = 60_000
# One byte more than the largest `publication_max_bytes`: what is longer can never be stored. Also about as much as one
# call takes over, since entries that a service could not hold in memory must not end the next one as well.
CARRIED_MAX_BYTES = 16_777_217
_CONNECT_S = 2.0
_REPLY_S = 5.0
_KNOWN = b"1"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream. `body` is None if it lacks the field. `deliveries`: how often it was delivered before.

    `is_claimed`: it was another consumer's, which ended.
    """

    id: bytes
    body: bytes | None
    deliveries: int = 0
    is_claimed: bool = False


class Own(Enum):
    """Whether a consumer takes the entries that it has read itself and not acknowledged."""

    NOT = b"0"
    # Its process has ended meanwhile. That may be the fault of an entry, so it counts as a delivery.
    AFTER_START = b"1"
    # Only its connection broke.
    AFTER_BREAK = b"2"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that can never be stored, the code of its error and the reason."""

    entry: Entry
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class StreamRules:
    """What emitters read before they append: the categories that exist, and how long the stream may become."""

    categories: tuple[str, ...]
    stream_max: int
    dead_max: int


class NotificationStream:
    """The stream of one bucket, `name`. One thread uses it. `consumer`: the name of this process in the group.

    Every method but `close` raises `ConnectionLost`. Then `open` connects again.
    """

    def __init__(self, address: RedisAddress, keys: RedisKeys, *, consumer: str, rules: StreamRules) -> None:
        self.name = keys.notifications.decode()
        self._address = address
        self._key = keys.notifications
        self._categories_key = keys.categories
        self._dead_key = keys.notifications_dead
        self._consumer = consumer.encode()
        self._rules = rules
        self._script = load_script("tidings_notifications.intake", "take_pending.lua")
        self._connection: RedisConnection | None = None
        # The commands that the next call sends first, and the number of their replies.
        self._unsent, self._unsent_replies = b"", 0

    def open(self) -> None:
        """Connect, publish the rules for emitters, and create the group if it does not exist."""
        self.close()
        self._connection = RedisConnection(self._address, timeout_s=_CONNECT_S)
        self.announce()
        (reply,) = self._call(pack(b"XGROUP", b"CREATE", self._key, GROUP, b"0", b"MKSTREAM"))
        if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
            raise self._failure(reply)

    def announce(self) -> None:
        """Write the rules for emitters. They replace those of an earlier service."""
        fields = [part for name in self._rules.categories for part in (name.encode(), _KNOWN)]
        fields += [STREAM_MAX_FIELD, b"%d" % self._rules.stream_max]
        self._transaction(
            pack(b"DEL", self._categories_key),
            pack(b"HSET", self._categories_key, *fields),
        )

    def read(self) -> list[Entry]:
        """New entries, at most `BATCH`. It waits up to `BLOCK_MS` for the first one."""
        options = (b"COUNT", b"%d" % BATCH, b"BLOCK", b"%d" % BLOCK_MS)
        (reply,) = self._call(self._read_command(options, b">"), wait_s=BLOCK_MS / 1000)
        return [Entry(id_, _body_of(fields)) for _, entries in self._checked(reply) or () for id_, fields in entries]

    def take_pending(self, own: Own = Own.NOT) -> list[Entry]:
        """Entries of consumers that have ended, at most `BATCH`. `own`: whether also those of this consumer.

        Of an entry that can never be stored, because of its size, the body has only the first `CARRIED_MAX_BYTES`.

        Call it while this process has none: old entries of its own name are those of another one, which has ended.
        """
        limits = (b"%d" % SILENCE_MS, b"%d" % BATCH, own.value, b"%d" % OWN_SILENCE_MS, b"%d" % CARRIED_MAX_BYTES)
        arguments = (GROUP, self._consumer, *limits)
        packed = pack_call(self._script, [self._key], arguments)
        (reply,) = self._call(packed, script=True)
        return [
            Entry(id_, _body_of(fields), int(deliveries), bool(is_claimed))
            for id_, deliveries, fields, is_claimed in self._checked(reply)
        ]

    def finish(self, stored: Sequence[Entry], dead: Sequence[DeadLetter] = ()) -> None:
        """Remove entries that were stored, and move those that cannot be to the dead-letter stream, in one step.

        The next call does so, most likely a `read`, which saves a round trip. `close` drops it: then the entries are
        taken again, and the store knows their ids.
        """
        ids = [entry.id for entry in stored] + [letter.entry.id for letter in dead]
        if not ids:
            return
        letters = [self._dead_letter_command(letter) for letter in dead]
        removal = (pack(b"XACK", self._key, GROUP, *ids), pack(b"XDEL", self._key, *ids))
        packed, count = _transaction_of(*letters, *removal)
        self._unsent += packed
        self._unsent_replies += count

    def flush(self) -> None:
        """Send what `finish` has left to the next call."""
        if self._unsent:
            self._call(b"", 0)

    def touch(self) -> None:
        """Show the other consumers that this one lives, while it cannot read further entries."""
        (reply,) = self._call(self._read_command((b"COUNT", b"1"), b"0"))
        self._checked(reply)

    def length(self) -> int:
        """The number of entries that are not stored yet."""
        (reply,) = self._call(pack(b"XLEN", self._key))
        return int(self._checked(reply))

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._unsent, self._unsent_replies = b"", 0

    def _read_command(self, options: Sequence[bytes], since: bytes) -> bytes:
        return pack(b"XREADGROUP", b"GROUP", GROUP, self._consumer, *options, b"STREAMS", self._key, since)

    def _dead_letter_command(self, letter: DeadLetter) -> bytes:
        fields: Mapping[bytes, bytes] = {
            FIELD: letter.entry.body or b"",
            b"id": letter.entry.id,
            b"code": letter.code.encode(),
            b"reason": letter.reason.encode("utf-8", "replace"),
        }
        limit = (b"MAXLEN", b"~", b"%d" % self._rules.dead_max)
        return pack(b"XADD", self._dead_key, *limit, b"*", *(part for pair in fields.items() for part in pair))

    def _transaction(self, *commands: bytes) -> None:
        for reply in self._call(*_transaction_of(*commands)):
            self._checked_all(reply)

    def _call(self, packed: bytes, count: int = 1, *, wait_s: float = 0.0, script: bool = False) -> list[Any]:
        if self._connection is None:
            raise ConnectionLost(f"{self.name} is not connected", sent=False)
        scripts = [self._script] if script else []
        first, first_count = self._unsent, self._unsent_replies
        self._unsent, self._unsent_replies = b"", 0
        deadline_s = time.monotonic() + _REPLY_S + wait_s
        replies = self._connection.call(first + packed, first_count + count, scripts, deadline_s=deadline_s)
        for reply in replies[:first_count]:
            self._checked_all(reply)
        return replies[first_count:]

    def _checked_all(self, reply: Any) -> None:
        """Check a reply in a transaction. That of EXEC has the replies of the commands."""
        for part in (reply, *(reply if isinstance(reply, list) else ())):
            self._checked(part)

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, Exception):
            raise self._failure(reply)
        return reply

    def _failure(self, error: Exception) -> ConnectionLost:
        """An error reply: a lost group or script, another master, no memory, a missing right. `open` may mend it."""
        self.close()
        return ConnectionLost(f"{self.name} rejected a command: {error}"[:300], sent=True)


def _transaction_of(*commands: bytes) -> tuple[bytes, int]:
    """The commands in a transaction, and the number of its replies."""
    return b"".join((pack(b"MULTI"), *commands, pack(b"EXEC"))), len(commands) + 2


def _body_of(fields: Any) -> bytes | None:
    """The value of the field with the notification. Fields and values alternate."""
    pairs = dict(zip(fields[::2], fields[1::2], strict=False)) if fields else {}
    body = pairs.get(FIELD)
    return body if isinstance(body, bytes) else None
