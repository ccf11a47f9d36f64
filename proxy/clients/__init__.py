"""How clients are told to pull through Entrepot: wishes in, files out.

One module for each client. Pure: what is on the node comes in as a function,
what should be there goes out as text; reading, writing and taking back is the
caller's. Knows nothing of the server beyond the paths that it answers.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.clients import buildkit, containerd, containers, docker, k3s, kind, regctl, talos
from proxy.clients.wish import (
    Conflict,
    File,
    Mistake,
    Plan,
    Registry,
    Server,
    Wish,
    parse_version,
)

PLANS: dict[str, Callable[[Wish], Plan]] = {
    "containerd": containerd.plan,
    "docker": docker.plan,
    "crio": containers.crio,
    "podman": containers.podman,
    "buildkit": buildkit.plan,
    "k3s": k3s.plan,
    "kind": kind.plan,
    "talos": talos.plan,
    "regctl": regctl.plan,
}

__all__ = [
    "PLANS",
    "Conflict",
    "File",
    "Mistake",
    "Plan",
    "Registry",
    "Server",
    "Wish",
    "parse_version",
]
