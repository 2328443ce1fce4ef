"""Which IP addresses are public, so that requests to addresses that others chose may go to them.

Source: the special-purpose registries of IANA (RFC 6890), and the address formats that embed an IPv4 address.
"""

from __future__ import annotations

import ipaddress
from typing import Final

# A translator or tunnel can turn an address that embeds an IPv4 address into that address. No server has one.
# ::ffff:a.b.c.d is the exception: a system writes an IPv4 address so, and it is checked as that one.
_NOT_PUBLIC_IPV4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
# Global unicast. All other prefixes are reserved, local, multicast, or embed an IPv4 address: ::/96 (compatible),
# ::ffff:0:0:0/96 (translated), 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64), fc00::/7, fe80::/10, fec0::/10, ff00::/8.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_IPV6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        # Protocol assignments, among them Teredo (2001::/32); documentation; 6to4; AS112; documentation.
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
# The upper half of an interface identifier of ISATAP (RFC 5214 section 6.1). Its lower half is an IPv4 address.
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)


def is_public(text: str) -> bool:
    """Whether `text`, an address as the system resolved it, belongs to the public Internet. False for other text.

    An operator's own NAT64 prefix (RFC 6052) is not recognized: it is an ordinary public prefix.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_IPV4)
    if address.ipv4_mapped is not None:
        return address.scope_id is None and is_public(str(address.ipv4_mapped))
    # A zone is for addresses of one link.
    if address.scope_id is not None or address not in _GLOBAL_UNICAST or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return False
    return not any(address in network for network in _NOT_PUBLIC_IPV6)
