"""The admin listener's pages for exports: POST `/bundles/plan`, GET `/bundles/blob`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web

from proxy.bundles.exports import CLIENT, Exports
from proxy.cache.assembly import Cache
from proxy.cache.content import Bytes, Content
from proxy.cache.traffic import Urgency, working_as
from proxy.errors import EntrepotError, InvalidRequest, UnknownManifest, UnknownUpstream
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import Upstream
from proxy.web.bodies import json_body
from proxy.web.exchange import Exchange
from proxy.web.lines import stream
from proxy.web.problems import problem
from proxy.wishes import wish_of

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

    `plan` takes `wish_of`'s object and answers a line at a time.

    `blob?upstream=…&repository=…&digest=…&kind=…` answers the bytes as the pull listener
    would, ranges and all, and brings them first where they are not here. `kind` as in the
    contents. What goes wrong is told as text.
    """

    async def plan(request: web.Request) -> web.StreamResponse:
        try:
            wish = wish_of(await json_body(request), platforms)
        except InvalidRequest as error:
            return web.Response(status=400, text=f"{error}\n")
        return await stream(request, exports.plan(wish))

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
