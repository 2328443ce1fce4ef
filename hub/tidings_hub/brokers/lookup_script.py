"""Looks into the past: the scripts' calls and what their replies mean. No I/O.

What a stream holds is checked like what comes live: an entry that is not ours counts as not there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidings.errors import BadPacket, Unavailable
from tidings.redis_client.connection import error_text
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication, decode
from tidings_hub.brokers.base import BrokerLimits, ChannelSnapshot, HistorySnapshot

_PACKAGE = "tidings_hub.brokers"

# More would make one read of all of them slow, and Redis wait for it.
_DOUBTS_MAX = 10_000
# A channel (`*`: every one) and the first and the last seq of the cursors that may lack something of it.
Range = tuple[str, int, int]


@dataclass(slots=True, frozen=True)
class LookupRequest:
    """What to look at. `after`: per channel the seq to read after; a channel without one is only pointed at.

    `refresh` prolongs the lives of the pointers.
    """

    channels: Sequence[str]
    after: Mapping[str, int] = field(default_factory=dict)
    count: int = 1
    bytes_max: int = 0
    refresh: bool = False


def since_script() -> Script:
    """One atomic look at channels."""
    return load_script(_PACKAGE, "since.lua")


def doubt_script() -> Script:
    """Remember cursors that say too much."""
    return load_script(_PACKAGE, "doubt.lua")


def rotate_script() -> Script:
    """Begin a new epoch where a sequence went backwards."""
    return load_script(_PACKAGE, "rotate.lua")


def pack_lookup(keys: RedisKeys, look: LookupRequest, limits: BrokerLimits) -> bytes:
    """The call for one look."""
    names = [key for channel in look.channels for key in (keys.pointer(channel), keys.stream(channel))]
    after = [b"%d" % look.after[channel] if channel in look.after else b"-" for channel in look.channels]
    # Lua counts from 1.
    name_at = len(keys.pointer("")) + 1
    bounds = (look.count, look.bytes_max, limits.message_max_bytes, limits.pointer_ttl_s, int(look.refresh), name_at)
    numbers = [b"%d" % one for one in bounds]
    return pack_call(since_script(), (keys.meta, keys.doubts, *names), (_candidate(), *numbers, *after))


def read_lookup(look: LookupRequest, reply: object, limits: BrokerLimits) -> HistorySnapshot:
    """What one look saw.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    parts = _parts(reply, 3 + len(look.channels))
    position = read_position(parts)
    channels = {}
    for channel, seen in zip(look.channels, parts[3:], strict=True):
        pointer, messages, doubt = _parts(seen, 3)
        kept = read_messages(channel, messages, position.epoch, limits)
        last = int(pointer) if isinstance(pointer, bytes) else None
        channels[channel] = ChannelSnapshot(last, kept, read_range(doubt))
    return HistorySnapshot(position, channels, int(parts[2]) if isinstance(parts[2], bytes) else 0)


def pack_doubts(keys: RedisKeys, epoch: str, ranges: Sequence[Range], limits: BrokerLimits, *, news: bool) -> bytes:
    """The call that stores ranges of doubted cursors. `news`: every node is to hear of it."""
    numbers = [part for name, first, last in ranges for part in (name.encode(), b"%d" % first, b"%d" % last)]
    head = (_candidate(), epoch.encode(), b"%d" % min(limits.doubts_max, _DOUBTS_MAX), b"%d" % news)
    return pack_call(doubt_script(), (keys.meta, keys.doubts), (*head, *numbers))


def read_doubts(reply: object) -> tuple[str, int, list[Range]]:
    """The epoch, the serial number and the ranges of all doubts (HGETALL); the range of `*` is every channel's."""
    parts = [part for part in reply if isinstance(part, bytes)] if isinstance(reply, list) else []
    fields = {name.decode("ascii", "replace"): value for name, value in zip(parts[::2], parts[1::2], strict=False)}
    serial = fields.pop("#", b"0")
    epoch = fields.pop("@", b"").decode("ascii", "replace")
    ranges = [(name, *found) for name, value in fields.items() if (found := read_range(value)) is not None]
    return epoch, int(serial) if serial.isdigit() else 0, ranges


def read_range(value: object) -> tuple[int, int] | None:
    """The two numbers in `first last`; None for anything else."""
    first, _, last = value.partition(b" ") if isinstance(value, bytes) else (b"", b"", b"")
    return (int(first), int(last)) if first.isdigit() and last.isdigit() else None


def read_history(channel: str, reply: object, limits: BrokerLimits) -> tuple[Cursor, list[Publication]]:
    """The position and the page, in order of seq.

    Raises:
        Unavailable: the reply is an error, or not the script's.
    """
    parts = _parts(reply, 3)
    position = read_position(parts)
    found = read_messages(channel, parts[2], position.epoch, limits)
    found.sort(key=lambda one: one.seq)
    return position, found


def pack_rotate(keys: RedisKeys, seen: Cursor) -> bytes:
    """The call that begins a new epoch, if the sequence is behind `seen`."""
    return pack_call(rotate_script(), (keys.meta,), (_candidate(), seen.epoch.encode(), b"%d" % seen.seq))


def read_position(reply: object) -> Cursor:
    """The epoch and seq at the beginning of a reply.

    Raises:
        Unavailable: there is none.
    """
    if isinstance(reply, list) and len(reply) >= 2 and isinstance(reply[0], bytes) and isinstance(reply[1], bytes):
        return Cursor(reply[0].decode(), int(reply[1]))
    raise _strange(reply)


def read_messages(channel: str, messages: object, epoch: str, limits: BrokerLimits) -> list[Publication]:
    """The publications of this epoch among a stream's messages; others are passed over."""
    found = []
    for message in messages if isinstance(messages, list) else ():
        try:
            publication = decode(channel, message, max_bytes=limits.message_max_bytes)
        except BadPacket:
            # Not counted as poison: `prev` of the next one shows the hole, and that is told.
            continue
        if publication.epoch == epoch:
            found.append(publication)
    return found


def _candidate() -> bytes:
    return secrets.token_urlsafe(9).encode()


def _parts(reply: object, count: int) -> list[object]:
    if isinstance(reply, list) and len(reply) == count:
        return reply
    raise _strange(reply)


def _strange(reply: object) -> Unavailable:
    if isinstance(reply, Exception):
        return Unavailable(f"Redis refused to answer: {error_text(reply)}")
    return Unavailable("Redis gave an answer that the script never gives; is it Redis 6.2 or later?")
