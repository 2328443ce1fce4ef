"""Tokens of clients: `issue` makes one, `KeySet` verifies one.

The hub verifies with the keys of its settings. A backend needs `issue` only.
"""

from __future__ import annotations

from tidings.tokens.issue import issue
from tidings.tokens.jws import TOKEN_MAX_BYTES
from tidings.tokens.key_set import KeySet
from tidings.tokens.signing_keys import Key
from tidings.wire.claims import Claims

__all__ = ["TOKEN_MAX_BYTES", "Claims", "Key", "KeySet", "issue"]
