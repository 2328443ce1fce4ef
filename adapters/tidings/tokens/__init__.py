"""Tokens of clients: `issue` makes one, `KeySet` verifies one.

The hub verifies with the keys of its settings. A backend needs `issue` only.
"""

from __future__ import annotations

from tidings.tokens.key_set import TOKEN_MAX_BYTES, Claims, KeySet, issue
from tidings.tokens.signing_keys import Key

__all__ = ["TOKEN_MAX_BYTES", "Claims", "Key", "KeySet", "issue"]
