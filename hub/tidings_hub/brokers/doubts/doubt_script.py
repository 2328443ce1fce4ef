"""Packs the calls of `doubt.lua`, and reads its messages and the stored doubts (PROTOCOL.md section 7). No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidings.errors import BadPacket
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.lookup_script import read_ranges
from tidings_hub.core.doubts import RANGES_MAX
from tidings_hub.core.processed_doubts import Range

# More would make reading all of them slow, and would block Redis.
_DOUBTS_MAX = 10_000


@dataclass(slots=True, frozen=True)
class StoredDoubts:
    """All doubts of an epoch, as the broker has them. `serial` grows with each discovery."""

    epoch: str
    serial: int
    ranges: Sequence[Range]


@dataclass(slots=True, frozen=True)
class DoubtMessage:
    """New doubts, sent to every node when they are stored. They took `seq`, and reach up to the one before."""

    epoch: str
    serial: int
    seq: int
    ranges: Sequence[Range]


def doubt_script() -> Script:
    """The script that stores doubted cursors and sends them to every node."""
    return load_script("tidings_hub.brokers", "doubt.lua")


def channels_max(limits: BrokerLimits) -> int:
    """How many channels the broker stores doubts for, before they become one range for all channels."""
    return min(limits.doubts_max, _DOUBTS_MAX)


def pack_doubts(keys: RedisKeys, epoch: str, firsts: Mapping[str, int], limits: BrokerLimits) -> bytes:
    """EVALSHA of doubt.lua: doubt the cursors of these channels, each from its first seq to the present one."""
    doubts = [part for name, first in firsts.items() for part in (name.encode(), b"%d" % first)]
    bounds = b"%d" % channels_max(limits), b"%d" % RANGES_MAX
    head = (secrets.token_urlsafe(9).encode(), epoch.encode(), *bounds, keys.publish)
    return pack_call(doubt_script(), (keys.meta, keys.doubts), (*head, *doubts))


def read_doubts(reply: object) -> StoredDoubts:
    """All stored doubts (HGETALL). The ranges of `*` are for all channels."""
    parts = [part for part in reply if isinstance(part, bytes)] if isinstance(reply, list) else []
    fields = {name.decode("ascii", "replace"): value for name, value in zip(parts[::2], parts[1::2], strict=False)}
    serial = fields.pop("#", b"0")
    epoch = fields.pop("@", b"").decode("ascii", "replace")
    ranges = [
        (name, *bounds)
        for name, span in fields.items()
        if not name.startswith("/")
        for bounds in read_ranges(span, fields.get(f"/{name}"))
    ]
    return StoredDoubts(epoch, int(serial) if serial.isdigit() else 0, ranges)


def read_message(message: bytes) -> DoubtMessage:
    """The doubts in a message of doubt.lua.

    Raises:
        BadPacket: the script did not send it.
    """
    parts = message.decode("ascii", "replace").split(" ")
    numbers = [part for part in (*parts[1:3], *parts[4::2]) if len(part) <= 16 and part.isdecimal()]
    if len(parts) < 5 or len(parts) % 2 == 0 or len(numbers) != (len(parts) + 1) // 2:
        raise BadPacket("not a message about doubted cursors")
    epoch, serial, seq = parts[0], int(parts[1]), int(parts[2])
    ranges = [(name, int(first), seq - 1) for name, first in zip(parts[3::2], parts[4::2], strict=True)]
    return DoubtMessage(epoch, serial, seq, ranges)
