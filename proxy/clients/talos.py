"""Talos: a patch of the machine configuration.

From 1.12 mirrors are documents of their own; before, a part of `machine`. An
endpoint gets `/v2` appended unless `overridePath` says that it is there.
Source: Talos reference, RegistryMirrorConfig, RegistryTLSConfig, v1alpha1.
"""

from __future__ import annotations

import base64
from typing import Any

from proxy.clients.merging import Block, dumped
from proxy.clients.wish import MARK, File, Plan, Wish

FOLDER = "entrepot-talos"
PATCH = f"{FOLDER}/patch.yaml"


def plan(wish: Wish) -> Plan:
    """The patch for Talos nodes."""
    documents = _before_1_12(wish) if wish.older_than(1, 12) else _documents(wish)
    content = dumped(*documents)
    return Plan(
        ledger=f"{FOLDER}/written.json",
        files=(File(path=PATCH, content=f"# {MARK}\n{content}"),),
        then=(f"talosctl patch machineconfig --nodes NODE --patch @{PATCH}",),
        notes=wish.server.unseen(),
    )


def _documents(wish: Wish) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "v1alpha1",
            "kind": "RegistryMirrorConfig",
            "name": one.name,
            "endpoints": [{"url": f"{wish.server.url}/v2/{one.at}", "overridePath": True}],
        }
        for one in wish.registries
    ]
    if wish.ca is not None:
        tls = {"apiVersion": "v1alpha1", "kind": "RegistryTLSConfig", "name": wish.server.netloc}
        documents.append({**tls, "ca": Block(wish.ca)})
    return documents


def _before_1_12(wish: Wish) -> list[dict[str, Any]]:
    registries: dict[str, Any] = {
        "mirrors": {
            one.name: {"endpoints": [f"{wish.server.url}/v2/{one.at}"], "overridePath": True}
            for one in wish.registries
        }
    }
    if wish.ca is not None:
        ca = base64.b64encode(wish.ca.encode()).decode()
        registries["config"] = {wish.server.netloc: {"tls": {"ca": ca}}}
    return [{"machine": {"registries": registries}}]
