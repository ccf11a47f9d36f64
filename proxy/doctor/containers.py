"""Why podman, CRI-O, Buildah or Skopeo would go past their mirror.

registries.conf is read first, then the drop-ins by name; an entry with the same
prefix replaces an earlier one as a whole, and of prefixes the longest that fits
counts. Source: containers-registries.conf(5).
"""

from __future__ import annotations

import tomllib
from typing import Any

from proxy.clients.containers import CERTS, MAIN
from proxy.clients.wish import Registry, Server
from proxy.doctor.files import NodeFiles
from proxy.doctor.finding import Finding

_DROP_INS = "/etc/containers/registries.conf.d"
_PROGRAMS = ("/usr/bin/podman", "/usr/bin/crio", "/usr/bin/buildah", "/usr/bin/skopeo")


def found(files: NodeFiles) -> bool:
    """Whether this node seems to have any of them."""
    return any(files.exists(path) for path in (MAIN, _DROP_INS, *_PROGRAMS))


def examine(files: NodeFiles, server: Server, registry: Registry, *, private_ca: bool) -> Finding:
    """As for Docker."""
    name = f"podman {registry.name}"
    todo = f"entrepot mirror-config podman --server {server.url} --write"
    try:
        path, entry = _entry(files, registry)
    except tomllib.TOMLDecodeError as error:
        said = f"a file of {MAIN}, {_DROP_INS} is not TOML ({error}): nothing can be pulled"
        return Finding(name, "fail", said, todo)
    if entry is None:
        return Finding(name, "fail", f"no file of {_DROP_INS} has a mirror for it", todo)
    if entry.get("blocked"):
        return Finding(name, "fail", f"{path} blocks {registry.name}", "remove `blocked`")
    mirror = _ours(entry, server)
    if mirror is None:
        return Finding(name, "fail", f"the entry in {path} has no mirror at {server.host}", todo)
    if server.plain and not mirror.get("insecure"):
        said = f"{path}: the server speaks plain HTTP, and the mirror is not `insecure`"
        return Finding(name, "fail", said, todo)
    certificate = f"{CERTS}/{server.host}/ca.crt"
    trusted = mirror.get("insecure") or files.exists(certificate)
    if private_ca and not trusted:
        said = f"the server's authority is private, and {certificate} is not there"
        return Finding(name, "fail", said, f"{todo} --ca FILE")
    if mirror.get("pull-from-mirror", "all") != "all":
        kind = mirror["pull-from-mirror"]
        return Finding(name, "warn", f"{path} asks the mirror for pulls of kind {kind} only", todo)
    return Finding(name, "ok", f"{path} leads to {mirror['location']}")


def mirror_url(files: NodeFiles, server: Server, registry: Registry) -> str | None:
    """What they would put a path behind; None if they don't come here."""
    try:
        _, entry = _entry(files, registry)
    except tomllib.TOMLDecodeError:
        return None
    mirror = None if entry is None else _ours(entry, server)
    if mirror is None:
        return None
    return f"{server.url}/v2{mirror['location'].removeprefix(server.host)}"


def _entry(files: NodeFiles, registry: Registry) -> tuple[str, dict[str, Any] | None]:
    """The entry that counts, and the file it is in."""
    counts: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in (MAIN, *files.names(_DROP_INS, ".conf")):
        for entry in tomllib.loads(files.read(path) or "").get("registry", []):
            prefix = entry.get("prefix") or entry.get("location", "")
            counts[prefix] = (path, entry)
    return counts.get(registry.name, ("", None))


def _ours(entry: dict[str, Any], server: Server) -> dict[str, Any] | None:
    for mirror in entry.get("mirror", []):
        location = str(mirror.get("location", ""))
        if location.partition("/")[0] in {server.host, server.netloc}:
            return dict(mirror)
    return None
