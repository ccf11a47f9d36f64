"""`missing`: whether some images are all here, before the cable is cut."""

from __future__ import annotations

import json

import typer

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
    told_missing,
    told_size,
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
    sums: dict[str, object] = {}
    for line in lines(config, admin, "/missing", wanted):
        if as_json:
            typer.echo(json.dumps(line))
        elif line.get("state") == "incomplete":
            for text in told_missing(line):
                typer.echo(text)
        elif line.get("state") == "complete":
            pieces, size = line["pieces"], told_size(line["bytes"])
            typer.echo(f"{line['image']}: complete, {pieces} pieces, {size}")
        if line.get("done"):
            sums = line
    if not as_json:
        typer.echo(_summed(sums))
    if not sums["complete"]:
        raise typer.Exit(1)


def _summed(sums: dict[str, object]) -> str:
    text = f"{sums['complete_images']} of {sums['images']} images are complete"
    if not sums["missing"]:
        return text
    least = "" if sums["certain"] else "at least "
    size = told_size(float(str(sums["missing_bytes"])))
    return f"{text}; {least}{sums['missing']} pieces are missing, {least}{size}"
