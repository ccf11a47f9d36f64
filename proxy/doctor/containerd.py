"""Why containerd would go past its mirror. Reads what it reads, in its order.

Each finding names the file; the first that stops a pull from coming here is told,
since nothing after it is looked at by containerd either.
"""

from __future__ import annotations

import tomllib
from typing import Any
from urllib.parse import urlsplit

from proxy.clients.containerd import CONFIG, FOLDER, PAIR, cri_plugin
from proxy.clients.wish import Registry, Server
from proxy.doctor.files import NodeFiles
from proxy.doctor.finding import Finding

_FOLDERS = (FOLDER, "/etc/docker/certs.d")


def found(files: NodeFiles) -> bool:
    """Whether this node seems to have it."""
    return any(files.exists(path) for path in (CONFIG, FOLDER, "/usr/bin/containerd"))


def examine(files: NodeFiles, server: Server, registry: Registry) -> Finding:
    """Whether images of `registry` come through `server`."""
    name = f"containerd {registry.name}"
    todo = f"entrepot mirror-config containerd --server {server.url} --write"
    folder, problem = _folder(files)
    if folder is None:
        return Finding(name, "fail", problem, todo)
    path = _hosts_file(files, folder, registry)
    if path is None:
        return _missing(files, name, folder, registry, todo)
    try:
        document = tomllib.loads(files.read(path) or "")
    except tomllib.TOMLDecodeError as error:
        return Finding(name, "fail", f"{path} is not TOML ({error}): containerd drops it", todo)
    wrong = _host(files, path, document, server)
    if wrong is not None:
        return Finding(name, "fail", wrong, todo)
    doubtful = problem or _doubt(path, document, server)
    if doubtful:
        return Finding(name, "warn", doubtful, todo)
    return Finding(name, "ok", f"{path} leads to {server.url}")


def mirror_url(files: NodeFiles, server: Server, registry: Registry) -> str | None:
    """The URL that containerd would put a path behind; None if it does not come here."""
    folder, _ = _folder(files)
    path = None if folder is None else _hosts_file(files, folder, registry)
    try:
        document = tomllib.loads((None if path is None else files.read(path)) or "")
    except tomllib.TOMLDecodeError:
        return None
    url, host = _ours(document, server)
    if url is None:
        return None
    return url.rstrip("/") if host.get("override_path") else f"{url.rstrip('/')}/v2"


def _folder(files: NodeFiles) -> tuple[str | None, str]:
    """The folder of hosts.toml files, and what is wrong: all of it, without a folder."""
    text = files.read(CONFIG)
    if text is None:
        return None, f"there is no {CONFIG}, so no folder of mirrors is named (config_path)"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, f"{CONFIG} is not TOML: {error}"
    plugin = cri_plugin(document)
    registry = document.get("plugins", {}).get(plugin, {}).get("registry", {})
    folder = registry.get("config_path", "")
    if not folder:
        return None, f"{CONFIG} sets no config_path in plugins.{plugin!r}.registry"
    if registry.get("mirrors"):
        return None, f"{CONFIG} has registry.mirrors beside config_path, which containerd refuses"
    if {"cri", plugin} & set(document.get("disabled_plugins", [])):
        return folder.split(":")[0], f"{CONFIG} turns the CRI plugin off, so kubelet can't use it"
    if ":" in folder:
        what = "the default of containerd 2.1" if folder == PAIR else "two folders"
        said = f"config_path {folder!r} ({what}) is taken for one folder by newer containerd"
        return folder.split(":")[0], f"{said}, and mirrors are ignored"
    return folder, ""


def _hosts_file(files: NodeFiles, folder: str, registry: Registry) -> str | None:
    ported = registry.name.replace(":", "_") + "_" if ":" in registry.name else registry.name
    for name in (registry.name, ported, "_default"):
        path = f"{folder}/{name}/hosts.toml"
        if files.exists(path):
            return path
    return None


def _missing(files: NodeFiles, name: str, folder: str, registry: Registry, todo: str) -> Finding:
    for other in _FOLDERS:
        elsewhere = f"{other}/{registry.name}/hosts.toml"
        if other != folder and files.exists(elsewhere):
            said = f"config_path is {folder}, but {elsewhere} lies in another folder"
            return Finding(name, "fail", said, f"move it to {folder}, or {todo}")
    said = f"there is no {folder}/{registry.name}/hosts.toml"
    return Finding(name, "fail", said, todo)


def _ours(document: dict[str, Any], server: Server) -> tuple[str | None, dict[str, Any]]:
    for url, host in document.get("host", {}).items():
        if urlsplit(url if "://" in url else f"https://{url}").netloc == server.netloc:
            return url, host
    return None, {}


def _host(files: NodeFiles, path: str, document: dict[str, Any], server: Server) -> str | None:
    """What keeps pulls from coming here."""
    url, host = _ours(document, server)
    if url is None:
        return f"{path} names no host at {server.netloc}"
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme != server.scheme:
        return f"{path} speaks {parts.scheme} to {server.netloc}, which speaks {server.scheme}"
    inside = parts.path.startswith("/v2")
    if inside and not host.get("override_path"):
        return f"{path}: {url} needs override_path = true, else containerd adds /v2 once more"
    if not inside and host.get("override_path"):
        return f"{path}: with override_path the path must begin with /v2, and is {parts.path!r}"
    if "pull" not in host.get("capabilities", ["pull"]):
        return f'{path}: the host\'s capabilities lack "pull"'
    authorities = host.get("ca", [])
    for ca in [authorities] if isinstance(authorities, str) else authorities:
        if not files.exists(ca):
            return f"{path} names the authority {ca}, which is not there"
    return None


def _doubt(path: str, document: dict[str, Any], server: Server) -> str:
    """What lets pulls come here, but not as one would wish."""
    _, host = _ours(document, server)
    capabilities = host.get("capabilities")
    if capabilities is None:
        return f"{path} gives no capabilities: containerd pushes to the mirror, too"
    if "push" in capabilities:
        return f"{path} lets containerd push to the mirror, which refuses"
    if "resolve" not in capabilities:
        return f'{path} lacks "resolve": tags are asked of the registry itself'
    if "referrers" in capabilities:
        return f'{path} has "referrers", for which containerd before 2.2 drops the whole file'
    first = next(iter(document["host"]))
    if _ours({"host": {first: {}}}, server)[0] is None:
        return f"{path} asks {first} first"
    return ""
