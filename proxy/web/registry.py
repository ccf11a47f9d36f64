"""`/v2/`: one handler from request to answer.

Route (pure) -> ask the cache -> send. Every expected failure arrives here as an
`EntrepotError` and leaves as an OCI error envelope; what happens after the head
was sent is `send`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import assert_never

import structlog
from aiohttp import web

from proxy import tracing
from proxy.cache import traffic
from proxy.cache.blobs import BlobCache
from proxy.cache.bringing import SpanWanted
from proxy.cache.budget import answer_within
from proxy.cache.content import Bytes
from proxy.cache.listings import Listings
from proxy.cache.tags import TagCache
from proxy.errors import EntrepotError, UnknownManifest
from proxy.oci import listings as oci
from proxy.oci.manifests import OCI_INDEX, SCHEMA1_TYPES, accepts
from proxy.oci.routes import (
    Catalog,
    GetBlob,
    GetManifest,
    GetReferrers,
    ListTags,
    Ping,
    RouteTable,
)
from proxy.ports import Observe, Upstream
from proxy.web.exchange import Exchange
from proxy.web.problems import Problem
from proxy.web.redirect import Redirector
from proxy.web.refusals import Refusals
from proxy.web.repeats import Repeats
from proxy.web.uses import Account, Given, Use

_FIRST_RANGE = re.compile(r"bytes=\s*(\d{1,18})?-(\d{1,18})?", re.ASCII)
_BLOB_MAX_AGE_S = 365 * 86400
_JSON = "application/json"
_PONG = b"{}"

log = structlog.get_logger("entrepot")


class RegistryHandler:
    """The handler of the pull listener."""

    def __init__(
        self,
        *,
        routes: RouteTable,
        upstreams: Mapping[str, Upstream],
        tags: TagCache,
        blobs: BlobCache,
        listings: Listings,
        observe: Observe,
        access: Callable[[Exchange], None],
        header_budget_s: float,
        send_stall_s: float,
        refusals: Refusals,
        redirector: Redirector | None = None,
        traced: Callable[[str | None], None] | None = None,
        repeats: Repeats | None = None,
        account: Account | None = None,
        as_of: float | None = None,
    ) -> None:
        """`as_of`: tags are served as they stood then (seconds since the epoch)."""
        self._routes = routes
        self._upstreams = upstreams
        self._tags = tags
        self._blobs = blobs
        self._listings = listings
        self._observe = observe
        self._access = access
        self._header_budget_s = header_budget_s
        self._send_stall_s = send_stall_s
        self._refusals = refusals
        self._as_of = as_of
        self._redirector = redirector
        self._traced = traced
        self._repeats = repeats
        self._account = account

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if self._traced is not None:
            self._traced(request.headers.get(tracing.HEADER))
        traffic.waiting(request.remote or "")
        exchange = Exchange(request, stall_s=self._send_stall_s)
        try:
            return await self._answer(exchange)
        except EntrepotError as error:
            return await exchange.send_problem(self._refusals.problem(exchange, error))
        except ConnectionError:
            exchange.error = "the client left"
            raise
        except Exception:
            log.exception("request failed", target=request.raw_path[:200])
            if exchange.status:
                raise  # The head is out; the connection is closed by the server.
            unexpected = Problem(500, "UNKNOWN", "something unexpected went wrong", {})
            return await exchange.send_problem(unexpected)
        finally:
            served = exchange.served()
            self._observe(served)
            if self._account is not None:
                self._account(Use(served, exchange.given, {request.remote or "": 1}))
            self._access(exchange)

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        route = self._routes.route(request.method, request.raw_path, request.headers.get("Host"))
        match route:
            case Ping():
                exchange.kind, exchange.outcome = "ping", "hit"
                response = await exchange.send_bytes(200, _PONG, {"Content-Type": _JSON})
                if self._repeats is not None:
                    self._repeats.ping(exchange, response, _PONG)
                return response
            case Catalog():
                exchange.kind = "catalog"
                return await self._catalog(exchange, route)
            case GetManifest():
                self._addressed(exchange, route)
                exchange.kind = "manifest"
                return await self._manifest(exchange, route)
            case GetBlob():
                self._addressed(exchange, route)
                exchange.kind = "blob"
                return await self._blob(exchange, route)
            case ListTags():
                self._addressed(exchange, route)
                exchange.kind = "tags"
                return await self._list_tags(exchange, route)
            case GetReferrers():
                self._addressed(exchange, route)
                exchange.kind = "referrers"
                return await self._referrers(exchange, route)
            case _:
                assert_never(route)

    def _addressed(
        self, exchange: Exchange, route: GetManifest | GetBlob | ListTags | GetReferrers
    ) -> None:
        exchange.route = route
        exchange.upstream = route.upstream
        exchange.namespace = route.namespace

    async def _manifest(self, exchange: Exchange, route: GetManifest) -> web.StreamResponse:
        upstream = self._upstreams[route.upstream]
        served = await self._tags.serve(
            upstream,
            route.repository,
            route.reference,
            body=not exchange.is_head,
            as_of=self._as_of,
        )
        self._refusals.given(upstream, route, served)
        descriptor = served.descriptor
        exchange.given = Given(
            repository=route.repository,
            reference=route.reference,
            digest=descriptor.digest,
            manifest=served.manifest,
        )
        media_type = descriptor.media_type
        accept = exchange.request.headers.getall("Accept", ())
        # As distribution does for OCI types; Docker's were always sent to anybody.
        if media_type.startswith("application/vnd.oci.") and not accepts(accept, media_type):
            raise UnknownManifest(f"it is {media_type}, which Accept does not allow")
        headers = {"Content-Type": media_type, "Docker-Content-Digest": str(descriptor.digest)}
        if media_type in SCHEMA1_TYPES:
            # Its digest is over the signed payload; let no client compare it here.
            del headers["Docker-Content-Digest"]
        if served.warning is not None:
            headers["Warning"] = f'299 - "{served.warning}"'
        etag = f'"{descriptor.digest}"'
        if served.manifest is None:
            return await exchange.send_described(
                descriptor.size, headers, etag, outcome=served.outcome
            )
        content = Bytes(served.manifest.body, served.outcome)
        response = await exchange.send_content(content, headers, etag)
        if self._repeats is not None:
            self._repeats.manifest(exchange, response, route, upstream, served)
        return response

    async def _blob(self, exchange: Exchange, route: GetBlob) -> web.StreamResponse:
        upstream = self._upstreams[route.upstream]
        exchange.given = Given(
            repository=route.repository, reference=route.digest, digest=route.digest
        )
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": str(route.digest),
            "Cache-Control": f"max-age={_BLOB_MAX_AGE_S}",
        }
        etag = f'"{route.digest}"'
        if exchange.wants_head(etag):
            async with answer_within(self._header_budget_s, upstream):
                size = await self._blobs.stat(upstream, route.repository, route.digest)
            response = await exchange.send_described(size, headers, etag, outcome="hit")
            if self._repeats is not None:
                self._repeats.blob(exchange, response, route, upstream, read=False)
            return response
        if self._redirector is not None:
            async with answer_within(self._header_budget_s, upstream):
                location = await self._redirector.location(exchange.request, route, upstream)
            if location is not None:
                exchange.outcome = "hit"
                return await exchange.send_bytes(307, b"", {"Location": location})
        content = await self._blobs.open(
            upstream, route.repository, route.digest, span=_first_range(exchange.request)
        )
        response = await exchange.send_content(content, headers, etag)
        if self._repeats is not None and self._redirector is None and isinstance(content, Bytes):
            self._repeats.blob(exchange, response, route, upstream, read=True)
        return response

    async def _list_tags(self, exchange: Exchange, route: ListTags) -> web.StreamResponse:
        listed = await self._listings.list_tags(
            self._upstreams[route.upstream],
            route.repository,
            route.n,
            route.last,
            as_of=self._as_of,
        )
        exchange.outcome = listed.outcome
        headers = {"Content-Type": "application/json"}
        if listed.warning is not None:
            headers["Warning"] = f'299 - "{listed.warning}"'
        if listed.more and listed.names:
            headers["Link"] = oci.next_link(
                route.client_path,
                n=len(listed.names) if route.n is None else route.n,
                last=listed.names[-1],
                namespace=route.namespace,
            )
        return await exchange.send_bytes(
            200, oci.tag_list_body(route.client_name, listed.names), headers
        )

    async def _referrers(self, exchange: Exchange, route: GetReferrers) -> web.StreamResponse:
        found = await self._listings.referrers(
            self._upstreams[route.upstream], route.repository, route.digest
        )
        exchange.outcome = found.outcome
        headers = {"Content-Type": OCI_INDEX}
        if found.warning is not None:
            headers["Warning"] = f'299 - "{found.warning}"'
        if route.artifact_type is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        chosen = oci.filter_referrers(found.descriptors, route.artifact_type)
        return await exchange.send_bytes(200, oci.referrers_index(chosen), headers)

    async def _catalog(self, exchange: Exchange, route: Catalog) -> web.StreamResponse:
        exchange.namespace = route.namespace
        chosen = list(self._upstreams.values())
        if route.upstream is not None:
            exchange.upstream, chosen = route.upstream, [self._upstreams[route.upstream]]
        listed = await self._listings.catalog(
            chosen, route.n, route.last, prefixed=route.upstream is None
        )
        exchange.outcome = listed.outcome
        headers = {"Content-Type": "application/json"}
        if listed.more and listed.names:
            headers["Link"] = oci.next_link(
                route.client_path,
                n=len(listed.names),
                last=listed.names[-1],
                namespace=route.namespace,
            )
        return await exchange.send_bytes(200, oci.catalog_body(listed.names), headers)


def _first_range(request: web.BaseRequest) -> SpanWanted | None:
    """The range that will be read first; None: the whole. A hint only."""
    match = _FIRST_RANGE.match(request.headers.get("Range", ""))
    if match is None or match.group(1, 2) == (None, None):
        return None
    first, last = match.groups()
    if first is None:
        return -int(last), None
    return int(first), None if last is None else int(last) + 1
