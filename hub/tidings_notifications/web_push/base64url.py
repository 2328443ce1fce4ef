"""Base64url without padding, as Web Push writes keys (RFC 4648 section 5). Padded texts can be read as well."""

from __future__ import annotations

import base64
import binascii

# Some libraries write the other alphabet.
_ALPHABET = str.maketrans("+/", "-_")


def encode(data: bytes) -> str:
    """The text for `data`, without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    """The bytes in `text`, with or without padding.

    Raises:
        ValueError: it is not base64.
    """
    bare = text.rstrip("=").translate(_ALPHABET)
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64url") from error
