"""Buckets: how channels are spread over a Redis Cluster (PROTOCOL.md section 7). No I/O.

A bucket is a sequence of its own, with all its keys in one slot. Which bucket a channel is in must be the
same for everyone who publishes and for every hub; so the number of buckets is part of every key's name, and
whoever counts differently finds no rules and is told so.
"""

from __future__ import annotations

import binascii
import zlib
from functools import cache

from tidings.errors import BadConfig
from tidings.wire.cursor import PLACES_MAX

SLOTS = 16_384
BUCKETS = 4
# A cursor has a place in every bucket.
BUCKETS_MAX = PLACES_MAX


def bucket_of(channel: str, buckets: int) -> int:
    """The bucket of a channel: CRC-32 (as in zlib) of its name, modulo their number."""
    return zlib.crc32(channel.encode()) % buckets if buckets > 1 else 0


@cache
def tag_of(bucket: int, buckets: int) -> str:
    """The hash tag of a bucket's keys: `0` for the only one, otherwise `<bucket>/<buckets>`.

    A number after a dot, counted up from 1, puts it into its own part of the slots where it is not by itself:
    a cluster that shares its slots out evenly so shares out the buckets.
    """
    plain = tag = "0" if buckets == 1 else f"{bucket}/{buckets}"
    more = 0
    while slot_of(tag) * buckets // SLOTS != bucket:
        more += 1
        tag = f"{plain}.{more}"
    return tag


def slot_of(tag: str) -> int:
    """The slot of a hash tag (redis.io/docs/reference/cluster-spec: CRC-16/XMODEM modulo 16384)."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


def check_buckets(text: str) -> int:
    """A number of buckets.

    Raises:
        BadConfig: it is none.
    """
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= BUCKETS_MAX):
        raise BadConfig(f"buckets must be a number from 1 to {BUCKETS_MAX}")
    return int(text)
