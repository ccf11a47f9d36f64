"""`serve`, `healthcheck`, `version`: what a service file or a container calls."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import proxy
from proxy.cli.application import ConfigOption, JsonOption, app, load, reach
from proxy.errors import StartupError


@app.command()
def serve(
    config: ConfigOption = None,
    listen: Annotated[str | None, typer.Option(help="Address for pulls, host:port.")] = None,
    admin_listen: Annotated[
        str | None, typer.Option(help="Address for health, metrics, admin, host:port.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for everything kept.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json.")] = None,
) -> None:
    """Run the proxy until SIGTERM or SIGINT."""
    overrides = {
        "listen": listen,
        "admin_listen": admin_listen,
        "data_dir": data_dir,
        "log_format": log_format,
    }
    settings = load(config, overrides)
    # structlog would load it (3 MB, 0.05 s) for tracebacks that a server does not print.
    with _kept_out("rich"), _no_collections():
        from proxy.app import run  # noqa: PLC0415 - the server is heavy; see above
    from proxy.notify import Manager  # noqa: PLC0415 - needs asyncio, as the server does

    try:
        code = run(settings, Manager(os.environ))
    except StartupError as error:
        typer.echo(f"entrepot: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)


@contextlib.contextmanager
def _kept_out(library: str) -> Iterator[None]:
    """Who can do without it and imports it meanwhile does without, if it is not loaded yet."""
    modules: dict[str, Any] = sys.modules
    # None is how Python is told that there is no such module.
    was = modules.setdefault(library, None)
    try:
        yield
    finally:
        if was is None:
            del modules[library]


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """For imports, which leave no garbage: a twentieth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@app.command()
def healthcheck(
    config: ConfigOption = None,
    url: Annotated[
        str | None, typer.Option(help="What to ask; else /livez at the configured admin_listen.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Ask a running proxy whether it lives; exit code 1 if it does not."""
    if url is None:
        url = reach(load(config, {}).admin_listen) + "/livez"
    from proxy.admin_client import trouble_at  # noqa: PLC0415 - only this command needs it

    trouble = trouble_at(url)
    if as_json:
        typer.echo(json.dumps({"ok": trouble is None, "url": url, "reason": trouble}))
    else:
        typer.echo(f"{url}: {trouble or 'ok'}", err=trouble is not None)
    if trouble is not None:
        raise typer.Exit(1)


@app.command()
def version(*, as_json: JsonOption = False) -> None:
    """Print the version."""
    facts = {"version": proxy.__version__, "python": platform.python_version()}
    typer.echo(json.dumps(facts) if as_json else f"entrepot {proxy.__version__}")
