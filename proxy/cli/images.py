"""How commands that take images are told which: names, a list, manifests, charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

ImagesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="IMAGE", help="As one would pull them.")
]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="Image names, one a line; # begins a comment; - is stdin."),
]
ManifestsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--from-manifests",
        help="Kubernetes YAML or JSON: a file, a folder, or - for stdin. Repeatable.",
    ),
]
ChartsOption = Annotated[
    list[Path] | None,
    typer.Option("--helm-chart", help="A Helm chart, folder or .tgz. Repeatable."),
]
ValuesOption = Annotated[
    list[Path] | None,
    typer.Option("--helm-values", help="Values for the charts, as helm's -f. Repeatable."),
]
PlatformsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--platform",
        help="os/architecture[/variant] of what images have several of; else the server's "
        "`warm.platforms`. Repeatable.",
    ),
]
AllPlatformsOption = Annotated[bool, typer.Option("--all-platforms", help="Every platform.")]
NoReferrersOption = Annotated[
    bool, typer.Option("--no-referrers", help="Without signatures, attestations and SBOMs.")
]


def chosen(
    images: Sequence[str] | None,
    file: Path | None,
    manifests: Sequence[Path] | None,
    charts: Sequence[Path] | None,
    values: Sequence[Path] | None = None,
) -> list[str]:
    """The names of all images that the command line means, or the end of the program."""
    from proxy.images import ImagesError, gathered  # noqa: PLC0415 - only these commands need it

    try:
        found = gathered(
            images or (),
            file=file,
            manifests=manifests or (),
            charts=charts or (),
            values=values or (),
            tell=lambda how: typer.echo(how, err=True),
        )
    except ImagesError as error:
        typer.echo(f"entrepot: {error}", err=True)
        raise typer.Exit(2) from error
    if not found:
        typer.echo(
            "entrepot: no images; name some, or use --file, --from-manifests or --helm-chart",
            err=True,
        )
        raise typer.Exit(2)
    return found


def wish(
    images: Sequence[str], platforms: Sequence[str] | None, *, every: bool, no_referrers: bool
) -> dict[str, object]:
    """What the admin listener's `/warm` and `/missing` take."""
    if platforms and every:
        raise typer.BadParameter("only one of --platform and --all-platforms")
    named = ["all"] if every else list(platforms or ())
    return {"images": list(images), "platforms": named, "referrers": not no_referrers}


def told_size(count: float) -> str:
    """Bytes for people: `512 B`, `1.2 MB`, `34 GB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def told_missing(line: dict[str, Any], *, listed_max: int = 10) -> Iterator[str]:
    """An image that is not complete, in lines of text."""
    yield f"{line['image']}: {line['reason'] or 'incomplete'}"
    for one in line["missing"][:listed_max]:
        where = f" ({one['platform']})" if one["platform"] else ""
        referrer = " of a signature or attestation" if one["referrer"] else ""
        size = told_size(one["size"])
        yield f"    {one['kind']}{referrer} {one['digest'][:19]}… {size}{where}: {one['reason']}"
    if len(line["missing"]) > listed_max:
        yield f"    and {len(line['missing']) - listed_max} more"
