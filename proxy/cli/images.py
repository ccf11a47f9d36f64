"""How commands that take images are told which: names, a list, manifests, charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from proxy.cli.amounts import several, size

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
    values: Sequence[Path] | None,
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
        typer.echo(f"entrepot: {_nothing(file, manifests, charts)}", err=True)
        raise typer.Exit(2)
    return found


def _nothing(
    file: Path | None, manifests: Sequence[Path] | None, charts: Sequence[Path] | None
) -> str:
    """Why there are no images."""
    read = [*((file,) if file is not None else ()), *(manifests or ()), *(charts or ())]
    if not read:
        return "no images; name some, or use --file, --from-manifests or --helm-chart"
    named = ", ".join("standard input" if str(one) == "-" else str(one) for one in read)
    hint = "; a list of names goes to --file" if manifests else ""
    return f"{named} {'has' if len(read) == 1 else 'have'} no images{hint}"


def wish(
    images: Sequence[str], platforms: Sequence[str] | None, *, every: bool, no_referrers: bool
) -> dict[str, object]:
    """What the admin listener's `/warm` and `/missing` take."""
    if platforms and every:
        raise typer.BadParameter("only one of --platform and --all-platforms")
    named = ["all"] if every else list(platforms or ())
    return {"images": list(images), "platforms": named, "referrers": not no_referrers}


def told_complete(sums: dict[str, Any]) -> str:
    """How many of the images are complete, of an answer's last line."""
    verb = "is" if sums["images"] == 1 else "are"
    return f"{sums['complete_images']} of {several(sums['images'], 'image')} {verb} complete"


def told_lacking(sums: dict[str, Any]) -> str:
    """How much is missing, of an answer's last line."""
    least = "" if sums["certain"] else "at least "
    verb = "is" if sums["missing"] == 1 else "are"
    return f"{least}{several(sums['missing'], 'piece')} {verb} missing"


def told_missing(line: dict[str, Any], *, listed_max: int = 10) -> Iterator[str]:
    """An image that is not complete, in lines of text."""
    yield f"{line['image']}: {line['reason'] or 'incomplete'}"
    for one in line["missing"][:listed_max]:
        where = f" ({one['platform']})" if one["platform"] else ""
        referrer = " of a signature or attestation" if one["referrer"] else ""
        what = f"{one['kind']}{referrer} {one['digest'][:19]}… {size(one['size'])}"
        yield f"    {what}{where}: {one['reason']}"
    if len(line["missing"]) > listed_max:
        yield f"    and {len(line['missing']) - listed_max} more"
