"""Which addresses are public: those that a request to somebody else's server may go to.

Source: the special-purpose registries of IANA (RFC 6890), and the addresses that carry another one inside.
"""

from __future__ import annotations

import ipaddress
from typing import Final

# Beyond what Python's table of this version knows: addresses that carry an IPv4 one inside them (nobody has a server
# there), and ranges that the registries have set apart. Mapped addresses (::ffff:0:0/96) are what a system makes of an
# IPv4 one; they count as that.
_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("192.0.0.0/24", "192.88.99.0/24"),
        *("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
)


def is_public(text: str) -> bool:
    """Whether an address, as the system resolved it, is one of the public Internet. What is no address is not."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return is_public(str(address.ipv4_mapped))
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast
