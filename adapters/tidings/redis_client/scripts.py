"""Lua scripts, and commands packed as bytes. The only I/O is to read each script file once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and its SHA-1, by which Redis names it."""

    text: bytes
    sha: bytes


@cache
def load_script(package: str, name: str, *, knows_horizon: bool = False) -> Script:
    """The script `name` of a package, with `begin.lua` in front of it, and `horizon.lua` if `knows_horizon`."""
    own = files("tidings.redis_client")
    text = own.joinpath("begin.lua").read_bytes()
    if knows_horizon:
        text += own.joinpath("horizon.lua").read_bytes()
    text += files(package).joinpath(name).read_bytes()
    # EVALSHA names scripts by their SHA-1; it secures nothing.
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def publish_script() -> Script:
    """The script that numbers, stores and publishes bodies."""
    return load_script("tidings.redis_client", "publish.lua", knows_horizon=True)


def pack(*parts: bytes) -> bytes:
    """One command in RESP2 (redis.io/docs/reference/protocol-spec)."""
    return b"*%d\r\n%b" % (len(parts), b"".join(map(bulk, parts)))


def bulk(part: bytes) -> bytes:
    """One bulk string in RESP2."""
    return b"$%d\r\n%b\r\n" % (len(part), part)


def pack_call(script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
    """One EVALSHA command."""
    return pack(b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments)


def pack_load(script: Script) -> bytes:
    """One SCRIPT LOAD command. Its reply is the script's SHA-1."""
    return pack(b"SCRIPT", b"LOAD", script.text)
