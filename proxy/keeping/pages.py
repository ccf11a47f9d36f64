"""The admin listener's pages for keeping: all POST, JSON in, a line at a time out.

`/keep/ls` {"match"}; `/keep/rm` {"images", "dry_run", "force"}; `/keep/du`;
`/keep/pin` and `/keep/unpin` {"images"}; `/keep/pins`; `/keep/evict` {"dry_run",
"free_bytes"}.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from proxy.errors import InvalidRequest
from proxy.keeping.commands import Lines
from proxy.keeping.keeping import Keeping
from proxy.web.bodies import json_body
from proxy.web.lines import stream

_Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pages(keeping: Keeping) -> list[web.RouteDef]:
    """All of them."""
    commands = keeping.commands
    asked: dict[str, Callable[[dict[str, Any]], Lines]] = {
        "ls": lambda asked: commands.images(_text(asked, "match")),
        "rm": lambda asked: commands.remove(
            _texts(asked), dry_run=_flag(asked, "dry_run"), force=_flag(asked, "force")
        ),
        "du": lambda _asked: _closing(keeping.usage.lines()),
        "pin": lambda asked: commands.pin(_texts(asked)),
        "unpin": lambda asked: commands.unpin(_texts(asked)),
        "pins": lambda _asked: commands.pinned(),
        "evict": lambda asked: _closing(
            keeping.evicting.lines(
                dry_run=_flag(asked, "dry_run"), free_bytes=_number(asked, "free_bytes")
            )
        ),
    }
    return [web.post(f"/keep/{name}", _page(lines)) for name, lines in asked.items()]


def _page(lines: Callable[[dict[str, Any]], Lines]) -> _Page:
    async def page(request: web.Request) -> web.StreamResponse:
        try:
            found = lines(await _document(request))
        except InvalidRequest as error:
            return web.Response(status=400, text=f"{error}\n")
        return await stream(request, found)

    return page


async def _closing(lines: AsyncIterator[dict[str, object]]) -> Lines:
    async for line in lines:
        yield line


async def _document(request: web.Request) -> dict[str, Any]:
    document = await json_body(request)
    if not isinstance(document, dict):
        raise InvalidRequest("must be a JSON object")
    return document


def _texts(asked: dict[str, Any]) -> list[str]:
    texts = asked.get("images")
    named = isinstance(texts, list) and all(isinstance(one, str) and one for one in texts)
    if not texts or not named:
        raise InvalidRequest("`images` must be a list of names or patterns")
    return list(texts)


def _text(asked: dict[str, Any], name: str) -> str:
    text = asked.get(name) or ""
    if not isinstance(text, str):
        raise InvalidRequest(f"`{name}` must be text")
    return text


def _flag(asked: dict[str, Any], name: str) -> bool:
    flag = asked.get(name, False)
    if not isinstance(flag, bool):
        raise InvalidRequest(f"`{name}` must be true or false")
    return flag


def _number(asked: dict[str, Any], name: str) -> int:
    number = asked.get(name) or 0
    if type(number) is not int or number < 0:
        raise InvalidRequest(f"`{name}` must be a number of bytes")
    return number
