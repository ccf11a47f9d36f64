"""`config check`, `config show`: what the configuration says."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import typer
import yaml

from proxy.cli.amounts import several
from proxy.cli.application import ConfigOption, JsonOption, app, load, refuse
from proxy.config import ConfigError, Problem, Settings, settings_table, shown
from proxy.config import load as load_settings
from proxy.errors import UpstreamUnavailable

config_app = typer.Typer(help="Check and show the configuration.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command()
def check(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Report every mistake in the configuration at once."""
    try:
        settings = load_settings(config, os.environ, {})
        credentialed = _credentialed(settings)
    except ConfigError as error:
        if not as_json:
            refuse(error)
        problems = [asdict(problem) for problem in error.problems]
        typer.echo(json.dumps({"ok": False, "problems": problems}, indent=2))
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps({"ok": True, "problems": []}, indent=2))
        return
    count = sum(credentialed.values())
    typer.echo(f"ok: {several(len(credentialed), 'upstream')}, {count} with credentials")


@config_app.command()
def show(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Print the settings in force, with secrets masked."""
    settings = load(config, {})
    whole = shown(settings)
    try:
        credentialed = _credentialed(settings)
    except ConfigError as error:
        refuse(error)
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
