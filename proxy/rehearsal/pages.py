"""POST `/rehearse` begins a rehearsal and tells of it line by line; POST `/rehearse/end`
ends it before its time.
"""

from __future__ import annotations

import json

from aiohttp import web

from proxy.errors import UnknownUpstream
from proxy.rehearsal.rehearsal import FOR_S_MAX, Rehearsals, Underway
from proxy.web.lines import stream

_WISH = f'needs {{"for_s": 1 to {FOR_S_MAX:g}, "upstreams": ["docker.io"]}} or less of it'


def pages(rehearsals: Rehearsals) -> list[web.RouteDef]:
    """For the admin listener."""

    async def begin(request: web.Request) -> web.StreamResponse:
        wish = _wish(await request.read())
        if wish is None:
            return web.Response(status=400, text=f"{_WISH}\n")
        try:
            running = rehearsals.begin(*wish)
        except UnknownUpstream as error:
            return web.Response(status=404, text=f"{error}\n")
        except Underway as error:
            return web.Response(status=409, text=f"{error}\n")
        return await stream(request, rehearsals.told(running))

    async def end(_request: web.Request) -> web.Response:
        return web.json_response({"ended": rehearsals.end()})

    return [web.post("/rehearse", begin), web.post("/rehearse/end", end)]


def _wish(body: bytes) -> tuple[list[str], float] | None:
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.keys() - {"for_s", "upstreams"}:
        return None
    for_s, upstreams = document.get("for_s", 600), document.get("upstreams", [])
    if isinstance(for_s, bool) or not isinstance(for_s, int | float) or not 1 <= for_s <= FOR_S_MAX:
        return None
    if not isinstance(upstreams, list) or not all(isinstance(one, str) for one in upstreams):
        return None
    return upstreams, float(for_s)
