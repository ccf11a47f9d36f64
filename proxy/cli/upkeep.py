"""`scrub`, `evict`: work for a running proxy, asked of its admin listener."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from proxy.cli.amounts import several, size
from proxy.cli.application import AdminOption, ConfigOption, JsonOption, app, lines, post
from proxy.config.units import parse_size


@app.command()
def scrub(
    config: ConfigOption = None, admin: AdminOption = None, *, as_json: JsonOption = False
) -> None:
    """Have a running proxy read all that it keeps and drop what is damaged."""
    done = post(config, admin, "/scrub")
    if as_json:
        typer.echo(json.dumps(done))
        return
    read = f"{several(done['blobs'], 'blob')}, {size(done['bytes'])}"
    bad = f"{done['bad']} damaged, removed" if done["bad"] else "none damaged"
    typer.echo(f"read {read}: {bad}")
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
    free: Annotated[
        str | None,
        typer.Option(help="So much is to come free on its disk, such as 10GiB; else what is over."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have a running proxy drop now what is to go: by the rules of `keep.retention`, and
    what does not fit into S3's `bytes_max` and `expire_s` and into its disk's bounds.

    A dry run tells of which images it is, and why.
    """
    asked = {"dry_run": dry_run, "free_bytes": _bytes(free)}
    images: list[dict[str, Any]] = []
    done: dict[str, Any] = {}
    for one in lines(config, admin, "/keep/evict", asked):
        if "done" in one:
            done = one
        elif as_json:
            images.append(one)
        else:
            what = f"{size(one['bytes'])} in {several(one['blobs'], 'blob')}"
            typer.echo(f"{one['image']} ({one['where']}): {what}")
            typer.echo(f"  {one['why']}")
    stored, disk, kept = done["s3"], done["disk"], done["retention"]
    if as_json:
        # What is told of S3 stands where it stood before there was more.
        typer.echo(
            json.dumps({**(stored or {}), "disk": disk, "retention": kept, "images": images})
        )
        return
    verb = "would drop" if dry_run else "dropped"
    freed = size(kept["freed_bytes"])
    typer.echo(f"retention: {verb} {several(kept['images'], 'image')}, {freed} here")
    about = "about " if dry_run and disk["dropped_bytes"] else ""
    stays = f"{size(disk['kept_bytes'])} {'is here now' if dry_run else 'stays'}"
    typer.echo(f"disk: {verb} {about}{size(disk['dropped_bytes'])}; {stays}")
    if stored is not None and stored["elsewhere"]:
        typer.echo("S3: another replica is at it")
    elif stored is not None:
        gone = f"{several(stored['dropped'], 'blob')}, {size(stored['dropped_bytes'])}"
        left = f"{size(stored['kept_bytes'])} in {several(stored['kept'], 'blob')}"
        typer.echo(
            f"S3: {verb} {gone}; {left} would stay"
            if dry_run
            else f"S3: {verb} {gone}; {left} stays"
        )


def _bytes(text: str | None) -> int:
    """How many a size means, or the end of the program."""
    try:
        return 0 if text is None else parse_size(text)
    except ValueError as error:
        typer.echo(f"entrepot: --free {error}", err=True)
        raise typer.Exit(2) from error
