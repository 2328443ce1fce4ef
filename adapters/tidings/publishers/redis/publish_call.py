"""The EVALSHA of publish.lua for many publications, packed with few allocations. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tidings.publishers.base import OutgoingPublication
from tidings.redis_client.keys import POINTER_TTL_S, RedisKeys
from tidings.redis_client.scripts import bulk, publish_script
from tidings.wire.channels import namespace_of


def pack_publish(keys: RedisKeys, items: Sequence[OutgoingPublication], candidate: str) -> bytes:
    """The call that publishes the items. `candidate` names the epoch, should a new one begin."""
    names, words = [bulk(keys.meta), bulk(keys.rules)], [bulk(candidate.encode()), _POINTER_TTL, bulk(keys.publish)]
    for item in items:
        places, begin, where = _of_channel(keys, item.channel)
        id_, body = item.id.encode(), item.body
        names.append(b"%b$%d\r\n%b%b\r\n" % (places, len(begin) + len(id_), begin, id_))
        words.append(b"%b$%d\r\n%b\r\n%b" % (where, len(body), body, _of_seconds(item.idempotency_s)))
    count = len(items)
    keys_count = 2 + _KEYS_EACH * count
    parts = len(("EVALSHA", "sha", "keys")) + keys_count + 3 + _WORDS_EACH * count
    head = b"*%d\r\n%b" % (parts, b"".join(map(bulk, (b"EVALSHA", publish_script().sha, b"%d" % keys_count))))
    return b"".join((head, *names, *words))


_POINTER_TTL = bulk(b"%d" % POINTER_TTL_S)
# Of each item: stream, pointer, idempotency; namespace, pub/sub channel, body, idempotency_s.
_KEYS_EACH, _WORDS_EACH = 3, 4


@lru_cache(maxsize=1024)
def _of_channel(keys: RedisKeys, channel: str) -> tuple[bytes, bytes, bytes]:
    """What every publication to a channel needs: two of its keys, how the third begins, two of its arguments."""
    return (
        bulk(keys.stream(channel)) + bulk(keys.pointer(channel)),
        keys.idempotency(channel, ""),
        bulk(namespace_of(channel).encode()) + bulk(keys.pubsub(channel)),
    )


@lru_cache(maxsize=16)
def _of_seconds(seconds: int) -> bytes:
    return bulk(b"%d" % seconds)
