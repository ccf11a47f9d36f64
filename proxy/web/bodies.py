"""Questions that come as JSON: read as far as they may go on, and no further.

They are the admin listener's own, and longer than what else is sent to it: lists of
images. What the JSON has to be is for the page to say.
"""

from __future__ import annotations

import json

from aiohttp import web

from proxy.errors import InvalidRequest

# A hundred thousand names of a hundred characters.
BODY_BYTES_MAX = 16 * 1024 * 1024


async def json_body(request: web.Request) -> object:
    """What was sent; of nothing at all an empty object. Raises `InvalidRequest`."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise InvalidRequest(f"the body has more than {BODY_BYTES_MAX // 2**20} MiB")
    try:
        document: object = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("must be JSON") from error
    return document
