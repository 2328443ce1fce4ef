"""The key that identifies this application to push services (RFC 8292), and the tokens that it signs."""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tidings.errors import BadConfig
from tidings.tokens.signing_keys import Key
from tidings_notifications.web_push import base64url

# Push services accept at most 24 h. A clock that is some hours off still works, in both directions.
_TOKEN_LIFE_S: Final = 12 * 3600
_RENEW_BEFORE_S: Final = 6 * 3600
# A push service with a wildcard may have many hosts.
_ORIGINS_MAX: Final = 1_000
_FILE_MODE: Final = 0o600
_FILE_MAX_BYTES: Final = 65_536


class VapidKey:
    """A private key on P-256. `public_key`: what a page passes to `pushManager.subscribe`."""

    def __init__(self, pem: bytes) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

        self._key = Key("ES256", pem, private=True)
        public: Any = load_pem_private_key(pem, password=None).public_key()
        self.public_key = base64url.encode(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))

    @classmethod
    def load(cls, file: Path) -> VapidKey:
        """The key in a PEM file.

        Raises:
            BadConfig: the file cannot be read, or has no private key on P-256.
        """
        try:
            with file.open("rb") as opened:
                pem = opened.read(_FILE_MAX_BYTES)
        except OSError as error:
            raise BadConfig(
                f"vapid_key_file: cannot read {file}: {error.strerror}; `tidings vapid {file}` makes a key"
            ) from error
        try:
            return cls(pem)
        except BadConfig as error:
            raise BadConfig(f"vapid_key_file: {file}: {error}; `tidings vapid` makes a key on P-256") from error

    @classmethod
    def create(cls, file: Path) -> VapidKey:
        """Make a key and write it to a new file that only its owner can read.

        Raises:
            BadConfig: the file exists, or cannot be written.
        """
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        except FileExistsError as error:
            raise BadConfig(
                f"{file} exists; another key would make every subscription useless."
                f" `tidings vapid --show {file}` prints its public key"
            ) from error
        except OSError as error:
            raise BadConfig(f"cannot write {file}: {error.strerror}") from error
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(pem)
        return cls(pem)

    def sign(self, signing_input: bytes) -> bytes:
        """An ES256 signature."""
        return self._key.sign(signing_input)


class VapidHeaders:
    """The header `Authorization` for each push service. A token is signed once, and renewed long before its end.

    `contact`: `mailto:` or https. One thread uses it.
    """

    def __init__(self, key: VapidKey, contact: str, *, unix_s: Callable[[], float] = time.time) -> None:
        self._key = key
        self._contact = contact
        self._unix_s = unix_s
        self._by_origin: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def header(self, origin: str) -> str:
        """The header for `origin`, such as `https://fcm.googleapis.com`."""
        at_s = self._unix_s()
        header, signed_s = self._by_origin.get(origin, ("", 0.0))
        # A clock that was set back would make the token too far ahead.
        if not header or not signed_s <= at_s < signed_s + _TOKEN_LIFE_S - _RENEW_BEFORE_S:
            header = f"vapid t={self._token(origin, int(at_s))}, k={self._key.public_key}"
            self._by_origin[origin] = (header, at_s)
            if len(self._by_origin) > _ORIGINS_MAX:
                self._by_origin.popitem(last=False)
        return header

    def _token(self, origin: str, at_s: int) -> str:
        claims = {"aud": origin, "exp": at_s + _TOKEN_LIFE_S, "sub": self._contact}
        signing_input = ".".join(_part(part) for part in ({"typ": "JWT", "alg": "ES256"}, claims))
        return f"{signing_input}.{base64url.encode(self._key.sign(signing_input.encode()))}"


def _part(value: Mapping[str, object]) -> str:
    return base64url.encode(json.dumps(value, separators=(",", ":")).encode())
