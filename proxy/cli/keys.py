"""`keys`: the pair that a bundle is signed and checked with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.application import JsonOption, app, failed
from proxy.errors import BadBundle

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)

keys = typer.Typer(help="Keys that bundles are signed with.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the pair: NAME.key and NAME.pub.")],
    out: Annotated[Path, typer.Option(help="The folder to write them to.")] = Path(),
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a pair: NAME.key signs and stays secret, NAME.pub goes to who imports."""
    if _NAME.fullmatch(name) is None:
        raise typer.BadParameter("a name is letters, digits and . _ -")
    from proxy.bundles.keys import PrivateKey, write_pair  # noqa: PLC0415 - loads cryptography

    key = PrivateKey.new()
    try:
        private, public = write_pair(key, name, out)
    except FileExistsError as error:
        failed(f"{error.filename or error}: a key is never written over")
    except OSError as error:
        failed(f"{error.filename}: {error.strerror}")
    if as_json:
        told = {"id": key.public.id, "private": str(private), "public": str(public)}
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(f"key {key.public.id}")
    typer.echo(f"  {private}  signs; keep it secret")
    typer.echo(f"  {public}  checks; give it to who imports")


@keys.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A .key or a .pub.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Tell the id of a key and its public half; never the private one."""
    from proxy.bundles.keys import is_private, load_public  # noqa: PLC0415 - loads cryptography

    try:
        public, private = load_public(path), is_private(path)
    except BadBundle as error:
        typer.echo(f"entrepot: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        told = {"id": public.id, "private": private, "public": public.pem()}
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(f"key {public.id}, {'private' if private else 'public'}")
    typer.echo(public.pem().rstrip())
