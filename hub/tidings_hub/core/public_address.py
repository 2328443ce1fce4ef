"""Which IP addresses are public, so that a hook may send requests to them.

Source: the special-purpose registries of IANA (RFC 6890), and the address formats that embed another address.
"""

from __future__ import annotations

import ipaddress
from typing import Final

# In addition to Python's own table: address formats that embed an IPv4 address (no server has one), and reserved
# ranges. A mapped address (::ffff:0:0/96) is how a system writes an IPv4 address; it is checked as that one.
_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("192.0.0.0/24", "192.88.99.0/24"),
        *("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
)


def is_public(text: str) -> bool:
    """Whether `text`, an address as the system resolved it, belongs to the public Internet. False for other text."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return is_public(str(address.ipv4_mapped))
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast
