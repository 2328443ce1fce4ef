"""Packs the calls of the scripts for lookups and rules, and reads their replies. No I/O.

Entries of a stream are checked like live messages: a foreign entry counts as missing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidings.errors import BadPacket, Unavailable
from tidings.redis_client.connection import error_text
from tidings.redis_client.keys import POINTER_TTL_FIELD, RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication, decode
from tidings_hub.brokers.base import BrokerLimits, ChannelSnapshot, HistorySnapshot
from tidings_hub.core.seq_ranges import SeqRange

_PACKAGE = "tidings_hub.brokers"
# The span of a channel whose ranges are stored in another field.
_LISTED = re.compile(rb"0\d")


@dataclass(slots=True, frozen=True)
class LookupRequest:
    """What to look up. `after`: per channel, the seq after which to read; without one only the pointer is read.

    `count` and `bytes_max` limit the publications per channel and in all. `refresh` extends the TTL of the pointers.
    `channel_bytes_max`: None: the oldest publications are read. Otherwise the newest ones, at most so many bytes per
    channel. Where `bytes_max` ends the read, the channel's snapshot `is_unread`: of the oldest publications, only if it
    has none.
    """

    channels: Sequence[str]
    after: Mapping[str, int] = field(default_factory=dict)
    count: int = 1
    bytes_max: int = 0
    refresh: bool = False
    channel_bytes_max: int | None = None


@dataclass(slots=True, frozen=True)
class ComparisonRequest:
    """Channels to compare with the broker. `after`: the last processed seq; a channel without one is always returned.

    `refresh` extends the TTL of the pointers, and returns every channel that has none.
    """

    channels: Sequence[str]
    after: Mapping[str, int] = field(default_factory=dict)
    refresh: bool = False


def compare_script() -> Script:
    """The script that compares the last seq of channels in one atomic step."""
    return load_script(_PACKAGE, "compare.lua", knows_horizon=True)


def since_script() -> Script:
    """The script that looks up channels in one atomic step."""
    return load_script(_PACKAGE, "since.lua", knows_horizon=True)


def rotate_script() -> Script:
    """The script that begins a new epoch where a sequence went backwards."""
    return load_script(_PACKAGE, "rotate.lua")


def rules_script() -> Script:
    """The script that replaces the rules, and keeps the marks of the horizon true to the life of pointers."""
    return load_script(_PACKAGE, "rules.lua")


def pack_rules(keys: RedisKeys, rules: Mapping[bytes, bytes], limits: BrokerLimits) -> bytes:
    """EVALSHA of rules.lua. `rules`: namespace to `<history> <history_ttl_s>`."""
    fields = [part for pair in rules.items() for part in pair]
    # Emitters extend the TTL of the pointers as well, so it is stored with the rules.
    ttl_s = b"%d" % limits.pointer_ttl_s
    return pack_call(rules_script(), (keys.meta, keys.rules), (ttl_s, *fields, POINTER_TTL_FIELD, ttl_s))


def check_rules_reply(reply: object) -> None:
    """Check that the rules were written.

    Raises:
        Unavailable: Redis rejected the script.
    """
    if isinstance(reply, Exception):
        raise Unavailable(f"Redis rejected the rules: {error_text(reply)}")


def pack_lookup(keys: RedisKeys, request: LookupRequest, limits: BrokerLimits) -> bytes:
    """EVALSHA of since.lua for one lookup."""
    names = [key for channel in request.channels for key in (keys.pointer(channel), keys.stream(channel))]
    after = [b"%d" % request.after[channel] if channel in request.after else b"-" for channel in request.channels]
    # Lua counts from 1.
    name_at = len(keys.pointer("")) + 1
    bounds = (
        request.count,
        request.bytes_max,
        limits.message_max_bytes,
        limits.pointer_ttl_s,
        int(request.refresh),
        name_at,
    )
    numbers = [b"%d" % bound for bound in bounds]
    channel_max = b"-" if request.channel_bytes_max is None else b"%d" % request.channel_bytes_max
    return pack_call(since_script(), (keys.meta, keys.doubts, *names), (_candidate(), *numbers, channel_max, *after))


def read_lookup(request: LookupRequest, reply: object, limits: BrokerLimits) -> HistorySnapshot:
    """The result of one lookup.

    Raises:
        Unavailable: the reply is an error, or not one that the script returns.
    """
    parts = _parts(reply, 3 + len(request.channels))
    position = read_position(parts)
    channels = {}
    for channel, part in zip(request.channels, parts[3:], strict=True):
        pointer, messages, doubts = _parts(part, 3)
        stored = read_messages(channel, messages, position.epoch, limits)
        if request.channel_bytes_max is not None:
            stored.reverse()
        last, quiet_since = _read_pointer(pointer)
        is_unread = messages is None
        doubted = read_doubted(doubts)
        channels[channel] = ChannelSnapshot(last, stored, doubted, quiet_since=quiet_since, is_unread=is_unread)
    return HistorySnapshot(position, channels, int(parts[2]) if isinstance(parts[2], bytes) else 0)


def read_message_count(reply: object) -> tuple[Cursor, int]:
    """The position, and how many messages a lookup of one channel has read, whatever they are.

    Raises:
        Unavailable: the reply is an error, or not one that the script returns.
    """
    parts = _parts(reply, 4)
    messages = _parts(parts[3], 3)[1]
    return read_position(parts), len(messages) if isinstance(messages, list) else 0


def _read_pointer(pointer: object) -> tuple[int | None, int | None]:
    """`last` and `quiet_since` of a `ChannelSnapshot`. `-<seq>` stands for a channel without a pointer."""
    if not isinstance(pointer, bytes):
        return None, None
    return (None, int(pointer[1:])) if pointer.startswith(b"-") else (int(pointer), None)


def pack_comparison(keys: RedisKeys, request: ComparisonRequest, limits: BrokerLimits) -> bytes:
    """EVALSHA of compare.lua for one comparison."""
    names = [key for channel in request.channels for key in (keys.pointer(channel), keys.stream(channel))]
    after = [b"%d" % request.after[channel] if channel in request.after else b"-" for channel in request.channels]
    head = (_candidate(), b"%d" % limits.pointer_ttl_s, b"%d" % request.refresh)
    return pack_call(compare_script(), (keys.meta, keys.doubts, *names), (*head, *after))


def read_comparison(request: ComparisonRequest, reply: object) -> tuple[HistorySnapshot, list[str]]:
    """The channels that are not at their last processed seq, without publications; and those to look up instead.

    Raises:
        Unavailable: the reply is an error, or not one that the script returns.
    """
    position = read_position(reply)
    parts = reply if isinstance(reply, list) else []
    if len(parts) < 3 or not isinstance(parts[2], bytes):
        raise _unexpected(reply)
    channels: dict[str, ChannelSnapshot] = {}
    undecided: list[str] = []
    for part in parts[3:]:
        index, pointer = _parts(part, 2)
        if not isinstance(index, int) or index >= len(request.channels):
            raise _unexpected(reply)
        last, quiet_since = _read_pointer(pointer)
        if last is None and quiet_since is None:
            undecided.append(request.channels[index])
        else:
            channels[request.channels[index]] = ChannelSnapshot(last, [], quiet_since=quiet_since)
    return HistorySnapshot(position, channels, int(parts[2])), undecided


def read_doubted(fields: object) -> tuple[SeqRange, ...]:
    """The doubted ranges in span and ranges of a channel, and of all channels; false: there are none."""
    if not fields:
        return ()
    own_span, own_ranges, all_span, all_ranges = _parts(fields, 4)
    return (*read_ranges(own_span, own_ranges), *read_ranges(all_span, all_ranges))


def read_ranges(span: object, ranges: object) -> list[SeqRange]:
    """The doubted ranges that doubt.lua stored in two fields. The span alone counts unless it begins with a zero more.

    Anything else than numbers is no range.
    """
    if not isinstance(span, bytes):
        return []
    is_listed = _LISTED.match(span) is not None and isinstance(ranges, bytes)
    numbers = (ranges if is_listed and isinstance(ranges, bytes) else span).split(b" ")
    if len(numbers) % 2 or not all(number.isdigit() for number in numbers):
        return []
    return [(int(first), int(last)) for first, last in zip(numbers[::2], numbers[1::2], strict=True)]


def read_history(channel: str, reply: object, limits: BrokerLimits) -> tuple[Cursor, list[Publication]]:
    """The position and the publications of one page, in order of seq.

    Raises:
        Unavailable: the reply is an error, or not one that the script returns.
    """
    parts = _parts(reply, 3)
    position = read_position(parts)
    publications = read_messages(channel, parts[2], position.epoch, limits)
    publications.sort(key=lambda publication: publication.seq)
    return position, publications


def pack_rotate(keys: RedisKeys, position: Cursor) -> bytes:
    """EVALSHA of rotate.lua: begin a new epoch if the sequence is behind `position`."""
    return pack_call(rotate_script(), (keys.meta,), (_candidate(), position.epoch.encode(), b"%d" % position.seq))


def read_position(reply: object) -> Cursor:
    """The epoch and seq at the beginning of a reply.

    Raises:
        Unavailable: there is none.
    """
    if isinstance(reply, list) and len(reply) >= 2 and isinstance(reply[0], bytes) and isinstance(reply[1], bytes):
        return Cursor(reply[0].decode(), int(reply[1]))
    raise _unexpected(reply)


def read_messages(channel: str, messages: object, epoch: str, limits: BrokerLimits) -> list[Publication]:
    """The publications of this epoch among a stream's messages; others are skipped."""
    publications = []
    for message in messages if isinstance(messages, list) else ():
        try:
            publication = decode(channel, message, max_bytes=limits.message_max_bytes)
        except BadPacket:
            # Not counted as foreign: `prev` of the next publication shows the gap, and the gap is reported.
            continue
        if publication.epoch == epoch:
            publications.append(publication)
    return publications


def _candidate() -> bytes:
    return secrets.token_urlsafe(9).encode()


def _parts(reply: object, count: int) -> list[object]:
    if isinstance(reply, list) and len(reply) == count:
        return reply
    raise _unexpected(reply)


def _unexpected(reply: object) -> Unavailable:
    if isinstance(reply, Exception):
        return Unavailable(f"Redis rejected a lookup: {error_text(reply)}")
    return Unavailable("unexpected reply of a script; check that Redis is 6.2 or later")
