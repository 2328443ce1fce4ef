"""How many sessions each client address has: only opening and closing one counts, never a poll or a frame."""

from __future__ import annotations

from ipaddress import IPv6Address


def household(remote: str) -> str:
    """What counts as one address: an IPv4 address, or the 64 bits that one IPv6 subscriber has for himself.

    A port that a proxy appended is left out; what is no address at all stands for itself.
    Source: RFC 6177 section 2 (nobody gets less than a /64), RFC 4291 section 2.5.5.2 (mapped IPv4).
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


class Addresses:
    """Sessions per address, at most `limit`; 0: not counted. Holds no more addresses than there are sessions."""

    __slots__ = ("_counts", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """How many addresses have a session."""
        return len(self._counts)

    def has_room(self, remote: str) -> bool:
        """Whether one more session may come from there."""
        return not self._limit or self._counts.get(household(remote), 0) < self._limit

    def add(self, remote: str) -> None:
        """A session came from there."""
        if self._limit:
            address = household(remote)
            self._counts[address] = self._counts.get(address, 0) + 1

    def remove(self, remote: str) -> None:
        """A session that was added has ended."""
        if not self._limit:
            return
        address = household(remote)
        left = self._counts[address] - 1
        if left:
            self._counts[address] = left
        else:
            del self._counts[address]
