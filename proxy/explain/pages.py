"""GET `/history?image=…&platform=…&newest=…`: what a tag named, and when."""

from __future__ import annotations

import json

from aiohttp import web

from proxy.errors import InvalidRequest, StorageUnavailable, UnknownUpstream
from proxy.explain.history import MOVES_MAX, Historian


def pages(historian: Historian) -> list[web.RouteDef]:
    """For the admin listener."""

    async def history(request: web.Request) -> web.Response:
        newest = request.query.get("newest", str(MOVES_MAX))
        if not newest.isdecimal() or not 1 <= int(newest) <= 10_000:
            return web.Response(status=400, text="newest must be a number of moves\n")
        try:
            document = await historian.document(
                request.query.get("image", ""),
                platform=request.query.get("platform") or None,
                newest=int(newest),
            )
        except InvalidRequest as error:
            return web.Response(status=400, text=f"{error}\n")
        except UnknownUpstream as error:
            return web.Response(status=404, text=f"{error}\n")
        except StorageUnavailable as error:
            return web.Response(status=503, text=f"{error}\n")
        body = json.dumps(document, indent=2).encode()
        return web.Response(body=body, content_type="application/json")

    return [web.get("/history", history)]
