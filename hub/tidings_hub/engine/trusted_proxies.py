"""The address, scheme and host of a client behind proxies that are trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol

# Longer text is no address.
_ADDRESS_MAX = 64
# The schemes of a client that used TLS. Traefik sends `wss` for a WebSocket.
_SECURE = frozenset({"https", "wss"})
# A pair of a Forwarded header; the value is a token or a quoted string (RFC 7239 section 4).
_PAIR = re.compile(r'([A-Za-z-]{1,32})=(?:"((?:[^"\\]|\\.)*)"|([^\s",;=]*))')
# What a Forwarded header consists of: escaped characters, quotes, commas, and all other text.
_PIECE = re.compile(r'\\.|["\\,]|[^"\\,]+')
_BRACKETED = re.compile(r"\[([^\]]*)\](?::.*)?\Z")
_WITH_PORT = re.compile(r"([0-9.]+):[^:]*\Z")


class ForwardedClient(Protocol):
    """An HTTP connection, as far as proxies describe its client. `address`: of the socket's peer."""

    address: tuple[str, int]
    remote: str
    secure: bool
    host: str


class TrustedProxies:
    """Reads what proxies in `networks` say about their clients, and ignores the headers of other peers.

    That is X-Forwarded-For, -Proto and -Host. If a request has none of them, it is Forwarded (RFC 7239): a proxy that
    sends X-Forwarded headers may let a Forwarded header of the client pass.
    """

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        # Most requests come from a few proxies.
        self.contains = lru_cache(maxsize=4096)(self._contains)

    def _contains(self, address: str) -> bool:
        try:
            ip = ip_address(plain_address(address))
        except ValueError:
            return False
        return any(ip in network for network in self._networks)

    def read_client(self, connection: ForwardedClient, headers: Mapping[str, str]) -> None:
        """Set the client's address, its scheme and the host that it requested."""
        connection.host = headers.get("host", "")
        peer = connection.address[0]
        if ":" in peer:
            peer = plain_address(peer)
        connection.remote, connection.secure = peer, False
        if not self._networks or not self.contains(peer):
            return
        hops, schemes, hosts = _forwarded(headers)
        # Each proxy appends the address of its peer. So from the right, the first untrusted address is the client's.
        count = 0
        for hop in reversed(hops):
            count += 1
            connection.remote = hop[:_ADDRESS_MAX]
            if not self.contains(hop):
                break
        connection.secure = _of_hop(schemes, count).lower() in _SECURE
        connection.host = _of_hop(hosts, count) or connection.host


def plain_address(text: str) -> str:
    """An address without port, brackets and the prefix of a mapped IPv4 address. Other text is returned unchanged.

    A socket that listens on `::` has peers such as ::ffff:127.0.0.1. Some proxies append a port.
    """
    if match := _BRACKETED.match(text) or _WITH_PORT.match(text):
        text = match[1]
    if ":" not in text:
        return text
    try:
        mapped = IPv6Address(text).ipv4_mapped
    except ValueError:
        return text
    return text if mapped is None else str(mapped)


def _forwarded(headers: Mapping[str, str]) -> tuple[list[str], list[str], list[str]]:
    """The addresses, schemes and hosts that proxies forward, that of the first proxy first."""
    values = [headers.get(f"x-forwarded-{name}") for name in ("for", "proto", "host")]
    if any(value is not None for value in values):
        hops, schemes, hosts = [[item.strip() for item in (value or "").split(",")] for value in values]
    else:
        elements = [_pairs(element) for element in _elements(headers.get("forwarded", ""))]
        hops, schemes, hosts = [[pairs.get(name, "") for pairs in elements] for name in ("for", "proto", "host")]
    # Behind an empty entry nothing is known.
    known = next((index for index, hop in enumerate(reversed(hops)) if not hop), len(hops))
    return [plain_address(hop) for hop in hops[len(hops) - known :]], schemes, hosts


def _elements(header: str) -> list[str]:
    """The elements of a Forwarded header. A comma in a quoted string separates nothing."""
    elements, is_quoted = [""], False
    for piece in _PIECE.findall(header):
        if piece == "," and not is_quoted:
            elements.append("")
        else:
            is_quoted ^= piece == '"'
            elements[-1] += piece
    return elements


def _pairs(element: str) -> dict[str, str]:
    return {
        match[1].lower(): match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        for match in _PAIR.finditer(element)
    }


def _of_hop(values: list[str], count: int) -> str:
    """What the proxy said that is `count` entries from the right. A shorter list begins at the client."""
    return values[-count] if 0 < count <= len(values) else values[0]
