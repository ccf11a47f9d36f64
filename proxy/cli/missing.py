"""`missing`: whether some images are all here, before the cable is cut."""

from __future__ import annotations

import json
from typing import Any

import typer

from proxy.cli.amounts import several, size
from proxy.cli.application import AdminOption, ConfigOption, JsonOption, app, lines
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
    told_complete,
    told_lacking,
    told_missing,
    wish,
)


@app.command()
def missing(
    images: ImagesArgument = None,
    *,
    config: ConfigOption = None,
    admin: AdminOption = None,
    file: FileOption = None,
    manifests: ManifestsOption = None,
    charts: ChartsOption = None,
    values: ValuesOption = None,
    platforms: PlatformsOption = None,
    all_platforms: AllPlatformsOption = False,
    no_referrers: NoReferrersOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell what of some images is not here; exit code 1 if anything is.

    Asks no upstream. With --json one object for each image, the sums last.
    """
    wanted = wish(
        chosen(images, file, manifests, charts, values),
        platforms,
        every=all_platforms,
        no_referrers=no_referrers,
    )
    sums: dict[str, Any] = {}
    for line in lines(config, admin, "/missing", wanted):
        if as_json:
            typer.echo(json.dumps(line))
        elif line.get("state") == "incomplete":
            for text in told_missing(line):
                typer.echo(text)
        elif line.get("state") == "complete":
            pieces = several(line["pieces"], "piece")
            typer.echo(f"{line['image']}: complete, {pieces}, {size(line['bytes'])}")
        if line.get("done"):
            sums = line
    if not as_json:
        typer.echo(_summed(sums))
    if not sums["complete"]:
        raise typer.Exit(1)


def _summed(sums: dict[str, Any]) -> str:
    text = told_complete(sums)
    if not sums["missing"]:
        return text
    least = "" if sums["certain"] else "at least "
    lacking = f"{told_lacking(sums)}, {least}{size(sums['missing_bytes'])}"
    return f"{text}; {lacking}"
