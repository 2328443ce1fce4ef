"""Stored revocations: packs the calls, and reads the replies. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tidings.errors import Unavailable
from tidings.redis_client.connection import error_text
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack, pack_call
from tidings_hub.core.revocations.revoked import is_revocation

# The cursor of HSCAN at its begin and at its end.
FIRST: Final = b"0"
# Revocations in one part: less than 1 ms of Redis' time, about 3 ms of this node's.
_PER_PART: Final = 1_000


@dataclass(frozen=True, slots=True)
class StoredRevocations:
    """A part of what Redis stores. `active`: key to the end. `ended`: name and end as stored, needed no more.

    `cursor`: where the next part begins; None: this is the last one.
    """

    active: Mapping[str, float]
    ended: Sequence[tuple[bytes, bytes]]
    cursor: bytes | None


def revocations_script() -> Script:
    """The script that stores revocations and removes ended ones."""
    return load_script("tidings_hub.brokers", "revocations.lua")


def pack_read(keys: RedisKeys, cursor: bytes = FIRST) -> tuple[bytes, int]:
    """The commands that read the clock of Redis and a part of the revocations, and their number.

    A revocation that is stored from the first part to the last one is in one of them.
    """
    return pack(b"TIME") + pack(b"HSCAN", keys.revoked, cursor, b"COUNT", b"%d" % _PER_PART), 2


def pack_write(keys: RedisKeys, until_s: Mapping[str, float], ended: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The call that stores these revocations and removes ended ones."""
    parts = [part for entry in ended for part in entry]
    parts += [part for key, end_s in until_s.items() for part in (key.encode(), repr(end_s).encode())]
    return pack_call(revocations_script(), (keys.revoked,), (b"%d" % len(ended), *parts))


def read_stored(replies: Sequence[object], *, now_s: float) -> StoredRevocations:
    """A part of the stored revocations. `now_s`: the wall clock of this node.

    A revocation has ended only when both clocks have passed its end, so that one wrong clock ends none.

    Raises:
        Unavailable: a reply is an error.
    """
    match replies:
        case [[bytes() as seconds, bytes()], [bytes() as cursor, list() as parts]]:
            both_s = min(now_s, float(seconds))
        case _:
            error = next((reply for reply in replies if isinstance(reply, Exception)), None)
            cause = "it is not a list" if error is None else error_text(error)
            raise Unavailable(f"the revocations in Redis cannot be read: {cause}")
    active: dict[str, float] = {}
    ended: list[tuple[bytes, bytes]] = []
    for name, end in zip(parts[::2], parts[1::2], strict=True):
        key, end_s = _parse(name, end)
        if end_s > now_s:
            active[key] = end_s
        if end_s <= both_s:
            ended.append((name, end))
    return StoredRevocations(active, ended, None if cursor == FIRST else cursor)


def _parse(name: bytes, end: bytes) -> tuple[str, float]:
    key = name.decode("utf-8", "replace")
    try:
        end_s = float(end)
    except ValueError:
        end_s = 0.0
    # Anything else was not written by tidings. It counts as ended and is removed.
    return key, end_s if is_revocation(key, end_s) else 0.0
