"""Why Docker would go past its mirror."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from proxy.clients.docker import CERTS, CONFIG, HUB
from proxy.clients.wish import Registry, Server
from proxy.doctor.files import NodeFiles
from proxy.doctor.finding import Finding


def found(files: NodeFiles) -> bool:
    """Whether this node seems to have it."""
    return any(files.exists(path) for path in (CONFIG, "/usr/bin/dockerd", "/usr/sbin/dockerd"))


def examine(files: NodeFiles, server: Server, registry: Registry, *, private_ca: bool) -> Finding:
    """Whether images of `registry` come through `server`. `private_ca`: its
    certificate is not of an authority that the system trusts.
    """
    name = f"docker {registry.name}"
    todo = f"entrepot mirror-config docker --server {server.url} --write, then reload Docker"
    if registry.name != HUB:
        if files.exists(f"{CERTS}/{registry.name}/hosts.toml"):
            said = f"{CERTS}/{registry.name}/hosts.toml is read by the containerd image store only"
            return Finding(name, "warn", said, "see `docker info`, Storage Driver")
        said = f"Docker mirrors {HUB} only: images of {registry.name} go past it"
        return Finding(name, "warn", said, f"name them {server.host}/{registry.at}/…")
    text = files.read(CONFIG)
    if text is None:
        return Finding(name, "fail", f"there is no {CONFIG}, so no mirror is named", todo)
    try:
        document = json.loads(text)
    except ValueError as error:
        return Finding(name, "fail", f"{CONFIG} is not JSON: {error}", todo)
    mirrors = [str(one) for one in document.get("registry-mirrors", [])]
    ours = [one for one in mirrors if urlsplit(one).netloc == server.netloc]
    if not ours:
        listed = ", ".join(mirrors) or "none"
        said = f"registry-mirrors in {CONFIG} has no {server.url} (but {listed})"
        return Finding(name, "fail", said, todo)
    if urlsplit(ours[0]).scheme != server.scheme:
        said = f"{CONFIG} names {ours[0]}, and the server speaks {server.scheme}"
        return Finding(name, "fail", said, todo)
    certificate = f"{CERTS}/{server.netloc}/ca.crt"
    if private_ca and not files.exists(certificate):
        said = f"the server's authority is private, and {certificate} is not there"
        return Finding(name, "fail", said, f"{todo} (with --ca)")
    if mirrors[0] != ours[0]:
        return Finding(name, "warn", f"{CONFIG} asks {mirrors[0]} first", "put ours first")
    return Finding(name, "ok", f"{CONFIG} leads to {ours[0]}")


def mirror_url(files: NodeFiles, server: Server) -> str | None:
    """What Docker would put a path behind; None if it does not come here."""
    try:
        mirrors = json.loads(files.read(CONFIG) or "{}").get("registry-mirrors", [])
    except (ValueError, AttributeError):
        return None
    for one in mirrors:
        if urlsplit(str(one)).netloc == server.netloc:
            return f"{str(one).rstrip('/')}/v2"
    return None
