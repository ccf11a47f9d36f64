"""Docker: `registry-mirrors` in daemon.json, which is for Docker Hub only.

A mirror with a path is refused before 25, so there Entrepot is asked at its root
and answers for its default upstream. From 28 the containerd image store reads
hosts.toml files as well, for any registry; what is there beats registry-mirrors.
"""

from __future__ import annotations

from typing import Any

from proxy.clients import hosts_toml
from proxy.clients.merging import into_json
from proxy.clients.wish import File, Mistake, Plan, Wish

CONFIG = "/etc/docker/daemon.json"
CERTS = "/etc/docker/certs.d"
HUB = "docker.io"
LEDGER = "/etc/entrepot/mirror-config/docker.json"


def plan(wish: Wish) -> Plan:
    """The files for dockerd. Raises `Conflict`, `Mistake`."""
    hub = next((one for one in wish.registries if one.name == HUB), None)
    others = tuple(one.name for one in wish.registries if one is not hub)
    hosts = wish.at_least(28)
    if hub is None and not hosts:
        raise Mistake("Docker before 28 mirrors docker.io and nothing else")
    wanted: dict[str, Any] = {}
    if hub is not None:
        path = f"/{hub.at}" if wish.at_least(25) else ""
        wanted["registry-mirrors"] = [wish.server.url + path]
    if wish.server.plain:
        wanted["insecure-registries"] = [wish.server.netloc]
    content = into_json(CONFIG, wish.now(CONFIG), wanted)
    files = [File(path=CONFIG, content=content, shared=True)]
    ca = None
    if wish.ca is not None:
        ca = f"{CERTS}/{wish.server.netloc}/ca.crt"
        files.append(File(path=ca, content=wish.ca))
    if hosts:
        files += _host_files(wish, ca)
    return Plan(
        ledger=LEDGER,
        files=tuple(files),
        then=("systemctl reload docker",),
        notes=_notes(wish, others, hosts=hosts),
    )


def _host_files(wish: Wish, ca: str | None) -> list[File]:
    files = []
    for registry in wish.registries:
        path = f"{CERTS}/{registry.name}/hosts.toml"
        content = hosts_toml.text(path, wish.now(path), wish.server, registry, ca=ca)
        files.append(File(path=path, content=content, shared=True))
    return files


def _notes(wish: Wish, others: tuple[str, ...], *, hosts: bool) -> tuple[str, ...]:
    if hosts:
        return ("hosts.toml files are read by the containerd image store only (docker info)",)
    notes = []
    if others:
        notes.append(
            f"Docker mirrors {HUB} only; for {', '.join(others)} put "
            f"{wish.server.host}/ before the image's name"
        )
    if not wish.at_least(25):
        notes.append(f"Entrepot's default_upstream must be {HUB}, as it is unless changed")
    return tuple(notes)
