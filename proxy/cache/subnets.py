"""Clients by their subnet: one machine is rarely the point, and its address is nobody's
business.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_BITS = {4: 24, 6: 56}
_NAME_MAX = 40


@lru_cache(maxsize=4096)
def subnet_of(client: str) -> str:
    """That of an address: /24, for IPv6 /56. Anything else is called by its own name."""
    try:
        address: IPv4Address | IPv6Address = ip_address(client)
    except ValueError:
        return client[:_NAME_MAX] or "unknown"
    if isinstance(address, IPv6Address):
        # Without its zone, which names an interface of ours.
        address = address.ipv4_mapped or IPv6Address(int(address))
    return str(ip_network((address, _BITS[address.version]), strict=False))
