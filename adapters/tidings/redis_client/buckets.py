"""Buckets: how channels are spread over a Redis Cluster (PROTOCOL.md section 7). No I/O.

Each bucket has its own sequence, and all its keys lie in one slot. Every emitter and every hub must put a channel into
the same bucket. So the number of buckets is part of every key's name: an emitter with another number finds no rules
and gets an error.
"""

from __future__ import annotations

import binascii
import zlib
from functools import cache

from tidings.errors import BadConfig
from tidings.redis_client.url_options import NUMBER
from tidings.wire.cursor import PLACES_MAX

SLOTS = 16_384
BUCKETS = 4
# A cursor has a place in every bucket.
BUCKETS_MAX = PLACES_MAX


def bucket_of(channel: str, buckets: int) -> int:
    """The bucket of a channel: the CRC-32 of its name (as in zlib) modulo the number of buckets."""
    return zlib.crc32(channel.encode()) % buckets if buckets > 1 else 0


@cache
def tag_of(bucket: int, buckets: int) -> str:
    """The hash tag of a bucket's keys: `0` for a single bucket, otherwise `<bucket>/<buckets>`.

    Each bucket belongs into its own part of the slots, so that a cluster with evenly spread slots spreads the buckets
    evenly. Where the plain tag misses that part, a dot and the first fitting number from 1 are appended.
    """
    plain = tag = "0" if buckets == 1 else f"{bucket}/{buckets}"
    suffix = 0
    while slot_of(tag) * buckets // SLOTS != bucket:
        suffix += 1
        tag = f"{plain}.{suffix}"
    return tag


def slot_of(tag: str) -> int:
    """The slot of a hash tag (redis.io/docs/reference/cluster-spec: CRC-16/XMODEM modulo 16384)."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


def check_buckets(text: str) -> int:
    """The number of buckets in a setting.

    Raises:
        BadConfig: not a number from 1 to `BUCKETS_MAX`.
    """
    if not (NUMBER.match(text) and 1 <= int(text) <= BUCKETS_MAX):
        raise BadConfig(f"buckets must be a number from 1 to {BUCKETS_MAX}")
    return int(text)
