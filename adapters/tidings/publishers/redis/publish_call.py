"""The EVALSHA of publish.lua for many publications, packed with few allocations. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tidings.publishers.base import OutgoingPublication
from tidings.redis_client.keys import POINTER_TTL_S, RedisKeys
from tidings.redis_client.scripts import bulk, publish_script
from tidings.wire.channels import namespace_of


def pack_publish(keys: RedisKeys, items: Sequence[OutgoingPublication], candidate: str) -> bytes:
    """The EVALSHA that publishes the items. `candidate` becomes the epoch if Redis has none yet."""
    key_parts, argument_parts = (
        [bulk(keys.meta), bulk(keys.rules)],
        [bulk(candidate.encode()), _POINTER_TTL, bulk(keys.publish)],
    )
    for item in items:
        channel_keys, id_key_start, channel_arguments = _of_channel(keys, item.channel)
        id_, body = item.sender_and_id.encode(), item.body
        key_parts.append(b"%b$%d\r\n%b%b\r\n" % (channel_keys, len(id_key_start) + len(id_), id_key_start, id_))
        argument_parts.append(
            b"%b$%d\r\n%b\r\n%b" % (channel_arguments, len(body), body, _of_seconds(item.idempotency_s))
        )
    count = len(items)
    keys_count = 2 + _KEYS_PER_ITEM * count
    parts = len(("EVALSHA", "sha", "keys")) + keys_count + 3 + _ARGUMENTS_PER_ITEM * count
    head = b"*%d\r\n%b" % (parts, b"".join(map(bulk, (b"EVALSHA", publish_script().sha, b"%d" % keys_count))))
    return b"".join((head, *key_parts, *argument_parts))


_POINTER_TTL = bulk(b"%d" % POINTER_TTL_S)
# Per item. Keys: stream, pointer, idempotency. Arguments: namespace, pub/sub channel, body, idempotency_s.
_KEYS_PER_ITEM, _ARGUMENTS_PER_ITEM = 3, 4


@lru_cache(maxsize=1024)
def _of_channel(keys: RedisKeys, channel: str) -> tuple[bytes, bytes, bytes]:
    """The parts of the call that depend on the channel alone: two keys, the start of the third, two arguments."""
    return (
        bulk(keys.stream(channel)) + bulk(keys.pointer(channel)),
        keys.idempotency(channel, ""),
        bulk(namespace_of(channel).encode()) + bulk(keys.pubsub(channel)),
    )


@lru_cache(maxsize=16)
def _of_seconds(seconds: int) -> bytes:
    return bulk(b"%d" % seconds)
