"""The program: its name, its options, and what its commands share."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import proxy
from proxy.config import ConfigError, Settings, host_and_port
from proxy.config import load as load_settings

app = typer.Typer(
    help="A pull-through caching registry proxy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="YAML file; else $ENTREPOT_CONFIG or /etc/entrepot/entrepot.yaml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AdminOption = Annotated[
    str | None, typer.Option(help="The admin listener; else the configured admin_listen.")
]


def main() -> None:
    """The `entrepot` command."""
    if sys.stdout is None:
        # Closed by whoever started it, as some supervisors do.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the program runs
    try:
        app(prog_name="entrepot")
    except OSError as error:
        # Mostly what is printed could not be: the disk is full, the reader has gone.
        _silence()
        with contextlib.suppress(OSError):
            typer.echo(f"entrepot: {error.strerror or error}", err=True)
        raise SystemExit(1) from error


def _silence() -> None:
    """So that nobody tries to write what is left when the program ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"entrepot {proxy.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def load(config: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """The settings, or the end of the program with every mistake in them told."""
    try:
        return load_settings(config, os.environ, overrides)
    except ConfigError as error:
        refuse(error)


def refuse(error: ConfigError) -> NoReturn:
    """End the program because of the configuration."""
    for line in error.lines():
        typer.echo(line, err=True)
    count = len(error.problems)
    typer.echo(
        f"entrepot: {count} mistake{'s' if count > 1 else ''} in the configuration", err=True
    )
    raise typer.Exit(2) from error


def reach(admin_listen: str) -> str:
    """The URL to reach a listener at, which is not always the address it binds."""
    host, port = host_and_port(admin_listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - undone, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def admin_url(config: Path | None, admin: str | None, target: str) -> str:
    """`target` (a path, perhaps with a query) at the admin listener of the running proxy."""
    return (as_url(admin) if admin else reach(load(config, {}).admin_listen)).rstrip("/") + target


def as_url(admin: str) -> str:
    """`127.0.0.1:5001` -> `http://127.0.0.1:5001`; a URL stays as it is."""
    return admin if "://" in admin else f"http://{admin}"


def failed(reason: object) -> NoReturn:
    """End the program: it was not done."""
    typer.echo(f"entrepot: {reason}", err=True)
    raise typer.Exit(1)


def get(config: Path | None, admin: str | None, target: str) -> dict[str, Any]:
    """What the admin listener answers soon, or the end of the program with the reason."""
    from proxy import admin_client  # noqa: PLC0415 - only these commands need it

    try:
        return admin_client.get(admin_url(config, admin, target))
    except admin_client.Refused as refused:
        failed(refused)


def post(
    config: Path | None, admin: str | None, target: str, document: object = None
) -> dict[str, Any]:
    """What the admin listener answers when it is done, or the end of the program."""
    from proxy import admin_client  # noqa: PLC0415 - only these commands need it

    try:
        return admin_client.post(admin_url(config, admin, target), document)
    except admin_client.Refused as refused:
        failed(refused)


def lines(
    config: Path | None, admin: str | None, target: str, document: object = None
) -> Iterator[dict[str, Any]]:
    """What the admin listener answers line by line, or the end of the program."""
    from proxy import admin_client  # noqa: PLC0415 - only these commands need it

    try:
        yield from admin_client.lines(admin_url(config, admin, target), document)
    except admin_client.Refused as refused:
        failed(refused)
