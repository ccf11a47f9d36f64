"""`export`: images out of a running proxy into a bundle that can be carried."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.cli.amounts import several, size
from proxy.cli.application import AdminOption, ConfigOption, JsonOption, admin_url, app, failed
from proxy.cli.images import (
    AllPlatformsOption,
    ChartsOption,
    FileOption,
    ImagesArgument,
    ManifestsOption,
    NoReferrersOption,
    PlatformsOption,
    ValuesOption,
    chosen,
    wish,
)
from proxy.config.units import parse_size
from proxy.errors import EntrepotError

_PART_BYTES_MIN = 64 * 1024
_INTERRUPTED = 130

OutOption = Annotated[
    Path, typer.Option("--output", "-o", help="The bundle to write; nothing is written over.")
]
SinceOption = Annotated[
    list[Path] | None,
    typer.Option(help="A receipt of an import: what is there already is left out. Repeatable."),
]
KeyOption = Annotated[
    Path | None, typer.Option(help="The private key to sign with; see `entrepot keys new`.")
]
SplitOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Write FILE.001, FILE.002, ... of at most SIZE, as 4GB."),
]


@app.command()
def export(
    images: ImagesArgument = None,
    *,
    out: OutOption,
    config: ConfigOption = None,
    admin: AdminOption = None,
    file: FileOption = None,
    manifests: ManifestsOption = None,
    charts: ChartsOption = None,
    values: ValuesOption = None,
    platforms: PlatformsOption = None,
    all_platforms: AllPlatformsOption = False,
    no_referrers: NoReferrersOption = False,
    since: SinceOption = None,
    key: KeyOption = None,
    split: SplitOption = None,
    folder: Annotated[
        bool, typer.Option("--folder", help="Write a folder, not an archive.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write images, whole and with their signatures, into a bundle that can be carried.

    The bundle is an OCI image layout. What the proxy lacks it fetches. If it is
    interrupted, the same command goes on where it was.
    """
    if folder and split is not None:
        raise typer.BadParameter("only one of --folder and --split")
    wanted = wish(
        chosen(images, file, manifests, charts, values),
        platforms,
        every=all_platforms,
        no_referrers=no_referrers,
    )
    form = "folder" if folder else "archive" if split is None else str(_part_size(split))
    told = _run(admin_url(config, admin, ""), out, wanted, form=form, since=since or (), key=key)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for line in _summed(told):
        typer.echo(line)


def _run(
    url: str,
    out: Path,
    wanted: dict[str, object],
    *,
    form: str,
    since: Sequence[Path],
    key: Path | None,
) -> dict[str, Any]:
    from proxy.bundles.export_run import Export  # noqa: PLC0415 - loads cryptography
    from proxy.cli.export_drawn import Bar, Lines  # noqa: PLC0415 - loads rich

    if key is None:
        typer.echo("not signed: the other side takes it only with --unsigned", err=True)
    export = Export(url=url, out=out, wanted=wanted, form=form, since=since, key=key)
    try:
        with Bar() if sys.stderr.isatty() else Lines() as shows:
            return export.run(shows)
    except EntrepotError as error:
        failed(error)
    except OSError as error:
        failed(f"{error.filename or out}: {error.strerror or error}; what was written stays")
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on where it was", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _summed(told: dict[str, Any]) -> Iterator[str]:
    files = told["files"]
    yield files[0] if len(files) == 1 else f"{files[0]} to {Path(files[-1]).suffix}"
    yield f"  {several(len(told['images']), 'image')}, {several(told['referrers'], 'referrer')}"
    yield f"  {several(told['blobs'], 'blob')}, {size(told['bytes'])}"
    if told["left_out"]:
        left_out = f"{several(told['left_out'], 'blob')} left out, {size(told['left_out_bytes'])}"
        yield f"  {left_out}: the other side has {'it' if told['left_out'] == 1 else 'them'}"
    yield f"  signed with key {told['key']}" if told["key"] else "  not signed"


def _part_size(split: str) -> int:
    try:
        found = parse_size(split)
    except ValueError as error:
        raise typer.BadParameter(f"--split {error}") from error
    if found < _PART_BYTES_MIN:
        raise typer.BadParameter(f"--split must be at least {_PART_BYTES_MIN // 1024}KiB")
    return found
