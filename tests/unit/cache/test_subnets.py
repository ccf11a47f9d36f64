"""Clients by their subnet."""

from __future__ import annotations

import pytest

from proxy.cache.subnets import subnet_of


@pytest.mark.parametrize(
    ("client", "subnet"),
    [
        ("192.0.2.255", "192.0.2.0/24"),
        ("2001:db8:1:23ff::7", "2001:db8:1:2300::/56"),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/56"),
        ("", "unknown"),
        ("warm", "warm"),
        ("x" * 99, "x" * 40),
    ],
)
def test_an_address_becomes_its_subnet(client: str, subnet: str) -> None:
    assert subnet_of(client) == subnet
