"""Answers that come a line at a time: one JSON object each, while work goes on.

The last line says how it ended: `{"done": true, …}` or `{"error": "…"}`. An answer
without one was cut. When the reader leaves, the work is told by its generator being
closed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator

from aiohttp import web

from proxy.errors import EntrepotError

CONTENT_TYPE = "application/x-ndjson"


async def stream(
    request: web.Request, objects: AsyncGenerator[dict[str, object], None]
) -> web.StreamResponse:
    """Send them as they come. What `objects` raises (`EntrepotError`) becomes the last line.

    The generator itself yields `{"done": true, …}` at its end.
    """
    response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
    async with contextlib.aclosing(objects):
        await response.prepare(request)
        try:
            async for one in objects:
                await response.write(_line(one))
        except EntrepotError as error:
            await response.write(_line({"error": str(error)}))
    await response.write_eof()
    return response


def _line(one: dict[str, object]) -> bytes:
    return json.dumps(one, separators=(",", ":")).encode() + b"\n"
