"""`rehearse`: deny a running proxy its upstreams for a while, and list what would have
failed.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Annotated, Any

import typer

from proxy.cli.amounts import duration, several
from proxy.cli.application import (
    AdminOption,
    ConfigOption,
    JsonOption,
    admin_url,
    app,
    failed,
)

# As the server has it, which is not imported here: it is heavy.
_FOR_S_MAX = 86400


@app.command()
def rehearse(
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    for_: Annotated[str, typer.Option("--for", help="How long, such as 90s, 10m or 2h.")] = "10m",
    upstream: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be given several times.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve as if offline for a while, and tell what would have failed.

    Those who pull meanwhile get the errors of an offline Entrepot. It ends by itself, or
    with ctrl-C. Exit code 1 if anything was missing. Of a fleet it is the one replica that
    is asked.
    """
    from proxy.admin_client import Refused, lines  # noqa: PLC0415 - only these commands need it
    from proxy.config.units import parse_duration  # noqa: PLC0415

    try:
        for_s = parse_duration(for_)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from error
    if not 1 <= for_s <= _FOR_S_MAX:
        typer.echo("entrepot: --for must be 1s to 24h", err=True)
        raise typer.Exit(2)
    wish = {"for_s": for_s, "upstreams": upstream or []}
    told: dict[str, Any] = {}
    base = admin_url(config, admin, "")
    before = signal.signal(signal.SIGINT, _ending(f"{base}/rehearse/end"))
    try:
        for one in lines(f"{base}/rehearse", wish):
            told = one
            for line in () if as_json else live(one):
                typer.echo(line)
    except Refused as refused:
        failed(refused)
    finally:
        signal.signal(signal.SIGINT, before)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    if told["failed"]:
        raise typer.Exit(1)


def _ending(url: str) -> Any:
    """End it at the server, which then tells how it went; a second ctrl-C ends this."""

    def end(_number: int, _frame: FrameType | None) -> None:
        from proxy.admin_client import Refused, post  # noqa: PLC0415 - see above

        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            post(url)
        except Refused as refused:
            failed(refused)

    return end


def live(one: dict[str, Any]) -> Iterator[str]:
    """What a line of the answer tells, for people."""
    if "missed" in one:
        missed = one["missed"]
        by = f", asked for by {missed['client']}" if missed["client"] else ""
        yield f"missing: {_named(missed)}{by}"
    elif one.get("done"):
        yield from _summary(one)
    elif "upstreams" in one:
        yield f"offline for {duration(round(one.get('for_s', one['left_s'])))}: {', '.join(one['upstreams'])}"


def _summary(told: dict[str, Any]) -> Iterator[str]:
    yield f"over after {duration(round(told['for_s']))}{' (ended early)' if told['early'] else ''}"
    if not told["served"] and not told["failed"]:
        yield "nobody pulled meanwhile, so this proved nothing: pull what must work while it runs"
        return
    answered = f"{several(told['served'], 'request')} {_were(told['served'])} answered"
    yield f"{answered}, {told['failed']} would have failed"
    for miss in told["missing"]:
        yield f"{miss['count']:6}  {_named(miss)}  ({', '.join(miss['clients'])})"
    if told["unlisted"]:
        yield f"and {told['unlisted']} more, of images for which there was no room here"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _named(miss: dict[str, Any]) -> str:
    return f"{miss['image']} for {miss['platform']}" if miss["platform"] else f"{miss['image']}"
