"""Where single pieces of content lie: memory, disk, S3, or on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.cache.vouching import group_of
from proxy.errors import StorageUnavailable, TransferBroken
from proxy.oci.digest import Digest
from proxy.oci.endpoints import GetManifest
from proxy.ports import BlobKey, Upstream


@dataclass(slots=True)
class Look:
    """What has been found so far.

    asks: what upstreams would be asked, in words. certain: whether all of the
    image could be looked at.
    """

    upstream: Upstream
    route: GetManifest
    platform: str
    contents: list[dict[str, Any]] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    trouble: str | None = None
    certain: bool = True

    def key(self, digest: Digest) -> BlobKey:
        """Where this upstream's content of that digest is kept."""
        return BlobKey(group_of(self.upstream), digest)

    def pull(self) -> dict[str, Any]:
        """What a pull would have to fetch now, and what it would ask."""
        sums = {"upstream_bytes": 0, "s3_bytes": 0, "joined_bytes": 0}
        for one in self.contents:
            if one["memory"] or one["disk"]:
                continue
            place = "joined_bytes" if one["flight"] is not None else "upstream_bytes"
            sums["s3_bytes" if one["s3"] else place] += one["size"] or 0
        return {"asks": self.asks, **sums, "certain": self.certain, "trouble": self.trouble}


class Pieces:
    """Looks, and touches nothing: not even the order of eviction."""

    def __init__(self, cache: Cache, backing: Backing, *, manifest_bytes_max: int) -> None:
        self._cache = cache
        self._backing = backing
        self._manifest_bytes_max = manifest_bytes_max

    async def add(
        self, look: Look, what: str, digest: Digest, size: int | None, media_type: str
    ) -> None:
        """Note where one piece is, and whether its repository may serve it."""
        key, durable = look.key(digest), self._backing.fleet.durable
        in_memory = self._cache.memory.peek(key) is not None
        on_disk = await self._stat(look, self._backing.local.blobs.stat(key))
        in_s3 = None if durable is None else await self._stat(look, durable.stat(key))
        linked = await self._cache.facts.link(look.upstream, look.route.repository, digest)
        if linked is None and (in_memory or on_disk is not None or in_s3 is not None):
            look.asks.append(f"{look.upstream.name} is asked whether it has {digest} there (HEAD)")
        look.contents.append(
            {
                "what": what,
                "digest": str(digest),
                "media_type": media_type,
                "size": next((one for one in (on_disk, in_s3, size) if one is not None), None),
                "memory": in_memory,
                "disk": on_disk is not None,
                "s3": None if durable is None else in_s3 is not None,
                "flight": self._flight(key),
                "linked": linked is not None,
            }
        )

    async def manifest(self, look: Look, digest: Digest) -> bytes | None:
        """A manifest's bytes, wherever they are; they are left where they are."""
        key = look.key(digest)
        data = self._cache.memory.peek(key)
        if data is None:
            path = Path(self._backing.local.blobs.path(key))
            data = await asyncio.to_thread(_read, path, self._manifest_bytes_max)
        if data is None:
            data = await self._stored(look, key)
        return data if data is not None and digest.matches(data) else None

    def _flight(self, key: BlobKey) -> dict[str, Any] | None:
        flight = self._cache.flights.get(key)
        if flight is None:
            return None
        return {"written": flight.written, "size": flight.size, "followers": flight.followers}

    async def _stat(self, look: Look, asked: Awaitable[int | None]) -> int | None:
        try:
            return await asked
        except StorageUnavailable as error:
            look.trouble, look.certain = str(error), False
            return None

    async def _stored(self, look: Look, key: BlobKey) -> bytes | None:
        durable = self._backing.fleet.durable
        if durable is None:
            return None
        try:
            async with durable.open(key) as body:
                if body is None or (body.size or 0) > self._manifest_bytes_max:
                    return None
                return b"".join([chunk async for chunk in body.chunks])
        except (StorageUnavailable, TransferBroken) as error:
            look.trouble = str(error)
            return None


def _read(path: Path, size_max: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(size_max + 1)
    except OSError:
        return None
    return data if len(data) <= size_max else None
