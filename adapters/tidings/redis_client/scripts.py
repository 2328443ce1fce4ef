"""Lua scripts and the bytes that call them; no I/O but reading the script files once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from tidings.publishers.base import Outgoing
from tidings.redis_client.keys import POINTER_TTL_S, Keys
from tidings.wire.channels import namespace_of


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name that Redis gives it."""

    text: bytes
    sha: bytes


@cache
def load_script(package: str, name: str) -> Script:
    """The script `name` of a package, with `begin.lua` in front of it."""
    begin = files("tidings.redis_client").joinpath("begin.lua").read_bytes()
    text = begin + files(package).joinpath(name).read_bytes()
    # SHA-1 is how EVALSHA names scripts; nothing is secured by it.
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def publish_script() -> Script:
    """The script that numbers, stores and publishes bodies."""
    return load_script("tidings.redis_client", "publish.lua")


def pack(*parts: bytes) -> bytes:
    """One command in RESP2 (redis.io/docs/reference/protocol-spec)."""
    return b"*%d\r\n%b" % (len(parts), b"".join(map(_bulk, parts)))


def _bulk(part: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(part), part)


def pack_call(script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
    """One EVALSHA."""
    return pack(b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments)


def pack_load(script: Script) -> bytes:
    """One SCRIPT LOAD; its reply is the script's name."""
    return pack(b"SCRIPT", b"LOAD", script.text)


def pack_publish(keys: Keys, items: Sequence[Outgoing], candidate: str) -> bytes:
    """The call that publishes the items. `candidate` names the epoch, should a new one begin."""
    names, words = [_bulk(keys.meta), _bulk(keys.rules)], [_bulk(candidate.encode()), _POINTER_TTL, _bulk(keys.publish)]
    for item in items:
        places, begin, where = _of_channel(keys, item.channel)
        id_, body = item.id.encode(), item.body
        names.append(b"%b$%d\r\n%b%b\r\n" % (places, len(begin) + len(id_), begin, id_))
        words.append(b"%b$%d\r\n%b\r\n%b" % (where, len(body), body, _of_seconds(item.idempotency_s)))
    count = len(items)
    keys_count = 2 + _KEYS_EACH * count
    parts = len(("EVALSHA", "sha", "keys")) + keys_count + 3 + _WORDS_EACH * count
    head = b"*%d\r\n%b" % (parts, b"".join(map(_bulk, (b"EVALSHA", publish_script().sha, b"%d" % keys_count))))
    return b"".join((head, *names, *words))


_POINTER_TTL = _bulk(b"%d" % POINTER_TTL_S)
# Of each item: stream, pointer, idempotency; namespace, pub/sub channel, body, idempotency_s.
_KEYS_EACH, _WORDS_EACH = 3, 4


@lru_cache(maxsize=1024)
def _of_channel(keys: Keys, channel: str) -> tuple[bytes, bytes, bytes]:
    """What every publication to a channel needs: two of its keys, how the third begins, two of its arguments."""
    return (
        _bulk(keys.stream(channel)) + _bulk(keys.pointer(channel)),
        keys.idempotency(channel, ""),
        _bulk(namespace_of(channel).encode()) + _bulk(keys.pubsub(channel)),
    )


@lru_cache(maxsize=16)
def _of_seconds(seconds: int) -> bytes:
    return _bulk(b"%d" % seconds)
