"""hosts.toml, which containerd reads, and Docker's newer image store too.

One file for each registry, in a folder of its name. What goes wrong with it in
practice is decided here once: capabilities are always given (left out, they
include pushing), `referrers` only where it is known (an older containerd drops
the whole file for it), and the path says which registry is meant, since not all
readers send `ns`. Source: containerd `docs/hosts.md`, `core/remotes/docker/config`.
"""

from __future__ import annotations

import re

from proxy.clients import toml_text
from proxy.clients.wish import MARK, Conflict, Registry, Server

_HOST = re.compile(r"[ \t]*\[host[.\]]")


def text(
    path: str,
    old: str | None,
    server: Server,
    registry: Registry,
    *,
    ca: str | None,
    referrers: bool = False,
    dial_timeout: bool = False,
) -> str:
    """The file's content, before others' hosts where there are some.

    ca: path of the authority's certificate on the node. Raises `Conflict`.
    """
    host = f"{server.url}/v2/{registry.at}"
    entries: dict[str, toml_text.Value] = {
        "capabilities": ["pull", "resolve", "referrers"] if referrers else ["pull", "resolve"],
        "override_path": True,
    }
    if dial_timeout:
        entries["dial_timeout"] = "1s"
    if ca is not None:
        entries["ca"] = ca
    origin = toml_text.line("server", registry.origin)
    if old is None or not old.strip():
        return f"# {MARK}\n{origin}\n\n" + toml_text.section(("host", host), entries)
    return _before(path, old, host, entries, origin)


def _before(
    path: str,
    old: str,
    host: str,
    entries: dict[str, toml_text.Value],
    origin: str,
) -> str:
    there = toml_text.read(path, old)
    hosts = there.get("host", {})
    if host in hosts:
        if hosts[host] == entries:
            return old
        raise Conflict(path, f"has other settings for {host}; remove them first")
    lines = old.splitlines()
    first = next((at for at, one in enumerate(lines) if _HOST.match(one)), len(lines))
    lines[first:first] = [*toml_text.section(("host", host), entries).splitlines(), ""]
    if "server" not in there:
        lines.insert(0, origin)
        there = {"server": toml_text.read(path, origin)["server"], **there}
    merged = "\n".join(lines) + "\n"
    toml_text.checked(path, merged, {**there, "host": {host: entries, **hosts}})
    return merged
