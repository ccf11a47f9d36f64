"""`warm`: have a running proxy bring images before anybody asks for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import typer

from proxy.cli.amounts import size
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
    wish,
)

_INTERRUPTED = 130


@app.command()
def warm(
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
    """Bring images before anybody asks for them; exit code 1 if any is not complete.

    It gives way to everybody's pulls, fetches only what is not here, and may be
    interrupted and repeated at any time. With --json a line for all that happens.
    """
    wanted = wish(
        chosen(images, file, manifests, charts, values),
        platforms,
        every=all_platforms,
        no_referrers=no_referrers,
    )
    try:
        sums = _shown(lines(config, admin, "/warm", wanted), as_json=as_json)
    except KeyboardInterrupt:
        typer.echo("interrupted; what was brought stays, and the next one goes on there", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if not as_json:
        typer.echo(_summed(sums))
    if not sums["complete"]:
        raise typer.Exit(1)


def _shown(told: Iterator[dict[str, Any]], *, as_json: bool) -> dict[str, Any]:
    """All lines, shown as they come; the last one."""
    from proxy.cli.warm_drawn import bars, plain  # noqa: PLC0415 - loads rich

    if as_json:
        line: dict[str, Any] = {}
        for line in told:
            typer.echo(json.dumps(line))
        return line
    return bars(told) if sys.stdout.isatty() else plain(told, typer.echo)


def _summed(sums: dict[str, Any]) -> str:
    fetched = f"{size(sums['fetched_bytes'])} fetched in {sums['seconds']:.1f} s"
    text = f"{told_complete(sums)}; {fetched}"
    return f"{text}; {told_lacking(sums)}" if sums["missing"] else text
