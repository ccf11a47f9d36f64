"""regctl (regclient): mirrors by registry, and how to speak to the mirror.

The mirror of each registry is an entry of its own with the server's address and
a `pathPrefix`, so that the path says which registry is meant.
Source: regclient `config/host.go`.
"""

from __future__ import annotations

from typing import Any

from proxy.clients.merging import into_json
from proxy.clients.wish import File, Plan, Registry, Wish


def plan(wish: Wish) -> Plan:
    """The file for regctl, in the user's home folder. Raises `Conflict`."""
    config = f"{wish.home}/.regctl/config.json"
    hosts: dict[str, Any] = {}
    for registry in wish.registries:
        mirror = f"entrepot-{registry.at}"
        hosts[registry.name] = {"mirrors": [mirror]}
        hosts[mirror] = _mirror(wish, registry)
    hosts[wish.server.netloc] = {"hostname": wish.server.netloc, **_tls(wish)}
    return Plan(
        ledger=f"{wish.home}/.regctl/entrepot.json",
        files=(
            File(
                path=config,
                content=into_json(config, wish.now(config), {"hosts": hosts}),
                shared=True,
            ),
        ),
    )


def _mirror(wish: Wish, registry: Registry) -> dict[str, Any]:
    return {"hostname": wish.server.netloc, "pathPrefix": registry.at, **_tls(wish)}


def _tls(wish: Wish) -> dict[str, Any]:
    if wish.server.plain:
        return {"tls": "disabled"}
    return {} if wish.ca is None else {"tls": "enabled", "regcert": wish.ca}
