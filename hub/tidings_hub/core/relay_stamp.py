"""The stamp of a relayed request: proof that another node of this hub sent it, a moment ago and for this node.

    1 <to> <at_ms> <remote> <http or https> <host> <HMAC-SHA256 of all that and of the request line>

`remote`, the scheme and `host` are what the first node found out about the client; fields are percent-encoded.
Source: PROTOCOL.md section 10.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

# "Authorization" in it keeps such heads out of caches of heads that clients share.
STAMP_HEADER: Final = "tidings-relay-authorization"
# Seconds that a stamp holds, and the difference that two nodes' clocks may have.
STAMP_LIFETIME_S: Final = 10.0
_VERSION = "1"
_FIELDS = 7
_SCHEMES = {"http": False, "https": True}
# Not the key that signs tokens: a stamp must never be good for anything else.
_PURPOSE = b"tidings relay 1"
_TIME = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who may take the request, when it was sent (unix), and what the sender knows of the client."""

    to_node: str
    at_s: float
    remote: str
    secure: bool
    host: str


def stamp_key(secret: str) -> bytes:
    """The key that stamps are made with, from a secret that all nodes have."""
    return hmac.digest(secret.encode(), _PURPOSE, "sha256")


def write_stamp(key: bytes, stamp: Stamp, method: str, target: str) -> str:
    """The header's value."""
    scheme = "https" if stamp.secure else "http"
    at_ms = round(stamp.at_s * 1000)
    fields = (_VERSION, quote(stamp.to_node), str(at_ms), quote(stamp.remote) or "-", scheme, quote(stamp.host) or "-")
    text = " ".join(fields)
    return f"{text} {_proof(key, text, method, target)}"


def read_stamp(
    keys: Sequence[bytes], value: str, method: str, target: str, *, own_id: str, now_s: float
) -> Stamp | None:
    """What a header says, if a node that has one of `keys` said it, for `own_id`, within `STAMP_HOLDS_S`."""
    text, _, proof = value.rpartition(" ")
    fields = value.split(" ")
    # Every key, always: the time must not tell which one came near. Bytes: a header may hold any sign.
    right = [hmac.compare_digest(_proof(key, text, method, target).encode(), proof.encode()) for key in keys]
    if not any(right) or len(fields) != _FIELDS or fields[0] != _VERSION:
        return None
    if fields[4] not in _SCHEMES or not _TIME.fullmatch(fields[2]):
        return None
    to, at_s = unquote(fields[1]), int(fields[2]) / 1000
    if to != own_id or abs(now_s - at_s) > STAMP_LIFETIME_S:
        return None
    return Stamp(to, at_s, _unquoted(fields[3]), _SCHEMES[fields[4]], _unquoted(fields[5]))


def _unquoted(field: str) -> str:
    return "" if field == "-" else unquote(field)


def _proof(key: bytes, text: str, method: str, target: str) -> str:
    return hmac.digest(key, f"{text}\n{method} {target}".encode(), "sha256").hex()
