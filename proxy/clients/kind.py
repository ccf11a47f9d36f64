"""kind: a cluster configuration whose nodes see a folder of hosts.toml files.

Node images of kind 0.27 and newer look into the folder already; older ones have
to be told. Files are made in the current folder, where `kind create` is called.
Source: kind `docs/user/local-registry`, `docs/user/configuration` (extraMounts).
"""

from __future__ import annotations

from typing import Any

from proxy.clients import containerd, toml_text
from proxy.clients.merging import Block, dumped
from proxy.clients.wish import MARK, File, Plan, Wish

FOLDER = "entrepot-kind"
CONFIG = f"{FOLDER}/cluster.yaml"


def plan(wish: Wish) -> Plan:
    """The files for kind. Raises `Conflict`."""
    mount = {
        "hostPath": f"./{FOLDER}/certs.d",
        "containerPath": containerd.FOLDER,
        "readOnly": True,
    }
    cluster: dict[str, Any] = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane", "extraMounts": [mount]}],
    }
    if not wish.at_least(0, 27):
        table = ("plugins", containerd.PLUGIN_V2, "registry")
        patch = toml_text.section(table, {"config_path": containerd.FOLDER})
        cluster["containerdConfigPatches"] = [Block(patch)]
    # The version is kind's own and says nothing of the containerd in its image.
    hosts = Wish(server=wish.server, registries=wish.registries, ca=wish.ca, now=wish.now)
    files = containerd.host_files(hosts, folder=f"{FOLDER}/certs.d", seen_at=containerd.FOLDER)
    return Plan(
        ledger=f"{FOLDER}/written.json",
        files=(File(path=CONFIG, content=f"# {MARK}\n{dumped(cluster)}"), *files),
        then=(f"kind create cluster --config {CONFIG}",),
        notes=("repeat extraMounts for every further node", *wish.server.unseen()),
    )
