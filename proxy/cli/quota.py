"""`quota`: how many pulls upstreams leave us, asked of a running proxy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from proxy.cli.amounts import duration, several
from proxy.cli.application import AdminOption, ConfigOption, JsonOption, app, get

_WHY = {"limited": "limited (429)", "refused": "refused"}


@app.command()
def quota(
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    top: Annotated[int, typer.Option(min=1, max=64, help="How many spenders to list.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Tell how many pulls are left where they are counted, until when, and who spent them.

    Of a fleet, each replica knows what is left for all, and what it spent itself.
    """
    told = get(config, admin, f"/quota?top={top}")
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for line in lines(told, at=_time_of_day):
        typer.echo(line)


def lines(told: dict[str, Any], *, at: Callable[[float], str]) -> Iterator[str]:
    """The page for people; `at` writes a time since the epoch."""
    if not told["upstreams"]:
        yield "no upstream has spoken of a quota"
    for number, (name, one) in enumerate(told["upstreams"].items()):
        if number:
            yield ""
        yield f"{name}: {_summary(one, at)}"
        for login in one["credentials"]:
            yield f"  {login['name']:24}{_login(login, at)}"
        for what, key, spenders in (
            ("images", "image", one["images"]),
            ("clients", "client", one["clients"]),
        ):
            if spenders:
                yield f"  {what} that took most of {several(one['spent'], 'pull')} in the last 24 hours"
            for spender in spenders or ():
                yield f"    {spender['pulls']:6}  {spender[key]}"


def _summary(one: dict[str, Any], at: Callable[[float], str]) -> str:
    if one["remaining"] is None:
        return "no quota was told"
    saving = "; tags that moved are answered from what is held" if one["saving"] else ""
    return f"{_left(one)}, {_forecast(one['forecast'], at)}{saving}"


def _login(login: dict[str, Any], at: Callable[[float], str]) -> str:
    passed_over = ""
    if login["passed_over"]:
        why = _WHY[login["passed_over"]]
        passed_over = f"; {why}, passed over for {duration(login['passed_over_s'])}"
    if not login["metered"]:
        return f"no quota was told{passed_over}"
    window = "" if login["window_s"] is None else f" in {duration(login['window_s'])}"
    whose = "" if login["counted_by"] is None else f" by {login['counted_by']}"
    return (
        f"{_left(login)}{window}{whose}, {login['reserve']} in reserve "
        f"({login['warm_reserve']} from warm-up), {_forecast(login['forecast'], at)}{passed_over}"
    )


def _left(one: dict[str, Any]) -> str:
    limit = "" if one["limit"] is None else f" of {one['limit']}"
    return f"{one['remaining']}{limit} pulls left"


def _forecast(told: dict[str, Any], at: Callable[[float], str]) -> str:
    if told["lasts"]:
        return "lasts"
    if told["runs_out_s"] <= 0:
        return "used up"
    return f"runs out at {at(told['runs_out_at'])} at this pace ({told['pulls_an_hour']:g} an hour)"


def _time_of_day(at: float) -> str:
    return time.strftime("%H:%M", time.localtime(at))
