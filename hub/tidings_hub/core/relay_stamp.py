"""The stamp of a relayed request: it proves that another node of this hub sent the request, recently and to this node.

    1 <to> <at_ms> <remote> <http or https> <host> <HMAC-SHA256 of these fields and of the request line>

The first node has determined `remote`, the scheme and `host` for the client. Fields are percent-encoded.
Source: PROTOCOL.md section 10.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

# The word "Authorization" in it keeps these request heads out of the parser's cache, which clients share.
STAMP_HEADER: Final = "tidings-relay-authorization"
# Seconds that a stamp is valid, and the tolerated difference between the clocks of two nodes.
STAMP_LIFETIME_S: Final = 10.0
_VERSION = "1"
_FIELDS = 7
_SCHEMES = {"http": False, "https": True}
# Derives another key than the one that signs tokens: a stamp must not be valid for anything else.
_PURPOSE = b"tidings relay 1"
_TIME = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Stamp:
    """The node that may accept the request, when it was sent (unix time), and the client's data."""

    to_node: str
    at_s: float
    remote: str
    secure: bool
    host: str


def stamp_key(secret: str) -> bytes:
    """The key that signs stamps, derived from a secret that all nodes share."""
    return hmac.digest(secret.encode(), _PURPOSE, "sha256")


def write_stamp(key: bytes, stamp: Stamp, method: str, target: str) -> str:
    """The value of the header `STAMP_HEADER` for a request."""
    scheme = "https" if stamp.secure else "http"
    at_ms = round(stamp.at_s * 1000)
    fields = (_VERSION, quote(stamp.to_node), str(at_ms), quote(stamp.remote) or "-", scheme, quote(stamp.host) or "-")
    text = " ".join(fields)
    return f"{text} {_proof(key, text, method, target)}"


def read_stamp(
    keys: Sequence[bytes], value: str, method: str, target: str, *, own_id: str, now_s: float
) -> Stamp | None:
    """Verify a header value; None unless a node with one of `keys` wrote it for `own_id` recently."""
    text, _, proof = value.rpartition(" ")
    fields = value.split(" ")
    # Every key is compared, so the time does not depend on the matching one. As bytes: a header may hold any character.
    matches = [hmac.compare_digest(_proof(key, text, method, target).encode(), proof.encode()) for key in keys]
    if not any(matches) or len(fields) != _FIELDS or fields[0] != _VERSION:
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
