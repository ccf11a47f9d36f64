"""k3s: registries.yaml, from which it makes containerd's hosts.toml files.

An endpoint with a path becomes `override_path`, so the path is the whole of it,
`/v2` included. Source: k3s `pkg/agent/containerd/config.go`.
"""

from __future__ import annotations

from typing import Any

from proxy.clients.merging import into_yaml
from proxy.clients.wish import File, Plan, Wish

CONFIG = "/etc/rancher/k3s/registries.yaml"
CA = "/etc/rancher/k3s/entrepot-ca.crt"
LEDGER = "/etc/entrepot/mirror-config/k3s.json"


def plan(wish: Wish) -> Plan:
    """The files for k3s. Raises `Conflict`."""
    server = wish.server
    wanted: dict[str, Any] = {
        "mirrors": {
            one.name: {"endpoint": [f"{server.url}/v2/{one.at}"]} for one in wish.registries
        }
    }
    files = []
    if wish.ca is not None:
        wanted["configs"] = {server.netloc: {"tls": {"ca_file": CA}}}
        files.append(File(path=CA, content=wish.ca))
    content = into_yaml(CONFIG, wish.now(CONFIG), wanted)
    return Plan(
        ledger=LEDGER,
        files=(File(path=CONFIG, content=content, shared=True), *files),
        then=("systemctl restart k3s (on agents: k3s-agent)",),
    )
