"""The admin listener's pages: POST `/warm`, POST `/missing`, GET `/warm`."""

from __future__ import annotations

import json

from aiohttp import web

from proxy.config.warm import WarmSettings
from proxy.errors import InvalidRequest
from proxy.warming.missing import Missing
from proxy.warming.schedule import Schedule
from proxy.warming.warming import Warming
from proxy.web.bodies import json_body
from proxy.web.lines import stream
from proxy.wishes import wish_of


def pages(
    warming: Warming, missing: Missing, schedule: Schedule, settings: WarmSettings
) -> list[web.RouteDef]:
    """Both POST take `wish_of`'s object and answer a line at a time."""

    async def warm(request: web.Request) -> web.StreamResponse:
        try:
            wish = wish_of(await json_body(request), settings.platforms)
        except InvalidRequest as error:
            return web.Response(status=400, text=f"{error}\n")
        return await stream(request, warming.lines(wish))

    async def look(request: web.Request) -> web.StreamResponse:
        try:
            wish = wish_of(await json_body(request), settings.platforms)
        except InvalidRequest as error:
            return web.Response(status=400, text=f"{error}\n")
        return await stream(request, missing.lines(wish))

    async def planned(_request: web.Request) -> web.Response:
        body = json.dumps(
            {"running": warming.running, "schedule": await schedule.document()}, indent=2
        )
        return web.Response(body=body.encode(), content_type="application/json")

    return [web.post("/warm", warm), web.get("/warm", planned), web.post("/missing", look)]
