"""`explain`: what a running proxy knows of an image, asked of its admin listener."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from proxy.cli.amounts import duration, size
from proxy.cli.application import AdminOption, ConfigOption, JsonOption, app, get
from proxy.config.moments import spelled

_READ = {
    "registry": "by the registry's name {name}",
    "own address": "by {name} after Entrepot's own address",
    "default": "no registry named: the default upstream",
}


@app.command()
def explain(
    image: Annotated[str, typer.Argument(help="As one would pull it.")],
    config: ConfigOption = None,
    admin: AdminOption = None,
    platform: Annotated[
        str | None, typer.Option(help="os/architecture[/variant]; else the server's own.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Tell where an image comes from, what of it is kept where, what a pull would fetch.

    Nothing is fetched for it.
    """
    query = {"image": image, **({"platform": platform} if platform else {})}
    told = get(config, admin, f"/explain?{urlencode(query)}")
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for line in _lines(told):
        typer.echo(line)


def _lines(told: dict[str, Any]) -> Iterator[str]:
    route, upstream, tag = told["route"], told["upstream"], told["tag"]
    yield f"image       {told['image']}"
    read = _READ[route["read_by"]].format(name=route["name"])
    yield f"route       {upstream['name']}, repository {route['repository']} ({read})"
    yield f"upstream    {upstream['url']}, {_state(upstream)}"
    yield f"credentials {_credentials(upstream)}"
    if tag is not None:
        yield f"tag         {tag['tag']}: {_tag(tag)}"
    yield f"platform    {told['platform']}"
    if told["contents"]:
        yield ""
        yield f"{'':10}{'digest':22}{'size':>12}  kept"
    for one in told["contents"]:
        large = "?" if one["size"] is None else size(one["size"])
        yield f"{one['what']:10}{one['digest'][:19]}…  {large:>12}  {_kept(one)}"
    yield ""
    yield "a pull now"
    yield from (f"  {line}" for line in _pull(told["pull"]))


def _state(upstream: dict[str, Any]) -> str:
    reason = f": {upstream['reason']}" if upstream["reason"] else ""
    return f"{upstream['state']}{reason}"


def _credentials(upstream: dict[str, Any]) -> str:
    if upstream["credentials"] is None:
        return "none; anyone may pull what the registry shows to anyone"
    shown = "" if upstream["shown"] else ", which is not known of this repository"
    return f"{upstream['credentials']}; shown to anyone: {upstream['expose']}{shown}"


def _tag(tag: dict[str, Any]) -> str:
    rule = "" if tag["rule"] is None else f" (rule {tag['rule']})"
    if tag["served"] == "uncached":
        return f"asked for with each pull, never kept{rule}"
    if tag["served"] == "as_of":
        named = tag["digest"] if tag["known"] else "not known"
        return f"{named} as of {spelled(tag['as_of'])}"
    if not tag["known"]:
        return f"never seen here{rule}"
    now = time.time()
    ago = f"confirmed {_span(now - tag['checked_at'])} ago"
    match tag["served"]:
        case "offline":
            due = "not asked again: its upstream is offline"
        case "immutable":
            due = "never asked again"
        case "fresh":
            due = f"asked again in {_span(tag['next_check_at'] - now)} at the earliest"
        case _:
            due = "asked again with the next pull"
    return f"{tag['digest']}\n{'':12}{ago}, {due}{rule}"


def _span(seconds: float) -> str:
    return duration(max(0.0, seconds))


def _kept(one: dict[str, Any]) -> str:
    places = [name for name in ("memory", "disk", "s3") if one[name]]
    flight = one["flight"]
    if flight is not None:
        whole = "?" if flight["size"] is None else size(flight["size"])
        places.append(f"being fetched, {size(flight['written'])} of {whole} are here")
    return ", ".join(places) or "nowhere"


def _pull(pull: dict[str, Any]) -> Iterator[str]:
    yield from pull["asks"]
    yield f"fetches {size(pull['upstream_bytes'])} from the upstream"
    if pull["s3_bytes"]:
        yield f"reads {size(pull['s3_bytes'])} from S3"
    if pull["joined_bytes"]:
        yield f"joins what is being fetched, {size(pull['joined_bytes'])}"
    if not pull["certain"]:
        why = pull["trouble"] or "the manifest is not here, so what it needs is not known"
        yield f"and perhaps more: {why}"
