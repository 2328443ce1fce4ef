"""Encryption of a message for one subscription (RFC 8291), by the library http_ece."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tidings.errors import BadRequest
from tidings_notifications.web_push import base64url

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1

# An uncompressed point of P-256: 0x04 and two coordinates.
_POINT_BYTES: Final = 65
_AUTH_BYTES: Final = 16
_SALT_BYTES: Final = 16
# Texts that are longer are not keys, and are not decoded.
_TEXT_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class MessageKeys:
    """The keys of a subscription: the browser's public key `p256dh`, and the secret `auth`."""

    p256dh: bytes
    auth: bytes

    @classmethod
    def read(cls, p256dh: object, auth: object) -> MessageKeys:
        """The keys in `keys` of a PushSubscription, with or without padding.

        Raises:
            BadRequest: they are not keys that a browser makes.
        """
        keys = cls(_decode("p256dh", p256dh, _POINT_BYTES), _decode("auth", auth, _AUTH_BYTES))
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            ec.EllipticCurvePublicKey.from_encoded_point(_curve(), keys.p256dh)
        except ValueError as error:
            raise BadRequest("p256dh must be a public key of P-256") from error
        return keys


def encrypt(payload: bytes, keys: MessageKeys) -> bytes:
    """The body of a push message with one record, in the coding aes128gcm."""
    import http_ece
    from cryptography.hazmat.primitives.asymmetric import ec

    body: bytes = http_ece.encrypt(
        payload,
        salt=secrets.token_bytes(_SALT_BYTES),
        private_key=ec.generate_private_key(_curve()),
        dh=keys.p256dh,
        auth_secret=keys.auth,
        version="aes128gcm",
    )
    return body


def _curve() -> SECP256R1:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.SECP256R1()


def _decode(name: str, text: Any, size_bytes: int) -> bytes:
    try:
        decoded = base64url.decode(text) if isinstance(text, str) and len(text) <= _TEXT_MAX else b""
    except ValueError:
        decoded = b""
    if len(decoded) != size_bytes:
        raise BadRequest(f"{name} must be {size_bytes} bytes in base64url, as PushSubscription.toJSON() has it")
    return decoded
