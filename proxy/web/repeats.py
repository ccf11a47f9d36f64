"""Which requests may be answered again from their bytes alone, and with what.

GET or HEAD over HTTP/1.1, answered 200 or 304 out of memory, without a body and
without anything that is between us and this one client: credentials, wishes for the
connection, the name of a span. Whatever else stands in the head may change the answer,
but then it changes the head, too.
"""

from __future__ import annotations

from dataclasses import replace

from aiohttp import HttpVersion11, web

from proxy.cache.blobs import BlobCache
from proxy.cache.manifests import Served
from proxy.cache.standing import Standing
from proxy.cache.tags import TagCache
from proxy.oci.routes import GetBlob, GetManifest
from proxy.ports import Upstream
from proxy.web.access import access_facts
from proxy.web.exchange import Exchange
from proxy.web.fastlane import BODY_BYTES_MAX, FastLane, Known
from proxy.web.uses import Given

_NEVER = frozenset(
    {
        "authorization",
        "content-length",
        "cookie",
        "expect",
        "proxy-authorization",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Repeats:
    """Offers to the fast lane what was just answered."""

    def __init__(
        self, lane: FastLane, *, tags: TagCache, blobs: BlobCache, as_of: float | None = None
    ) -> None:
        """`as_of`: as the handler's, whose answers alone are in `lane`."""
        self._as_of = as_of
        self._lane = lane
        self._tags = tags
        self._blobs = blobs

    def ping(self, exchange: Exchange, response: web.StreamResponse, body: bytes) -> None:
        """That we are here, which stands on nothing."""
        if _fit(exchange):
            self._offer(exchange, response, body, Standing())

    def manifest(
        self,
        exchange: Exchange,
        response: web.StreamResponse,
        route: GetManifest,
        upstream: Upstream,
        served: Served,
    ) -> None:
        """`served` was sent, or described."""
        if _fit(exchange) and served.manifest is not None:
            standing = self._tags.standing(
                upstream, route.repository, route.reference, served, as_of=self._as_of
            )
            if standing is not None:
                self._offer(exchange, response, served.manifest.body, standing)

    def blob(
        self,
        exchange: Exchange,
        response: web.StreamResponse,
        route: GetBlob,
        upstream: Upstream,
        *,
        read: bool,
    ) -> None:
        """It was sent (`read`), or described."""
        if _fit(exchange):
            found = self._blobs.standing(upstream, route.repository, route.digest, read=read)
            if found is not None:
                self._offer(exchange, response, *found)

    def _offer(
        self, exchange: Exchange, response: web.StreamResponse, body: bytes, standing: Standing
    ) -> None:
        head = _head(exchange.request)
        if head is None or response.content_length not in {None, len(body)}:
            return
        before, after = _around_date(response)
        self._lane.offer(
            Known(
                head=head,
                before=before,
                after=after,
                body=body if exchange.size else b"",
                served=exchange.served(),
                facts=access_facts(exchange),
                given=_kept(exchange),
            ),
            standing,
        )


def _kept(exchange: Exchange) -> Given | None:
    """What was given; a manifest only if the answer holds its bytes anyway."""
    given = exchange.given
    if given is not None and not exchange.size and given.manifest is not None:
        return replace(given, manifest=None)
    return given


def _fit(exchange: Exchange) -> bool:
    return (
        exchange.complete
        and exchange.outcome == "hit"
        and exchange.status in {200, 304}
        and exchange.size <= BODY_BYTES_MAX
    )


def _head(request: web.BaseRequest) -> bytes | None:
    head = getattr(request.protocol, "head", None)
    if (
        not isinstance(head, bytes)
        or request.version != HttpVersion11
        or request.method not in {"GET", "HEAD"}
        or not request.keep_alive
        or request.can_read_body
        or any(name.lower() in _NEVER for name in request.headers)
    ):
        return None
    return head


def _around_date(response: web.StreamResponse) -> tuple[bytes, bytes]:
    """The head that was sent, as it stands around the value of Date."""
    before, lines = "", [f"HTTP/1.1 {response.status} {response.reason}\r\n"]
    for name, value in response.headers.items():
        if name.lower() == "date":
            lines.append(f"{name}: ")
            before, lines = "".join(lines), ["\r\n"]
        else:
            lines.append(f"{name}: {value}\r\n")
    return before.encode(), ("".join(lines) + "\r\n").encode()
