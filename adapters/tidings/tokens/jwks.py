"""The public keys of one issuer, read from a file or an https URL (RFC 7517) and cached.

Nothing of a token becomes part of a URL (CVE-2026-32301). Keys are stored by issuer as well as by `kid`
(GHSA-g6vg-wj8f-48cj).
"""

from __future__ import annotations

import ipaddress
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tidings.errors import BadConfig, TidingsError, Unavailable
from tidings.tokens.signing_keys import Key

if TYPE_CHECKING:
    from email.message import Message
    from typing import IO

MAX_BYTES = 262_144
FETCH_TIMEOUT_S = 5.0
# At most one fetch in this time, however many tokens have an unknown kid.
REFETCH_S = 30.0
KEYS_MAX = 100


class Jwks:
    """The keys of the issuer `issuer`, from `url` or `file`; empty until the first `refresh`.

    `cache_s`: seconds between two fetches. After a failed fetch the known keys stay, and the next attempt follows after
    `REFETCH_S` seconds. `fetch` takes the URL and returns the body.

    Raises:
        BadConfig: neither or both of `url` and `file`, or a URL that is not https.
    """

    def __init__(
        self,
        issuer: str,
        *,
        url: str = "",
        file: str = "",
        cache_s: float = 600.0,
        fetch: Callable[[str], bytes] | None = None,
    ) -> None:
        if not issuer or bool(url) == bool(file):
            raise BadConfig("a JWKS needs an issuer and either url or file")
        if url:
            _check_url(url)
        self.issuer = issuer
        self.keys: list[Key] = []
        self._url = url
        self._file = file
        self._cache_s = cache_s
        self._fetch = fetch or fetch_bytes
        self._last_fetch_s: float | None = None
        self._last_attempt_s: float | None = None
        self._has_unknown_kid = False
        self._lock = threading.Lock()

    def on_unknown_kid(self, now_s: float) -> None:
        """A token has a `kid` without a key here. Makes the next refresh due earlier."""
        self._has_unknown_kid = self._has_unknown_kid or self._last_attempt_s is None or now_s > self._last_attempt_s

    def is_due(self, now_s: float) -> bool:
        """Whether `refresh` would fetch."""
        if self._last_attempt_s is None:
            return True
        if now_s - self._last_attempt_s < REFETCH_S:
            return False
        return self._has_unknown_kid or self._last_fetch_s is None or now_s - self._last_fetch_s >= self._cache_s

    def refresh(self, now_s: float) -> None:
        """Fetch the keys if that is due. Blocks for at most some seconds. Threads may call it at the same time.

        Raises:
            Unavailable: no response, or not a JWKS; the known keys stay.
        """
        with self._lock:
            if not self.is_due(now_s):
                return
            self._last_attempt_s = now_s
            self._has_unknown_kid = False
            try:
                body = self._fetch(self._url) if self._url else _read(self._file)
            except (OSError, urllib.error.URLError, ValueError) as error:
                raise Unavailable(f"no keys from the JWKS of {self.issuer}: {type(error).__name__}") from error
            self.keys = self._parse(body)
            self._last_fetch_s = now_s

    def _parse(self, body: bytes) -> list[Key]:
        try:
            entries = json.loads(body)["keys"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unavailable(f"the JWKS of {self.issuer} is not a JWKS") from error
        if not isinstance(entries, list):
            raise Unavailable(f"the JWKS of {self.issuer} is not a JWKS")
        keys = []
        for entry in entries[:KEYS_MAX]:
            try:
                keys.append(Key.from_jwk(entry if isinstance(entry, dict) else {}))
            except TidingsError:
                # RFC 7517 section 5: ignore entries for other uses and algorithms.
                continue
        if not keys:
            raise Unavailable(f"the JWKS of {self.issuer} has no key for RS256, ES256 or EdDSA")
        return keys


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: only the configured URL is requested."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Return no new request, so that the redirect becomes an HTTPError."""
        return


def fetch_bytes(url: str) -> bytes:
    """The body at `url`, at most `MAX_BYTES`, within about `FETCH_TIMEOUT_S`; no redirects.

    Raises:
        OSError, ValueError: no response, an error status, or a body that is too large.
    """
    _check_url(url)
    deadline_s = time.monotonic() + FETCH_TIMEOUT_S
    opener = urllib.request.build_opener(_NoRedirect)
    body = b""
    try:
        response = opener.open(url, timeout=FETCH_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(f"status {error.code}") from None
    with response:
        while part := response.read1(65_536):
            body += part
            if len(body) > MAX_BYTES:
                raise ValueError(f"a response of more than {MAX_BYTES} bytes")
            if time.monotonic() > deadline_s:
                raise TimeoutError
    return body


def _read(file: str) -> bytes:
    with Path(file).open("rb") as opened:
        body = opened.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise ValueError(f"a file of more than {MAX_BYTES} bytes")
    return body


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise BadConfig("the url of a JWKS is malformed") from None
    if not host or "@" in parts.netloc:
        raise BadConfig("the url of a JWKS is https://host/path, without user and password")
    if parts.scheme != "https" and not (parts.scheme == "http" and _loopback(host)):
        raise BadConfig("the url of a JWKS must be https; http is for loopback only")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
