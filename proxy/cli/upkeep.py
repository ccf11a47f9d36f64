"""`scrub`, `evict`: work for a running proxy, asked of its admin listener."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from proxy.cli.application import AdminOption, ConfigOption, JsonOption, app, post


@app.command()
def scrub(
    config: ConfigOption = None, admin: AdminOption = None, *, as_json: JsonOption = False
) -> None:
    """Have a running proxy read all that it keeps and drop what is damaged."""
    done = post(config, admin, "/scrub")
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
    done = post(config, admin, f"/evict?dry_run={int(dry_run)}")
    if as_json:
        typer.echo(json.dumps(done))
    elif done["elsewhere"]:
        typer.echo("another replica is at it")
    else:
        verb = "would drop" if dry_run else "dropped"
        typer.echo(f"{verb} {done['dropped']} blobs, {done['dropped_bytes']} bytes")
        typer.echo(f"{done['kept']} blobs, {done['kept_bytes']} bytes stay")
