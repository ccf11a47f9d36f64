"""`doctor`: what is wrong with a server or a node, and what to do about it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.amounts import several
from proxy.cli.application import AdminOption, ConfigOption, JsonOption, app, as_url, reach
from proxy.clients import Mistake, Registry, Server
from proxy.config import ConfigError
from proxy.config import load as load_settings
from proxy.doctor.finding import Finding, exit_code

_SHOWN = {"ok": "ok", "warn": "WARN", "fail": "FAIL", "skipped": "-"}


@app.command()
def doctor(  # noqa: PLR0917 - typer calls it by name
    config: ConfigOption = None,
    admin: AdminOption = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="Another replica's advertise_url; may be repeated.")
    ] = None,
    server: Annotated[str | None, typer.Option(help="With --node: where Entrepot is.")] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(help="With --node: registries to look at, as for mirror-config."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="With --node: the server's authority.")] = None,
    root: Annotated[Path, typer.Option(help="With --node: where the node's / is mounted.")] = Path(
        "/"
    ),
    image: Annotated[
        str | None, typer.Option(help="With --node: an image whose manifest to pull through.")
    ] = None,
    *,
    node: Annotated[
        bool, typer.Option("--node", help="Examine this node's clients, not a server.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a server, running or not, or (--node) the clients of a node.

    Exit code 0: all is well, 1: warnings, 2: something does not work.
    """
    if node:
        findings = _node(server, upstream, ca, root, image=image, admin=admin)
    else:
        findings = _server(config, admin, peer or [])
    if as_json:
        told = [asdict(one) for one in findings]
        typer.echo(json.dumps({"exit_code": exit_code(findings), "findings": told}, indent=2))
    else:
        _print(findings)
    raise typer.Exit(exit_code(findings))


def _server(config: Path | None, admin: str | None, others: Sequence[str]) -> list[Finding]:
    import asyncio  # noqa: PLC0415 - heavy, as are the server's parts

    from proxy.doctor.server import examine  # noqa: PLC0415 - see above

    try:
        settings = load_settings(config, os.environ, {})
    except ConfigError as error:
        todo = "mend it; `entrepot config check` says the same"
        return [Finding("config", "fail", line, todo) for line in error.lines()]
    configured = Finding("config", "ok", f"valid, {several(len(settings.upstreams), 'upstream')}")
    admin = (as_url(admin) if admin else reach(settings.admin_listen)).rstrip("/")
    return [configured, *asyncio.run(examine(settings, admin, others))]


def _node(
    server: str | None,
    upstream: list[str] | None,
    ca: Path | None,
    root: Path,
    *,
    image: str | None,
    admin: str | None,
) -> list[Finding]:
    from proxy.doctor.node import Node, examine  # noqa: PLC0415 - only for --node

    try:
        if server is None:
            raise Mistake("--node needs --server")
        return examine(
            Node(
                root=root,
                server=Server.parse(server),
                registries=tuple(Registry.parse(one) for one in upstream or ["docker.io"]),
                ca=ca,
                image=image,
                admin=as_url(admin) if admin else None,
            )
        )
    except Mistake as error:
        typer.echo(f"entrepot: {error}", err=True)
        raise typer.Exit(2) from error


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(one.name) for one in findings)
    for one in findings:
        typer.echo(f"{_SHOWN[one.state]:5} {one.name:{width}}  {one.what}")
        if one.todo and one.state in {"warn", "fail"}:
            typer.echo(f"{'':5} {'':{width}}  -> {one.todo}")
    failed = sum(one.state == "fail" for one in findings)
    warned = sum(one.state == "warn" for one in findings)
    typer.echo(f"{several(len(findings), 'check')}: {failed} failed, {warned} to look at")
