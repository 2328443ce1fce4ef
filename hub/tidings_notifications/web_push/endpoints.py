"""Which endpoints pushes may go to: the push services of the settings, over TLS, at public addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from tidings.errors import BadRequest
from tidings.http_client.public_address import is_public

_ENDPOINT_MAX: Final = 2_048


class EndpointRules:
    """`hosts`: names, or `*.` and a domain. A host with a port allows only that port, others only 443."""

    def __init__(self, hosts: Sequence[str], *, allow_private: bool = False) -> None:
        names = [host.lower() for host in hosts]
        self._exact = frozenset(name for name in names if not name.startswith("*."))
        self._ends = tuple(name[1:] for name in names if name.startswith("*."))
        self.allow_private = allow_private

    def check(self, endpoint: object) -> str:
        """Return `endpoint` if pushes may go to it.

        Raises:
            BadRequest: it is no https URL, or of another host.
        """
        if not isinstance(endpoint, str) or not endpoint.isascii() or len(endpoint) > _ENDPOINT_MAX:
            raise BadRequest(f"endpoint must be a URL of at most {_ENDPOINT_MAX:,} ASCII characters")
        if any(character <= " " or character in '\\"<>\x7f' for character in endpoint):
            raise BadRequest("endpoint must be a URL")
        try:
            parts = urlsplit(endpoint)
            host = _host(parts)
        except ValueError as error:
            raise BadRequest("endpoint must be a URL") from error
        if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.fragment:
            raise BadRequest("endpoint must be an https URL, without a user or a fragment")
        if host not in self._exact and not any(host.endswith(end) and host != end for end in self._ends):
            raise BadRequest(f"{host!a:.80} is none of the push services in `hosts` of [notifications.web_push]")
        if not self.allow_private and _is_address(parts.hostname) and not is_public(parts.hostname):
            raise BadRequest("endpoint has an address that is not public")
        return endpoint


def origin_of(endpoint: str) -> str:
    """The origin of an endpoint that was checked: what a token is for."""
    return f"https://{_host(urlsplit(endpoint))}"


def _host(parts: SplitResult) -> str:
    name = (parts.hostname or "").lower()
    name = f"[{name}]" if ":" in name else name
    return name if parts.port in {None, 443} else f"{name}:{parts.port}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
