"""Podman, CRI-O, Buildah, Skopeo: a drop-in of registries.conf, one for them all.

A drop-in's entry for a registry replaces the entry of registries.conf as a
whole, so one that says more than a location is a `Conflict`.
Source: containers-registries.conf(5), (5.d), containers-certs.d(5).
"""

from __future__ import annotations

from typing import Any

from proxy.clients import toml_text
from proxy.clients.wish import MARK, Conflict, File, Plan, Registry, Wish

MAIN = "/etc/containers/registries.conf"
CONFIG = "/etc/containers/registries.conf.d/entrepot.conf"
CERTS = "/etc/containers/certs.d"
LEDGER = "/etc/entrepot/mirror-config/containers.json"
_HARMLESS = frozenset({"prefix", "location"})


def podman(wish: Wish) -> Plan:
    """The files for podman and all that share its library. Raises `Conflict`."""
    return _plan(wish, ())


def crio(wish: Wish) -> Plan:
    """The same files for CRI-O, which has to be told. Raises `Conflict`."""
    return _plan(wish, ("systemctl reload crio",))


def _plan(wish: Wish, then: tuple[str, ...]) -> Plan:
    _refuse_replacing(wish)
    parts = [f"# {MARK}\n", *(_registry(wish, one) for one in wish.registries)]
    if wish.server.plain:
        # For images that are pulled from Entrepot by its own name.
        parts.append(_array("registry", {"location": wish.server.host, "insecure": True}))
    files = [File(path=CONFIG, content="\n".join(parts))]
    if wish.ca is not None:
        files.append(File(path=f"{CERTS}/{wish.server.host}/ca.crt", content=wish.ca))
    return Plan(ledger=LEDGER, files=tuple(files), then=then)


def _registry(wish: Wish, registry: Registry) -> str:
    mirror: dict[str, toml_text.Value] = {
        "location": f"{wish.server.host}/{registry.at}",
        "pull-from-mirror": "all",
    }
    if wish.server.plain:
        mirror["insecure"] = True
    itself = _array("registry", {"prefix": registry.name, "location": registry.name})
    return itself + _array("registry.mirror", mirror)


def _array(name: str, entries: dict[str, toml_text.Value]) -> str:
    lines = [f"[[{name}]]", *(toml_text.line(key, value) for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def _refuse_replacing(wish: Wish) -> None:
    main = wish.now(MAIN)
    if main is None:
        return
    ours = {one.name for one in wish.registries}
    entries: list[dict[str, Any]] = toml_text.read(MAIN, main).get("registry", [])
    for entry in entries:
        name = entry.get("prefix") or entry.get("location")
        if name in ours and not set(entry) <= _HARMLESS:
            raise Conflict(
                MAIN, f"has an entry of its own for {name}, which a drop-in would replace"
            )
