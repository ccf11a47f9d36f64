"""`mirror-config`: a client's own files, printed, installed or taken back."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from proxy.cli.application import JsonOption, app
from proxy.cli.installing import Done, Node
from proxy.clients import PLANS, Conflict, Mistake, Plan, Registry, Server, Wish, parse_version


@app.command("mirror-config")
def mirror_config(  # noqa: PLR0917 - typer calls it by name
    client: Annotated[str, typer.Argument(help=" | ".join(PLANS))],
    server: Annotated[
        str | None, typer.Option(help="Where clients reach Entrepot, http(s)://host[:port].")
    ] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            help="A registry to bring here, NAME or NAME=NAME-AT-ENTREPOT; may be repeated. "
            "Else all public registries that Entrepot knows."
        ),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM authority of the server's TLS.")] = None,
    root: Annotated[Path | None, typer.Option(help="Where the node's / is mounted.")] = None,
    client_version: Annotated[
        str | None, typer.Option(help="The client's version; else what suits all of them.")
    ] = None,
    *,
    write: Annotated[bool, typer.Option("--write", help="Install the files.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Put back what was there.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --remove, also over later changes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a client pull through Entrepot: print its files, or install them.

    Exit code 1: something is in the way and nothing was changed, or, after
    `--remove`, a file was left because it was changed since.
    """
    if client not in PLANS:
        _refuse(f"{client}: not one of {', '.join(PLANS)}", 2)
    if write and remove:
        _refuse("--write or --remove, not both", 2)
    if server is None and not remove:
        _refuse("--server is missing", 2)
    make, node = PLANS[client], Node(root)
    try:
        if remove:
            done = node.remove(make(_any()).ledger, force=force)
            _tell(None, done, as_json=as_json)
            raise typer.Exit(1 if done.left else 0)
        wish = _wish(server or "", upstream, ca, client_version)
        plan = make(wish)
        if not write:
            _print(plan, as_json=as_json)
            return
        ledger = plan.ledger
        plan = make(replace(wish, now=lambda path: node.before(ledger, path)))
        _tell(plan, node.write(plan), as_json=as_json)
    except Mistake as error:
        _refuse(str(error), 2)
    except Conflict as error:
        _refuse(f"nothing was changed: {error}", 1)
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}", 1)


def _any() -> Wish:
    """A ledger's place depends on nothing that is wished."""
    server, hub = Server("http", "none"), Registry.parse("docker.io")
    return Wish(server=server, registries=(hub,), home=_home())


def _home() -> str:
    # `Path.home` fails for a user without a name, as containers have them.
    return os.path.expanduser("~")  # noqa: PTH111


def _wish(
    server: str, upstream: list[str] | None, ca: Path | None, client_version: str | None
) -> Wish:
    from proxy.config.presets import PRESETS  # noqa: PLC0415 - only for this command

    urls: dict[str, str] = {name: preset["url"] for name, preset in PRESETS.items()}
    names = upstream or list(PRESETS)
    parsed = Server.parse(server)
    registries = [Registry.parse(name, url=urls.get(name)) for name in names]
    if len({one.name for one in registries}) < len(registries):
        raise Mistake("--upstream: a registry is named twice")
    return Wish(
        server=parsed,
        registries=tuple(registries),
        ca=None if ca is None else _authority(ca, parsed),
        version=None if client_version is None else parse_version(client_version),
        home=_home(),
    )


def _authority(path: Path, server: Server) -> str:
    if server.plain:
        raise Mistake("--ca has no meaning with an http:// server")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Mistake(f"--ca {path}: {error.strerror}") from error
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY" in text:
        raise Mistake(f"--ca {path}: not a PEM file of certificates alone")
    return text


def _print(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        files = [
            {"path": one.path, "content": one.content, "merge": one.shared} for one in plan.files
        ]
        typer.echo(json.dumps({"files": files, **_further(plan)}, indent=2))
        return
    for one in plan.files:
        merge = " (merge into it if it exists)" if one.shared else ""
        typer.echo(f"--- {one.path}{merge}\n{one.content}")
    _advise(plan)


def _tell(plan: Plan | None, done: Done, *, as_json: bool) -> None:
    told = {
        name: getattr(done, name)
        for name in ("written", "unchanged", "restored", "deleted", "left")
    }
    if as_json:
        typer.echo(json.dumps({**told, **_further(plan)}, indent=2))
        return
    for name, paths in told.items():
        for path in paths:
            more = ": changed since it was written, see --force" if name == "left" else ""
            typer.echo(f"{name} {path}{more}")
    if not any(told.values()):
        typer.echo("nothing to do")
    if plan is not None and done.written:
        _advise(plan)


def _further(plan: Plan | None) -> dict[str, list[str]]:
    return {
        "then": [] if plan is None else list(plan.then),
        "notes": [] if plan is None else list(plan.notes),
    }


def _advise(plan: Plan) -> None:
    for step in plan.then:
        typer.echo(f"then: {step}")
    for note in plan.notes:
        typer.echo(f"note: {note}")


def _refuse(message: str, code: int) -> NoReturn:
    typer.echo(f"entrepot: {message}", err=True)
    raise typer.Exit(code)
