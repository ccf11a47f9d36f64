"""BuildKit: buildkitd.toml, one table for each registry, exact names only.

A mirror's path lands after `/v2` here. The mirror's own table says how to speak
to it. Source: buildkit `docs/buildkitd.toml.md`.
"""

from __future__ import annotations

from proxy.clients import toml_text
from proxy.clients.wish import MARK, File, Plan, Wish

CONFIG = "/etc/buildkit/buildkitd.toml"
CA = "/etc/buildkit/entrepot-ca.crt"
LEDGER = "/etc/entrepot/mirror-config/buildkit.json"


def plan(wish: Wish) -> Plan:
    """The files for buildkitd. Raises `Conflict`."""
    host = wish.server.host
    tables: list[tuple[tuple[str, ...], dict[str, toml_text.Value]]] = [
        (("registry", one.name), {"mirrors": [f"{host}/{one.at}"]}) for one in wish.registries
    ]
    files = []
    if wish.server.plain:
        tables.append((("registry", host), {"http": True}))
    elif wish.ca is not None:
        tables.append((("registry", host), {"ca": [CA]}))
        files.append(File(path=CA, content=wish.ca))
    old = wish.now(CONFIG)
    if old is None or not old.strip():
        content = "\n".join([f"# {MARK}", *(toml_text.section(*table) for table in tables)])
    else:
        content = toml_text.into(CONFIG, old, tables)
    return Plan(
        ledger=LEDGER,
        files=(File(path=CONFIG, content=content, shared=True), *files),
        then=("systemctl restart buildkit (or: docker buildx create --buildkitd-config FILE)",),
    )
