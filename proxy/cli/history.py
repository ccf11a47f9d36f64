"""`history`: what a tag named, and when, asked of a running proxy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from proxy.cli.amounts import size
from proxy.cli.application import AdminOption, ConfigOption, JsonOption, app, get
from proxy.config.moments import spelled


@app.command()
def history(
    image: Annotated[str, typer.Argument(help="As one would pull it, by tag.")],
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    newest: Annotated[int, typer.Option(min=1, max=10_000, help="So many moves.")] = 100,
    platform: Annotated[
        str | None, typer.Option(help="os/architecture[/variant]; else the server's own.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a tag named, since when, and what changed each time.

    As it was noticed here: when somebody pulled it, not when it was pushed.
    """
    query = {"image": image, "newest": newest, **({"platform": platform} if platform else {})}
    told = get(config, admin, f"/history?{urlencode(query)}")
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for line in lines(told):
        typer.echo(line)


def lines(told: dict[str, Any]) -> Iterator[str]:
    """The page for people."""
    yield told["image"]
    if not told["moves"]:
        yield "never seen here"
        return
    if told["earlier"]:
        yield "earlier moves are not shown; see --newest"
    for move in told["moves"]:
        named = "gone" if move["after"] is None else f"{move['after'][:19]}…"
        yield f"{spelled(move['at'])}  {named:20}  {_what(move, told['platform'])}".rstrip()


def _what(move: dict[str, Any], platform: str) -> str:
    if move["after"] is None:
        return ""
    if move["before"] is None:
        return "first seen"
    changed = move["changed"]
    if changed is None:
        return "not both images are here"
    parts = [
        f"{changed[f'layers_{what}']} {what} ({size(changed[f'bytes_{what}'])})"
        for what in ("added", "removed")
        if changed[f"layers_{what}"]
    ]
    kept = f"{changed['layers_kept']} kept"
    return f"layers of {platform}: {', '.join((*parts, kept))}"
