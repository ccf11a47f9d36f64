"""The command line. Parses, calls, prints; the only place that reads `os.environ`.

What is heavy (the server and its libraries) is imported by the commands that
need it: `healthcheck` runs every few seconds in every container.

Exit codes: 0 done, 1 it failed, 2 the command line or the configuration is wrong.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml

import proxy
from proxy.config import (
    ConfigError,
    Problem,
    Settings,
    host_and_port,
    load,
    settings_table,
    shown,
)
from proxy.errors import StartupError, UpstreamUnavailable

app = typer.Typer(
    help="A pull-through caching registry proxy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")

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
    app(prog_name="entrepot")


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
    settings = _load(config, overrides)
    from proxy.app import run  # noqa: PLC0415 - the server is heavy; see above

    try:
        code = run(settings)
    except StartupError as error:
        typer.echo(f"entrepot: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(code)


@config_app.command()
def check(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Report every mistake in the configuration at once."""
    try:
        settings = load(config, os.environ, {})
        credentialed = _credentialed(settings)
    except ConfigError as error:
        if not as_json:
            _refuse(error)
        problems = [asdict(problem) for problem in error.problems]
        typer.echo(json.dumps({"ok": False, "problems": problems}, indent=2))
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps({"ok": True, "problems": []}, indent=2))
        return
    count = sum(credentialed.values())
    typer.echo(f"ok: {len(credentialed)} upstreams, {count} with credentials")


@config_app.command()
def show(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Print the settings in force, with secrets masked."""
    settings = _load(config, {})
    whole = shown(settings)
    try:
        credentialed = _credentialed(settings)
    except ConfigError as error:
        _refuse(error)
    for name, upstream in whole["upstreams"].items():
        upstream["credentialed"] = credentialed[name]
        upstream["group"] = name if credentialed[name] else "public"
    if as_json:
        typer.echo(json.dumps(whole, indent=2, ensure_ascii=False))
    else:
        typer.echo(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), nl=False)


@config_app.command(hidden=True)
def table() -> None:
    """Print the settings as Markdown, for the README."""
    typer.echo(settings_table())


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
        url = _reach(_load(config, {}).admin_listen) + "/livez"
    from proxy.admin_client import trouble_at  # noqa: PLC0415 - only this command needs it

    trouble = trouble_at(url)
    if as_json:
        typer.echo(json.dumps({"ok": trouble is None, "url": url, "reason": trouble}))
    else:
        typer.echo(f"{url}: {trouble or 'ok'}", err=trouble is not None)
    if trouble is not None:
        raise typer.Exit(1)


@app.command()
def scrub(
    config: ConfigOption = None, admin: AdminOption = None, *, as_json: JsonOption = False
) -> None:
    """Have a running proxy read all that it keeps and drop what is damaged."""
    done = _post(config, admin, "/scrub")
    if as_json:
        typer.echo(json.dumps(done))
        return
    typer.echo(f"read {done['blobs']} blobs, {done['bytes']} bytes: {done['bad']} bad, removed")
    if done["unread"]:
        typer.echo(f"{done['unread']} could not be read now")
    if done["elsewhere"]:
        typer.echo("S3 was left out: another replica is scrubbing it")


@app.command()
def evict(
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a running proxy bring S3 within its `bytes_max` and `expire_s` now."""
    done = _post(config, admin, f"/evict?dry_run={int(dry_run)}")
    if as_json:
        typer.echo(json.dumps(done))
    elif done["elsewhere"]:
        typer.echo("another replica is at it")
    else:
        verb = "would drop" if dry_run else "dropped"
        typer.echo(f"{verb} {done['dropped']} blobs, {done['dropped_bytes']} bytes")
        typer.echo(f"{done['kept']} blobs, {done['kept_bytes']} bytes stay")


@app.command()
def version(*, as_json: JsonOption = False) -> None:
    """Print the version."""
    facts = {"version": proxy.__version__, "python": platform.python_version()}
    typer.echo(json.dumps(facts) if as_json else f"entrepot {proxy.__version__}")


def _load(config: Path | None, overrides: Mapping[str, Any]) -> Settings:
    try:
        return load(config, os.environ, overrides)
    except ConfigError as error:
        _refuse(error)


def _refuse(error: ConfigError) -> NoReturn:
    for line in error.lines():
        typer.echo(line, err=True)
    count = len(error.problems)
    typer.echo(
        f"entrepot: {count} mistake{'s' if count > 1 else ''} in the configuration", err=True
    )
    raise typer.Exit(2) from error


def _credentialed(settings: Settings) -> dict[str, bool]:
    """Whether each upstream is used with credentials; runs no helper."""
    # Asks for asyncio, which nothing else here needs.
    from proxy.upstream.docker_config import DockerConfig  # noqa: PLC0415
    from proxy.upstream.identity import credential_source  # noqa: PLC0415

    path = settings.docker_config_file
    try:
        docker_config = DockerConfig(path) if path is not None else None
    except UpstreamUnavailable as error:
        raise ConfigError([Problem("docker_config_file", str(error))]) from error
    return {
        name: credential_source(upstream, docker_config) is not None
        for name, upstream in settings.upstreams.items()
    }


def _reach(admin_listen: str) -> str:
    """The URL to reach a listener at, which is not always the address it binds."""
    host, port = host_and_port(admin_listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - undone, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _post(config: Path | None, admin: str | None, target: str) -> dict[str, Any]:
    from proxy.admin_client import Refused, post  # noqa: PLC0415 - only these commands need it

    url = (admin or _reach(_load(config, {}).admin_listen)).rstrip("/") + target
    try:
        return post(url)
    except Refused as refused:
        typer.echo(f"{url}: {refused}", err=True)
        raise typer.Exit(1) from refused
