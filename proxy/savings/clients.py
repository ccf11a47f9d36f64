"""Clients by their subnet: one person's machine is nobody's business here."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from proxy.cache.lru import Lru

_REMEMBERED_MAX = 4096
_BITS = {4: 24, 6: 56}
_NAME_MAX = 40


class Subnets:
    """Addresses to subnets: /24, for IPv6 /56."""

    def __init__(self) -> None:
        self._known: Lru[str, str] = Lru(_REMEMBERED_MAX)

    def of(self, client: str) -> str:
        """That of an address; anything else is called by its own name."""
        known = self._known.get(client)
        if known is None:
            known = _subnet(client)
            self._known.put(client, known)
        return known


def _subnet(client: str) -> str:
    try:
        address: IPv4Address | IPv6Address = ip_address(client)
    except ValueError:
        return client[:_NAME_MAX] or "unknown"
    if isinstance(address, IPv6Address):
        # Without its zone, which names an interface of ours.
        address = address.ipv4_mapped or IPv6Address(int(address))
    return str(ip_network((address, _BITS[address.version]), strict=False))
