"""containerd, below Kubernetes or alone: config.toml names one folder of hosts.toml files.

Everything that makes it ignore mirrors without a word is met here: the folder
must be a single one (the default of 2.1 and newer is two, joined by a colon, and
its transfer service takes that for one name: containerd issues 12415, 12636), the
table is called differently in versions 1, 2 and 3 of the file, and `mirrors` of
the old kind must not stand beside `config_path`.
"""

from __future__ import annotations

from typing import Any

from proxy.clients import hosts_toml, toml_text
from proxy.clients.wish import MARK, Conflict, File, Plan, Wish

CONFIG = "/etc/containerd/config.toml"
FOLDER = "/etc/containerd/certs.d"
PAIR = "/etc/containerd/certs.d:/etc/docker/certs.d"
PLUGIN_V2 = "io.containerd.grpc.v1.cri"
PLUGIN_V3 = "io.containerd.cri.v1.images"
LEDGER = "/etc/entrepot/mirror-config/containerd.json"
CA_NAME = "entrepot-ca.crt"


def plan(wish: Wish) -> Plan:
    """The files for containerd. Raises `Conflict`."""
    old = wish.now(CONFIG)
    config, folder, notes = _config(wish, old)
    files = [File(path=CONFIG, content=config, shared=True)]
    files += host_files(wish, folder=folder, seen_at=folder)
    then = () if config == old else ("systemctl restart containerd (its config.toml changes)",)
    return Plan(ledger=LEDGER, files=tuple(files), then=then, notes=tuple(notes))


def host_files(wish: Wish, *, folder: str, seen_at: str) -> list[File]:
    """A hosts.toml for each registry, and the authority's certificate.

    `folder` is where they are written, `seen_at` where containerd finds it.
    """
    files = []
    if wish.ca is not None:
        files.append(File(path=f"{folder}/{CA_NAME}", content=wish.ca))
    for registry in wish.registries:
        path = f"{folder}/{registry.name}/hosts.toml"
        content = hosts_toml.text(
            path,
            wish.now(path),
            wish.server,
            registry,
            ca=None if wish.ca is None else f"{seen_at}/{CA_NAME}",
            referrers=wish.at_least(2, 2),
            dial_timeout=wish.at_least(2, 1),
        )
        files.append(File(path=path, content=content, shared=True))
    return files


def fresh(plugin: str, version: int) -> str:
    """A config.toml that says nothing but where the mirrors are."""
    table = toml_text.section(("plugins", plugin, "registry"), {"config_path": FOLDER})
    return f"# {MARK}\nversion = {version}\n\n{table}"


def _config(wish: Wish, old: str | None) -> tuple[str, str, list[str]]:
    """The text of config.toml, the folder it names, what to know about it."""
    if old is None or not old.strip():
        if wish.at_least(2):
            return fresh(PLUGIN_V3, 3), FOLDER, []
        return fresh(PLUGIN_V2, 2), FOLDER, []
    document = toml_text.read(CONFIG, old)
    plugin = cri_plugin(document)
    registry = document.get("plugins", {}).get(plugin, {}).get("registry", {})
    _refuse_old_kind(registry)
    notes = []
    if {"cri", PLUGIN_V2, PLUGIN_V3} & set(document.get("disabled_plugins", [])):
        notes.append(f"{CONFIG} turns the CRI plugin off: only nerdctl and `ctr` read these files")
    if document.get("imports"):
        notes.append(f"{CONFIG} imports other files; none of them may set config_path, too")
    folder = registry.get("config_path") or FOLDER
    if ":" in folder:
        if wish.older_than(2, 1):
            return old, folder.split(":")[0], notes
        if folder != PAIR:
            raise Conflict(CONFIG, f"config_path is {folder!r}; containerd needs a single folder")
        notes.append(f"config_path was {PAIR}, of which newer containerd reads nothing")
        folder = FOLDER
    wanted = [(("plugins", plugin, "registry"), {"config_path": folder})]
    config = toml_text.into(CONFIG, old, wanted, replacing=frozenset({"config_path"}))
    return config, folder, notes


def cri_plugin(document: dict[str, Any]) -> str:
    """The plugin that reads `registry`: the one that is there, else by version."""
    match document.get("version", 1):
        case 1:
            names: tuple[str, ...] = ("cri",)
        case 2:
            # Some managed nodes have only the new name in a file of version 2.
            names = (PLUGIN_V2, PLUGIN_V3)
        case _:
            names = (PLUGIN_V3, PLUGIN_V2)
    there = document.get("plugins", {})
    return next((name for name in names if name in there), names[0])


def _refuse_old_kind(registry: dict[str, Any]) -> None:
    tls = [name for name, one in registry.get("configs", {}).items() if "tls" in one]
    if registry.get("mirrors") or tls:
        what = "registry.mirrors" if registry.get("mirrors") else "registry.configs.*.tls"
        raise Conflict(
            CONFIG,
            f"has {what}, which containerd does not allow beside config_path; move it to "
            "hosts.toml files first",
        )
