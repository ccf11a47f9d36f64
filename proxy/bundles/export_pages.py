"""The admin listener's pages for exports: POST `/bundles/plan`, GET `/bundles/blob`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from aiohttp import web

from proxy.bundles.exports import CLIENT, Exports, Wanted
from proxy.cache.assembly import Cache
from proxy.cache.content import Bytes, Content
from proxy.cache.traffic import Urgency, working_as
from proxy.config.warm import ALL_PLATFORMS, platform_name
from proxy.errors import EntrepotError, InvalidRequest, UnknownManifest, UnknownUpstream
from proxy.naming import own_platform
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import Upstream
from proxy.web.exchange import Exchange
from proxy.web.lines import stream
from proxy.web.problems import problem

# A hundred thousand names of a hundred characters.
_BODY_BYTES_MAX = 16 * 1024 * 1024
_IMAGES_MAX = 100_000
_KEYS = frozenset({"images", "platforms", "referrers"})
_MANIFESTS = frozenset({"index", "manifest"})


def export_pages(
    exports: Exports,
    cache: Cache,
    upstreams: Mapping[str, Upstream],
    *,
    platforms: Sequence[str],
    stall_s: float,
) -> list[web.RouteDef]:
    """`platforms`: what is meant where none are named; empty: those of this machine.

    `plan` takes `wanted_of`'s object and answers a line at a time.

    `blob?upstream=…&repository=…&digest=…&kind=…` answers the bytes as the pull listener
    would, ranges and all, and brings them first where they are not here. `kind` as in the
    contents. What goes wrong is told as text.
    """

    async def plan(request: web.Request) -> web.StreamResponse:
        try:
            wanted = wanted_of(await _document(request), platforms)
        except InvalidRequest as error:
            return web.Response(status=400, text=f"{error}\n")
        return await stream(request, exports.plan(wanted))

    async def blob(request: web.Request) -> web.StreamResponse:
        exchange = Exchange(request, stall_s=stall_s)
        try:
            digest = Digest.parse(request.query.get("digest", ""))
            with working_as(Urgency.WARM, CLIENT):
                content = await _content(request, digest)
            headers = {"Content-Type": "application/octet-stream"}
            return await exchange.send_content(content, headers, f'"{digest}"')
        except EntrepotError as error:
            if exchange.status:
                raise  # The head is out; the connection is closed by the server.
            told = problem(error, blob=True)
            return web.Response(status=told.status, text=f"{error}\n")

    async def _content(request: web.Request, digest: Digest) -> Content:
        name = request.query.get("upstream", "")
        upstream = upstreams.get(name)
        if upstream is None:
            raise UnknownUpstream(f"no upstream called {name[:100]!r} is configured")
        repository = Repository.parse(request.query.get("repository", ""))
        if request.query.get("kind") not in _MANIFESTS:
            return await cache.blobs.open(upstream, repository, digest)
        served = await cache.tags.serve(upstream, repository, digest, body=True)
        if served.manifest is None:
            raise UnknownManifest(f"{digest} of {name}/{repository} is not here")
        return Bytes(served.manifest.body, served.outcome)

    return [web.post("/bundles/plan", plan), web.get("/bundles/blob", blob)]


def wanted_of(document: object, usual: Sequence[str]) -> Wanted:
    """From `{"images": [...], "platforms": [...], "referrers": true}`; only the first must
    be there. Platforms: none means the `usual` ones, else this machine's; `all` every one.
    Raises `InvalidRequest`.
    """
    if not isinstance(document, dict) or not document.keys() <= _KEYS:
        raise InvalidRequest(f"must be an object with {', '.join(sorted(_KEYS))}")
    images = _texts(document.get("images"), "images")
    if not 0 < len(images) <= _IMAGES_MAX:
        raise InvalidRequest(f"`images` must be 1 to {_IMAGES_MAX} names")
    try:
        given = [platform_name(one) for one in _texts(document.get("platforms", []), "platforms")]
    except ValueError as error:
        raise InvalidRequest(f"`platforms` {error}") from error
    referrers = document.get("referrers", True)
    if not isinstance(referrers, bool):
        raise InvalidRequest("`referrers` must be true or false")
    platforms = tuple(dict.fromkeys(given or usual)) or (own_platform(),)
    return Wanted(
        images=images,
        platforms=None if ALL_PLATFORMS in platforms else platforms,
        referrers=referrers,
    )


def _texts(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InvalidRequest(f"`{name}` must be a list of names")
    return value


async def _document(request: web.Request) -> object:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            raise InvalidRequest(f"the list has more than {_BODY_BYTES_MAX // 2**20} MiB")
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("must be JSON") from error
    return document
