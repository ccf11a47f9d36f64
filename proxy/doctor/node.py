"""A node: does it reach the server, and do its clients go there?

What clients would do is read from their files and then done as they would do it:
a manifest is asked for at the very URL that their configuration leads to, and the
server is asked whether it has seen that.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy import __version__
from proxy.clients.docker import HUB
from proxy.clients.wish import Registry, Server
from proxy.doctor import containerd, containers, docker
from proxy.doctor.files import NodeFiles
from proxy.doctor.finding import Finding
from proxy.doctor.reaching import Reach
from proxy.oci.manifests import ACCEPT_ALL

# Two kilobytes, and asking for it costs nothing but a HEAD at the second time.
TINY = "docker.io/library/hello-world:latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What to examine. `image` is pulled through (its manifest only); `admin` is
    the server's admin listener, where it can be reached from here.
    """

    root: Path
    server: Server
    registries: tuple[Registry, ...]
    ca: Path | None = None
    image: str | None = None
    admin: str | None = None


def examine(node: Node) -> list[Finding]:
    """All checks; changes nothing on the node."""
    agent = f"entrepot-doctor/{__version__} ({secrets.token_hex(8)})"
    reach = Reach(None, agent=agent)
    heard = reach.get(f"{node.server.url}/v2/")
    private_ca = heard.untrusted
    if private_ca and node.ca is not None:
        try:
            reach = Reach(node.ca, agent=agent)
        except (OSError, ssl.SSLError) as error:
            return [Finding("server", "fail", f"{node.ca}: {error}", "give --ca a PEM file")]
        heard = reach.get(f"{node.server.url}/v2/")
    if heard.untrusted:
        said = f"the certificate of {node.server.url} is not trusted here: {heard.body}"
        todo = "give its authority with --ca, here and to mirror-config"
        return [Finding("server", "fail", said, todo)]
    if heard.status != 200:
        why = heard.body if heard.status == 0 else f"answers {heard.status} to /v2/"
        todo = "check address, port and firewall, and http or https"
        return [Finding("server", "fail", f"{node.server.url}: {why}", todo)]
    findings = [Finding("server", "ok", f"{node.server.url} answers")]
    files = NodeFiles(node.root)
    clients = _clients(files)
    if not clients:
        said = f"neither containerd nor Docker nor podman is on this node ({node.root})"
        findings.append(Finding("clients", "skipped", said))
    for registry in node.registries:
        findings.append(_known(reach, node.server, registry))
        for client in clients:
            found = _configured(client, files, node.server, registry, private_ca=private_ca)
            findings.append(found)
            if found.state != "fail":
                findings += _pulled(node, reach, files, client, registry)
    return findings


def _clients(files: NodeFiles) -> list[str]:
    modules = {"containerd": containerd, "docker": docker, "podman": containers}
    return [name for name, module in modules.items() if module.found(files)]


def _configured(
    client: str, files: NodeFiles, server: Server, registry: Registry, *, private_ca: bool
) -> Finding:
    match client:
        case "containerd":
            return containerd.examine(files, server, registry)
        case "docker":
            return docker.examine(files, server, registry, private_ca=private_ca)
        case _:
            return containers.examine(files, server, registry, private_ca=private_ca)


def _known(reach: Reach, server: Server, registry: Registry) -> Finding:
    name = f"upstream {registry.name}"
    heard = reach.get(f"{server.url}/v2/{registry.at}/")
    if heard.status == 200:
        return Finding(name, "ok", f"Entrepot knows {registry.at}")
    said = f"{server.url} knows no upstream called {registry.at} ({heard.status})"
    todo = "add it to `upstreams` of the server, or say --upstream NAME=ITS-NAME-THERE"
    return Finding(name, "fail", said, todo)


def _pulled(
    node: Node, reach: Reach, files: NodeFiles, client: str, registry: Registry
) -> Iterator[Finding]:
    name = f"pull {client} {registry.name}"
    wanted = _image(node, registry)
    base = _mirror(client, files, node.server, registry)
    if base is None:
        return
    if wanted is None:
        said = f"no image of {registry.name} was given to try it with (--image)"
        yield Finding(name, "skipped", said)
        return
    repository, reference = wanted
    before = None if node.admin is None else reach.manifests_asked(node.admin)
    ns = f"?ns={registry.name}" if client == "containerd" else ""
    url = f"{base}/{repository}/manifests/{reference}{ns}"
    heard = reach.get(url, accept=ACCEPT_ALL)
    if heard.status != 200:
        why = heard.body.strip()[:300] or "nothing"
        todo = "see `entrepot explain` and `entrepot doctor` on the server"
        yield Finding(name, "fail", f"{url}: {heard.status or 'no answer'}: {why}", todo)
        return
    yield _seen(node, reach, name, before, f"{url} gives {heard.digest[:19]}…")


def _seen(node: Node, reach: Reach, name: str, before: float | None, said: str) -> Finding:
    if node.admin is None:
        return Finding(name, "ok", f"{said}; give --admin to see it in the server's counters")
    after = reach.manifests_asked(node.admin)
    if before is None or after is None:
        todo = "give --admin the server's admin_listen, which must be reachable from here"
        return Finding(name, "warn", f"{said}, but {node.admin} has no metrics for us", todo)
    if after <= before:
        todo = "is it another server or another replica that answers there?"
        return Finding(name, "warn", f"{said}, but the server at {node.admin} saw none", todo)
    return Finding(name, "ok", f"{said}, and the server has counted it")


def _mirror(client: str, files: NodeFiles, server: Server, registry: Registry) -> str | None:
    match client:
        case "containerd":
            return containerd.mirror_url(files, server, registry)
        case "docker":
            return docker.mirror_url(files, server) if registry.name == HUB else None
        case _:
            return containers.mirror_url(files, server, registry)


def _image(node: Node, registry: Registry) -> tuple[str, str] | None:
    """Repository and reference of an image of `registry` to try."""
    for image in (node.image, TINY):
        if image is None or not image.startswith(f"{registry.name}/"):
            continue
        rest = image.removeprefix(f"{registry.name}/")
        if "@" in rest:
            repository, _, digest = rest.partition("@")
            return repository.partition(":")[0], digest
        repository, _, tag = rest.partition(":")
        return repository, tag or "latest"
    return None
