"""Limit what each client address has at a time: sessions, or probes. Only their begin and end cost anything."""

from __future__ import annotations

from ipaddress import IPv6Address


def address_key(remote: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 prefix of an IPv6 address.

    A port that a proxy appended is removed. Text that is not an address is returned unchanged.
    Source: RFC 6177 section 2 (every IPv6 site gets at least a /64), RFC 4291 section 2.5.5.2 (mapped IPv4).
    """
    if ":" not in remote:
        return remote
    text = remote[1:].partition("]")[0] if remote.startswith("[") else remote
    if text.count(":") == 1:
        return text.partition(":")[0]
    try:
        ip = IPv6Address(text)
    except ValueError:
        return remote
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Address(int(ip) >> 64 << 64))


class AddressLimit:
    """Counts sessions or probes per address, up to `limit` (0: no limit and no counting)."""

    __slots__ = ("_counts", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """Number of addresses with one."""
        return len(self._counts)

    def has_room(self, remote: str) -> bool:
        """Whether this address may have another one."""
        return not self._limit or self._counts.get(address_key(remote), 0) < self._limit

    def add(self, remote: str) -> None:
        """Count a new one of this address."""
        if self._limit:
            address = address_key(remote)
            self._counts[address] = self._counts.get(address, 0) + 1

    def remove(self, remote: str) -> None:
        """Stop counting one that was added before."""
        if not self._limit:
            return
        address = address_key(remote)
        left = self._counts[address] - 1
        if left:
            self._counts[address] = left
        else:
            del self._counts[address]
