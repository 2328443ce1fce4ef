"""A subscription to Web Push: what a browser gave us, and what we store of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A checked PushSubscription (W3C Push API). `p256dh` and `auth`: base64url without padding."""

    endpoint: str
    p256dh: str
    auth: str
    expires_ms: int | None = None

    @property
    def endpoint_hash(self) -> str:
        """What a unique index can hold of an endpoint."""
        return hash_of(self.endpoint)


@dataclass(frozen=True, slots=True)
class StoredSubscription:
    """One row of the table. `key_hash`: of the secret with which its service worker proves that it is its own."""

    id: str
    user_id: str
    endpoint: str
    p256dh: str
    auth: str
    key_hash: str

    def has_key(self, key: str) -> bool:
        """Whether `key` is its secret. Takes the same time for every key."""
        return hmac.compare_digest(self.key_hash, hash_of(key))


def hash_of(text: str) -> str:
    """The SHA-256 of a text in base64url. It protects a random secret, which no one can guess."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
