"""Imports over the admin listener: begin, the blobs that were lacking, commit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import ClientPayloadError, web

from proxy.bundles.importing import Importing
from proxy.bundles.importing_client import FORGOTTEN
from proxy.bundles.importing_names import ForeignNames
from proxy.bundles.importing_state import Begun, Done, UnknownImport
from proxy.bundles.reader import CONTENTS_BYTES_MAX
from proxy.errors import (
    BadBundle,
    InvalidRequest,
    NoSpace,
    StorageUnavailable,
    TransferBroken,
    UnknownUpstream,
)
from proxy.oci.digest import Digest

# The contents as a JSON string: mostly quotes, which double.
_BEGIN_BYTES_MAX = 2 * CONTENTS_BYTES_MAX
_SMALL_BYTES_MAX = 64 * 1024
# Whoever sends nothing for so long has gone, though its connection has not.
_STALL_S = 60.0

_Page = Callable[[web.Request], Awaitable[dict[str, object]]]


def pages(importing: Importing, names: ForeignNames) -> list[web.RouteDef]:
    """`POST /bundles/begin`, `PUT /bundles/blob?import=&group=&digest=`,
    `POST /bundles/commit`, `POST /bundles/forget`, `GET /bundles/name?image=`.
    """

    async def begin(request: web.Request) -> dict[str, object]:
        asked = await _json(request, _BEGIN_BYTES_MAX)
        match asked:
            case {
                "contents": str(contents),
                "signature": str() | None as signature,
                "keys": list(keys),
                "unsigned": bool(unsigned),
                "force": bool(force),
            } if all(isinstance(key, str) for key in keys):
                begun = await importing.begin(
                    contents.encode(),
                    None if signature is None else signature.encode(),
                    keys=keys,
                    unsigned=unsigned,
                    force=force,
                )
                return _begun(begun)
            case _:
                raise InvalidRequest("not what begins an import")

    async def blob(request: web.Request) -> dict[str, object]:
        query = request.query
        await importing.receive(
            query.get("import", ""),
            query.get("group", ""),
            Digest.parse(query.get("digest", "")),
            request.content_length,
            _chunks(request),
        )
        return {}

    async def commit(request: web.Request) -> dict[str, object]:
        match await _json(request, _SMALL_BYTES_MAX):
            case {"import": str(token), "pin": bool(pin), "force": bool(force)}:
                return _done(await importing.commit(token, pin=pin, force=force))
            case _:
                raise InvalidRequest("not what ends an import")

    async def forget(request: web.Request) -> dict[str, object]:
        match await _json(request, _SMALL_BYTES_MAX):
            case {"import": str(token)}:
                importing.forget(token)
                return {}
            case _:
                raise InvalidRequest("not the end of an import")

    async def name(request: web.Request) -> dict[str, object]:
        return names.named(request.query.get("image", ""))

    return [
        web.post("/bundles/begin", _answering(begin)),
        web.put("/bundles/blob", _answering(blob)),
        web.post("/bundles/commit", _answering(commit)),
        web.post("/bundles/forget", _answering(forget)),
        web.get("/bundles/name", _answering(name)),
    ]


def _answering(page: _Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.json_response(await page(request))
        except InvalidRequest as error:
            return _refused(400, error)
        except UnknownUpstream as error:
            return _refused(404, error)
        except UnknownImport as error:
            return _refused(FORGOTTEN, error)
        except BadBundle as error:
            return _refused(422, error)
        except NoSpace as error:
            return _refused(507, error)
        except (StorageUnavailable, TransferBroken) as error:
            return _refused(503, error)

    return answer


def _refused(status: int, error: Exception) -> web.Response:
    return web.Response(status=status, text=f"{error}\n")


def _begun(begun: Begun) -> dict[str, object]:
    return {
        "import": begun.token,
        "lacking": [
            {"group": key.group, "digest": str(key.digest), "size": size}
            for key, size in begun.lacking
        ],
    }


def _done(done: Done) -> dict[str, object]:
    return {
        "receipt": done.receipt.encode().decode(),
        "images": {name: str(digest) for name, digest in done.receipt.images.items()},
        "moved": done.moved,
        "warnings": list(done.warnings),
    }


async def _json(request: web.Request, bytes_max: int) -> object:
    """The body, read without the limit that the listener has for everything else."""
    body = bytearray()
    async for chunk in _chunks(request):
        body += chunk
        if len(body) > bytes_max:
            raise BadBundle(f"the bundle's contents take more than {CONTENTS_BYTES_MAX} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("not JSON") from error


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    try:
        while True:
            async with asyncio.timeout(_STALL_S):
                chunk = await request.content.readany()
            if not chunk:
                return
            yield chunk
    except (ClientPayloadError, ConnectionError, TimeoutError) as error:
        raise TransferBroken("the other side stopped sending") from error
