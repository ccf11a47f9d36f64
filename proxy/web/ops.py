"""The admin listener: health, metrics, what is going on. Never the pull port."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from proxy.errors import InvalidRequest, StorageUnavailable, UnknownUpstream
from proxy.web.admin_guard import guarded

_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_Explain = Callable[[str, str | None], Awaitable[dict[str, object]]]


def admin_app(
    *,
    ready: Callable[[], str | None],
    metrics: Callable[[], bytes],
    status: Callable[[], dict[str, object]],
    scrub: Callable[[], Awaitable[dict[str, object]]],
    evict: Callable[[bool], Awaitable[dict[str, object]]],
    explain: _Explain,
    more: Iterable[web.RouteDef] = (),
    hosts: Iterable[str] = (),
) -> web.Application:
    """`/livez`, `/readyz`, `/metrics`, `/status`, `/explain?image=…&platform=…`;
    POST `/scrub`, `/evict?dry_run=1`.

    `ready` tells what is missing, None when nothing is. `more`: the pages of what is
    offered beside pulls. `hosts`: names by which it is reached, see `guarded`.
    """

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        missing = ready()
        if missing is None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{missing}\n")

    async def metrics_page(_request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": _TEXT})

    async def status_page(_request: web.Request) -> web.Response:
        return _json(status())

    async def scrub_page(_request: web.Request) -> web.Response:
        try:
            return _json(await scrub())
        except StorageUnavailable as error:
            return web.Response(status=503, text=f"{error}\n")

    async def evict_page(request: web.Request) -> web.Response:
        try:
            return _json(await evict(request.query.get("dry_run", "") not in {"", "0"}))
        except StorageUnavailable as error:
            return web.Response(status=503, text=f"{error}\n")

    app = web.Application(middlewares=[guarded(hosts)])
    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics_page),
            web.get("/status", status_page),
            web.get("/explain", _explain_page(explain)),
            web.post("/scrub", scrub_page),
            web.post("/evict", evict_page),
            *more,
        ]
    )
    return app


def _explain_page(explain: _Explain) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def page(request: web.Request) -> web.Response:
        try:
            image, platform = request.query.get("image", ""), request.query.get("platform")
            return _json(await explain(image, platform or None))
        except InvalidRequest as error:
            return web.Response(status=400, text=f"{error}\n")
        except UnknownUpstream as error:
            return web.Response(status=404, text=f"{error}\n")

    return page


def _json(document: dict[str, object]) -> web.Response:
    body = json.dumps(document, indent=2).encode()
    return web.Response(body=body, content_type="application/json")
