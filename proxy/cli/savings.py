"""`savings`: what the cache spared its people, asked of one running proxy or of several."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlencode

import typer

from proxy.cli.application import ConfigOption, JsonOption, admin_url, app, failed
from proxy.cli.savings_drawn import drawn, summed

_COLUMNS_MAX = 120


class By(StrEnum):
    """Whose savings are listed."""

    UPSTREAM = "upstream"
    IMAGE = "image"
    CLIENT = "client"


@app.command()
def savings(
    config: ConfigOption = None,
    admin: Annotated[
        list[str] | None,
        typer.Option(
            help="The admin listener, else the configured admin_listen; once for each replica, "
            "to add them up."
        ),
    ] = None,
    *,
    days: Annotated[
        int | None, typer.Option(min=1, max=30, help="The last so many days. [default: 30]")
    ] = None,
    hours: Annotated[
        int | None, typer.Option(min=1, max=24, help="The last so many hours.")
    ] = None,
    by: Annotated[By, typer.Option(help="What to list.")] = By.UPSTREAM,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="How many to list.")] = 20,
    ever: Annotated[bool, typer.Option("--ever", help="All that ever was.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell how many pulls, bytes and seconds were saved, by upstream, image or client.

    Each replica of a fleet keeps its own numbers: name the admin listener of each.
    """
    from proxy.admin_client import Refused, get  # noqa: PLC0415 - only these commands need it

    windows = {"days": days, "hours": hours, "ever": 1 if ever else None}
    chosen = {name: number for name, number in windows.items() if number is not None}
    if len(chosen) > 1:
        raise typer.BadParameter("only one of --days, --hours and --ever")
    # Each replica's own first ones; a name may be first only in the sum.
    query = urlencode({**chosen, "top": top if len(admin or ()) < 2 else 10 * top})
    try:
        urls: Sequence[str | None] = admin or (None,)
        told = summed([get(admin_url(config, url, f"/savings?{query}")) for url in urls])
    except Refused as refused:
        failed(refused)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    terminal = sys.stdout.isatty()
    columns = min(_COLUMNS_MAX, shutil.get_terminal_size().columns) if terminal else _COLUMNS_MAX
    for line in drawn(told, by.value, top=top, columns=columns, blocks=terminal):
        typer.echo(line)
