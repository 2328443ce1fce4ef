"""Fetching the JWKS of an issuer over HTTP: one deadline from connect to the last byte, no redirects, bounded size.

It uses no proxy unless `proxy` names one. Nothing of a token becomes part of a URL (CVE-2026-32301).
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from tidings.errors import BadConfig
from tidings.http_client.connection import HttpAddress, HttpConnection
from tidings.http_client.deadline import Deadline
from tidings.http_client.hosts import check_quoted_host

JWKS_MAX_BYTES = 262_144
# Names the proxies of the environment: HTTPS_PROXY and NO_PROXY.
PROXY_FROM_ENVIRONMENT = "environment"
_OK = 200
_PORTS = {"http": 80, "https": 443}
_VISIBLE = re.compile(r"[\x21-\x7e]*\Z")


class JwksFetch:
    """Fetches the document at `url`. `tls`: the context for https; the default checks certificate and host name.

    `proxy`: `http://host:port`, `environment`, or empty for none. http is possible on loopback only: the name must
    resolve to loopback addresses. A JWKS may be on a private address, as its URL is a setting and https proves the
    server's name.

    Raises:
        BadConfig: not such a URL or proxy.
    """

    def __init__(self, url: str, *, timeout_s: float, proxy: str = "", tls: ssl.SSLContext | None = None) -> None:
        parts = _split(url)
        host = parts.hostname or ""
        check_quoted_host(host)
        secure = parts.scheme == "https"
        self._timeout_s = timeout_s
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._address = HttpAddress(
            host,
            parts.port or _PORTS[parts.scheme],
            (tls or ssl.create_default_context()) if secure else None,
            None if secure else is_loopback,
            _proxy(proxy, host) if secure else None,
        )

    def __call__(self) -> bytes:
        """The document.

        Raises:
            OSError: no valid response before the deadline, or another status than 200.
        """
        deadline = Deadline.after(self._timeout_s)
        connection = HttpConnection(self._address)
        headers = {
            "Accept": "application/jwk-set+json, application/json",
            "User-Agent": "tidings",
            "Connection": "close",
        }
        try:
            status, body = connection.exchange(
                self._target, None, headers, deadline=deadline, response_max_bytes=JWKS_MAX_BYTES
            )
        finally:
            connection.close()
        if status != _OK:
            raise OSError(f"status {status}")
        return body


def is_loopback(text: str) -> bool:
    """Whether `text` is a loopback address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_valid = bool(host) and (parts.port or 1) > 0 and _VISIBLE.match(url) is not None and not parts.fragment
    except ValueError:
        raise BadConfig("the url of a JWKS is malformed") from None
    if not is_valid or "@" in parts.netloc:
        raise BadConfig("the url of a JWKS is https://host/path, without user and password")
    if parts.scheme != "https" and not (parts.scheme == "http" and (host == "localhost" or is_loopback(host))):
        raise BadConfig("the url of a JWKS must be https; http is for loopback only")
    return parts


def _proxy(proxy: str, host: str) -> tuple[str, int] | None:
    if proxy == PROXY_FROM_ENVIRONMENT:
        proxy = "" if proxy_bypass(host) else getproxies().get("https", "")
    if not proxy:
        return None
    try:
        parts = urlsplit(proxy)
        address = parts.hostname or "", parts.port or 80
        check_quoted_host(address[0])
    except ValueError:
        raise BadConfig("the proxy of a JWKS is malformed; it is http://host:port") from None
    if parts.scheme != "http" or not address[0] or "@" in parts.netloc or parts.path not in {"", "/"}:
        raise BadConfig("the proxy of a JWKS is http://host:port, without user and password")
    return address
