"""The host that a request names, in its Host header or in its target (RFC 9110 section 7.2, RFC 3986 section 3.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

# A name or an address, with an optional port. Without user information, which no Host header has.
_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,255}?)\.?(?::[0-9]{1,5})?\Z")


def hostname(host: str) -> str:
    """Return the name or address without port and final dot, in lower case. Empty: it is malformed."""
    match = _HOST.match(host)
    return match[1].strip("[]").lower() if match is not None else ""


def is_loopback_name(name: str) -> bool:
    """Whether a `hostname` is this machine for every client: `localhost`, a name below it, or a loopback address.

    Source: RFC 6761 section 6.3. Forms such as `127.1` are no addresses here; browsers send them in their normal form.
    """
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip = ip_address(name)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback


class LocalHosts:
    """Accepts requests to this machine, and to the hosts of the listed `origins` (`*`: to any host).

    A hub without tokens must refuse all others. Else a page on the Internet that points its own name to 127.0.0.1 (DNS
    rebinding) has the same origin as the hub, and each browser that opens the page could use it.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        entries = list(origins)
        self._any = "*" in entries
        # The name in the origin of an application, such as that of an extension, is no host.
        pages = [entry.partition("://")[2] for entry in entries if entry.lower().startswith(("http://", "https://"))]
        self._names = frozenset(map(hostname, pages)) - {""}

    def allows(self, host: str) -> bool:
        """Whether a request with this Host header may be served. Empty: an HTTP/1.0 program that sends none."""
        if not host or self._any:
            return True
        name = hostname(host)
        return is_loopback_name(name) or name in self._names
