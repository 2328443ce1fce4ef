"""Lua scripts and the bytes that call them; no I/O but reading the script files once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from tidings.channels import namespace_of
from tidings.publishers.base import Outgoing
from tidings.publishers.keys import POINTER_TTL_S, Keys


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name that Redis gives it."""

    text: bytes
    sha: bytes


@cache
def load_script(package: str, name: str) -> Script:
    """The script `name` of a package, with `begin.lua` in front of it."""
    begin = files("tidings.publishers").joinpath("begin.lua").read_bytes()
    text = begin + files(package).joinpath(name).read_bytes()
    # SHA-1 is how EVALSHA names scripts; nothing is secured by it.
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def publish_script() -> Script:
    """The script that numbers, stores and publishes one body."""
    return load_script("tidings.publishers", "publish.lua")


def pack(*parts: bytes) -> bytes:
    """One command in RESP2 (redis.io/docs/reference/protocol-spec)."""
    return b"*%d\r\n%b" % (len(parts), b"".join(map(_bulk, parts)))


def _bulk(part: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(part), part)


_POINTER_TTL = _bulk(b"%d" % POINTER_TTL_S)


def pack_call(script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
    """One EVALSHA."""
    return pack(b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments)


def pack_load(script: Script) -> bytes:
    """One SCRIPT LOAD; its reply is the script's name."""
    return pack(b"SCRIPT", b"LOAD", script.text)


def pack_publish(keys: Keys, item: Outgoing, candidate: str) -> bytes:
    """The call that publishes one item. `candidate` names the epoch, should a new one begin."""
    begin, middle, end = _around(keys, item.channel)
    return b"".join(
        (
            begin,
            _bulk(keys.idempotency(item.channel, item.id)),
            middle,
            _bulk(item.body),
            _bulk(candidate.encode()),
            _bulk(b"%d" % item.idempotency_s),
            end,
        )
    )


@lru_cache(maxsize=1024)
def _around(keys: Keys, channel: str) -> tuple[bytes, bytes, bytes]:
    """What comes before and after the idempotency key in every publication to a channel, and at the end."""
    names = (keys.meta, keys.rules, keys.stream(channel), keys.pointer(channel))
    words = (b"EVALSHA", publish_script().sha, b"5", *names)
    parts = len(words) + len(("idempotency", "namespace", "pub/sub", "body", "candidate", "idempotency_s", "ttl"))
    end = _POINTER_TTL
    if keys.sharded:
        parts, end = parts + 1, end + _bulk(keys.publish)
    begin = b"*%d\r\n%b" % (parts, b"".join(map(_bulk, words)))
    return begin, _bulk(namespace_of(channel).encode()) + _bulk(keys.pubsub(channel)), end
