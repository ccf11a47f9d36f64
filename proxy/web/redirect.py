"""Sending clients to the object store for large blobs, when the operator wants it.

Off by default: bytes that don't pass through here can't be cut when they are
wrong, and clients must reach the store. Only complete, verified blobs; never for
clients that are known to refuse or to mishandle such redirects, nor for one that
asks not to be (`Entrepot-Redirect: no`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.cache.blobs import BlobCache
from proxy.errors import StorageUnavailable
from proxy.oci.routes import GetBlob
from proxy.ports import BlobKey, Upstream

# go-containerregistry refuses private addresses, regctl loopback and https to
# http; nydus and stargz keep the URL for longer than it is good.
# Anywhere in the name: programs that use a library put their own name first.
_REFUSING = ("go-containerregistry", "regclient", "regctl", "nydus", "stargz")
# A store that thinks for longer must not keep a client from what is held here.
_ASK_S = 2.0


class Redirector:
    """Says where to, or that it shall not be."""

    def __init__(
        self,
        blobs: BlobCache,
        presigned: Callable[[BlobKey], Awaitable[str]],
        *,
        bytes_min: int,
    ) -> None:
        self._blobs = blobs
        self._presigned = presigned
        self._bytes_min = bytes_min

    async def location(
        self, request: web.BaseRequest, route: GetBlob, upstream: Upstream
    ) -> str | None:
        """The URL to send the client to. Raises what forbids to show the blob."""
        if _opted_out(request):
            return None
        try:
            async with asyncio.timeout(_ASK_S):
                found = await self._blobs.in_store(upstream, route.repository, route.digest)
                if found is None or found[1] < self._bytes_min:
                    return None
                return await self._presigned(found[0])
        except (StorageUnavailable, TimeoutError):
            return None


def _opted_out(request: web.BaseRequest) -> bool:
    agent = request.headers.get("User-Agent", "").lower()
    wish = request.headers.get("Entrepot-Redirect", "").strip().lower()
    return wish == "no" or any(name in agent for name in _REFUSING)
