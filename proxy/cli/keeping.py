"""`pin`, `unpin`, `ls`, `rm`, `du`: what a running proxy keeps, by image."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.cli.amounts import duration, several, size
from proxy.cli.application import AdminOption, ConfigOption, JsonOption, app, lines
from proxy.cli.images import FileOption

_Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[IMAGE|PATTERN]...",
        help="As one would pull it, or a pattern of full names: docker.io/library/*:*-slim.",
    ),
]
_LS_HEAD = ("image", "digest", "here", "state", "last pull", "")
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")]


@app.command()
def pin(
    images: _Images = None,
    file: FileOption = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    list_them: Annotated[
        bool, typer.Option("--list", help="Tell what is pinned, by whom; pin nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Never evict these images: not now, and not what their tags move to.

    Nothing is fetched: what is not here yet is kept once it comes (`warm` brings it).
    """
    if list_them:
        found = list(_told(lines(config, admin, "/keep/pins"), as_json=as_json))
        if not as_json:
            _table([_pin_row(one) for one in found], ("image", "pinned by", "since"))
        return
    asked = {"images": _names(images, file)}
    bad = 0
    for one in _told(lines(config, admin, "/keep/pin", asked), as_json=as_json):
        bad += "failed" in one
        if not as_json:
            _say_pinned(one)
    raise typer.Exit(1 if bad else 0)


@app.command()
def unpin(
    images: _Images = None,
    file: FileOption = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let these images go when room is needed, those of an import as well.

    What the configuration pins is unpinned there.
    """
    asked = {"images": _names(images, file)}
    bad = 0
    for one in _told(lines(config, admin, "/keep/unpin", asked), as_json=as_json):
        if "done" in one:
            continue
        bad += "failed" in one
        if not as_json:
            said = one.get("failed", "unpinned")
            typer.echo(f"{one['image']}: {said}", err="failed" in one)
    raise typer.Exit(1 if bad else 0)


@app.command(name="ls")
def list_images(
    match: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="A pattern, an image or a repository.")
    ] = "",
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the images that are kept, by tag; exit code 1 if an image or a pattern is
    named that is not here.

    Complete is what can be pulled with the upstream gone; the last pull is that of a
    client, and not one to warm or import it.
    """
    found = _told(lines(config, admin, "/keep/ls", {"match": match}), as_json=as_json)
    told = (one for one in found if "done" not in one)
    if as_json:
        _none_listed(match, sum(1 for _ in told))
        return
    count = _stream((_image_row(one) for one in told), _LS_HEAD)
    _none_listed(match, count)


@app.command()
def rm(
    images: _Images = None,
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    dry_run: _DryRun = False,
    force: Annotated[
        bool, typer.Option("--force", help="Pinned ones, too (not those of the configuration).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove images: their tags, and what no other tag and no pin needs.

    A repository without a tag means all of its tags. Safe to interrupt and repeat. Exit
    code 1 if something is pinned, or not here.
    """
    asked = {"images": _names(images, None), "dry_run": dry_run, "force": force}
    verb = "would remove" if dry_run else "removed"
    refused = 0
    for one in _told(lines(config, admin, "/keep/rm", asked), as_json=as_json):
        refused += "failed" in one
        if as_json:
            continue
        if "failed" in one:
            typer.echo(f"{one['image']}: {one['failed']}", err=True)
        elif "done" in one:
            freed = size(one["freed_bytes"])
            typer.echo(f"{verb} {several(one['removed'], 'image')}, {freed} here")
        else:
            kept = one["of_bytes"] - one["freed_bytes"]
            shared = f" ({size(kept)} stays, others need it)" if kept else ""
            typer.echo(f"{verb} {one['image']}: {size(one['freed_bytes'])}{shared}")
    raise typer.Exit(1 if refused else 0)


@app.command()
def du(
    config: ConfigOption = None, admin: AdminOption = None, *, as_json: JsonOption = False
) -> None:
    """Tell what takes the room: by upstream, by repository, all together.

    Unique is what only this one needs and would come free with it.
    """
    rows: list[tuple[str, ...]] = []
    sums: dict[str, Any] = {}
    for one in _told(lines(config, admin, "/keep/du"), as_json=as_json):
        if "done" in one:
            sums = one
        else:
            name = "/".join(filter(None, (one["upstream"], one["repository"])))
            unique, shared = size(one["unique_bytes"]), size(one["shared_bytes"])
            rows.append((name, unique, shared, str(one["blobs"])))
    if as_json:
        return
    _table(rows, ("", "unique", "shared", "blobs"))
    if sums:
        for line in _sums(sums):
            typer.echo(line)


def _names(images: list[str] | None, file: Path | None) -> list[str]:
    """Those of the command line and of a file; else the end of the program."""
    found = list(images or ())
    if file is not None:
        try:
            text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            typer.echo(f"entrepot: {file}: {error}", err=True)
            raise typer.Exit(2) from error
        found += [word for line in text.splitlines() if (word := line.partition("#")[0].strip())]
    if not found:
        typer.echo("entrepot: name an image or a pattern", err=True)
        raise typer.Exit(2)
    return found


def _told(found: Iterable[dict[str, Any]], *, as_json: bool) -> Iterator[dict[str, Any]]:
    """Each line; as JSON they are printed here."""
    for one in found:
        if as_json:
            typer.echo(json.dumps(one))
        yield one


def _say_pinned(one: dict[str, Any]) -> None:
    if "failed" in one:
        typer.echo(f"{one['image']}: {one['failed']}", err=True)
    elif "done" in one:
        typer.echo(f"{one['pinned']} pinned")
    elif one["is_pattern"]:
        typer.echo(f"{one['image']}: what matches it is kept from now on")
    else:
        here = {
            "complete": "all of it is here",
            "partial": "some of it is here; the rest is kept once it comes",
            "absent": "nothing of it is here; it is kept once it comes",
        }
        typer.echo(f"{one['image']}: {here[one['state']]}")


def _pin_row(one: dict[str, Any]) -> tuple[str, ...]:
    if "done" in one:
        return ()
    by = {"cli": "pin", "import": "import", "config": "configuration"}[one["source"]]
    if one["pattern"]:
        by += f" ({one['pattern']})"
    return one["image"], by, _ago(one["pinned_at"])


def _image_row(one: dict[str, Any]) -> tuple[str, ...]:
    whole = [name for name, held in one["platforms"].items() if held and name]
    state = one["state"]
    if state == "partial" and whole:
        state = ",".join(whole)
    marks = [*(["pinned"] if one["pinned"] else []), *([] if one["fresh"] else ["stale"])]
    return (
        one["image"],
        one["digest"][:19],
        size(one["here_bytes"]),
        state,
        _ago(one["pulled_at"]),
        " ".join(marks),
    )


def _sums(sums: dict[str, Any]) -> Iterator[str]:
    others = max(0, sums["here_bytes"] - sums["tagged_bytes"])
    yield ""
    yield f"on this disk    {size(sums['here_bytes'])} of {size(sums['limit_bytes'])}"
    yield f"  of tags       {size(sums['tagged_bytes'])} in {several(sums['tagged_blobs'], 'blob')}"
    yield f"  of no tag     {size(others)} (pulled by digest, or of images before)"
    yield f"  unfinished    {size(sums['unfinished_bytes'])}"
    if sums["s3_bytes"] is not None:
        yield f"in S3           {size(sums['s3_bytes'])}"


def _table(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> None:
    """All at once, in columns; nothing for nothing."""
    rows = [row for row in rows if row]
    if rows:
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo("  ".join(cells).rstrip())


def _stream(rows: Iterator[tuple[str, ...]], head: tuple[str, ...]) -> int:
    """As they come, a thousand at a time in columns of their own; how many there were."""
    batch: list[tuple[str, ...]] = []
    count = 0
    for row in rows:
        count += 1
        batch.append(row)
        if len(batch) == 1000:
            _table(batch, head)
            batch = []
    _table(batch, head)
    return count


def _none_listed(match: str, count: int) -> None:
    """Say so if there is nothing to list; that is a failure if something was named."""
    if not count:
        typer.echo(f"{match}: no such image here" if match else "no images here yet", err=True)
        raise typer.Exit(1 if match else 0)


def _ago(at: float | None) -> str:
    return "never" if at is None else f"{duration(max(0, time.time() - at))} ago"
