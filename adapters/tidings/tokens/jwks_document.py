"""The document of a key set (JWKS, RFC 7517 section 5) as keys. No I/O."""

from __future__ import annotations

import json
import logging
from typing import Any

from tidings.errors import MissingExtra, TidingsError, Unavailable
from tidings.tokens.signing_keys import Key

logger = logging.getLogger("tidings.tokens")

# Issuers publish two or three. A token without `kid` is tried with each.
KEYS_MAX = 100


def read_keys(body: bytes, issuer: str) -> list[Key]:
    """The usable keys in a JWKS, at most `KEYS_MAX`. Entries for other uses, and malformed ones, are ignored.

    Keys with the same `kid` all verify tokens with it: RFC 7517 section 4.5 allows that.

    Raises:
        Unavailable: not a JWKS, or one without a usable key.
        MissingExtra: the libraries for keys are not installed.
    """
    keys: list[Key] = []
    ignored = 0
    for entry in _entries(body, issuer):
        # The others are not parsed: 2,000 keys would take 150 ms.
        key = _key(entry) if len(keys) < KEYS_MAX else None
        if key is None:
            ignored += 1
        else:
            keys.append(key)
    if not keys:
        raise Unavailable(f"the JWKS of {issuer} has no key for RS256, ES256 or EdDSA")
    if ignored:
        logger.info("the JWKS of %s: %d keys are used, %d entries are not", issuer, len(keys), ignored)
    return keys


def _entries(body: bytes, issuer: str) -> list[Any]:
    try:
        entries = json.loads(body)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unavailable(f"the JWKS of {issuer} is not a JWKS") from error
    if not isinstance(entries, list):
        raise Unavailable(f"the JWKS of {issuer} is not a JWKS")
    return entries


def _key(entry: Any) -> Key | None:
    if not isinstance(entry, dict):
        return None
    try:
        return Key.from_jwk(entry)
    except MissingExtra:
        raise
    except TidingsError:
        # RFC 7517 section 5: ignore entries for other uses and algorithms.
        return None
    except Exception as error:  # noqa: BLE001 - the libraries raise many errors; one entry must not discard the others
        logger.warning("an entry of a JWKS could not be read: %s", type(error).__name__)
        return None
