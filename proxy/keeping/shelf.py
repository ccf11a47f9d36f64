"""Looking at what is held, image by image, without using it.

Nothing is fetched, nothing moves between tiers, no file's time of use changes and no
memory of what is popular is disturbed. What is on the disk is looked at in a thread of
its own, a whole image at a time, so that a long walk takes nothing from pulls but disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.cache.lru import Lru
from proxy.cache.platforms import index_entries
from proxy.cache.vouching import group_of
from proxy.errors import (
    BadUpstreamAnswer,
    InvalidDigest,
    StorageUnavailable,
    TransferBroken,
)
from proxy.keeping.images import Image, Kind, Named, Part, platforms_of
from proxy.keeping.recorded import Recorded
from proxy.oci.digest import Digest
from proxy.oci.manifests import DEPTH_MAX, INDEX_TYPES, Children, Descriptor, Manifest, children
from proxy.ports import BlobKey, Upstream

_STORED_KNOWN_MAX = 50_000
_STORED_KNOWN_S = 60.0
_STATS_AT_ONCE = 16


@dataclass(slots=True)
class _Walk:
    group: str
    bodies: dict[Digest, bytes]
    look: bool = True
    """Whether files are looked at; else only which parts there are is found out."""
    parts: list[Part] = field(default_factory=list)
    seen: set[Digest] = field(default_factory=set)
    lacking: list[Digest] = field(default_factory=list)


class Shelf:
    """Reads. Methods raise `StorageUnavailable`."""

    def __init__(
        self,
        cache: Cache,
        backing: Backing,
        recorded: Recorded,
        *,
        manifest_bytes_max: int,
    ) -> None:
        self._memory = cache.memory
        self._disk = backing.local.blobs
        self._recorded = recorded
        self._durable = backing.fleet.durable
        self._manifest_bytes_max = manifest_bytes_max
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keeping")
        # When each was last seen there, by a clock that only goes forward.
        self._stored: Lru[BlobKey, float] = Lru(_STORED_KNOWN_MAX)

    def close(self) -> None:
        """Look no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- images --------------------------------------------------------------------------

    async def image(self, upstream: Upstream, root: Descriptor, *, stored: bool = True) -> Image:
        """All of an image that is known here; with `stored`, looked for in S3 as well."""
        parts = tuple(await self._known(upstream, root, {}, look=True))
        if stored and self._durable is not None:
            parts = await self._with_stored(parts)
        return Image(root.digest, parts, platforms_of(parts))

    async def whole(self, named: Named, root: Descriptor) -> Image:
        """As `image`, with what refers to it; not looked for in S3."""
        image = await self.image(named.upstream, root, stored=False)
        parts = {part.key: part for part in image.parts}
        for part in image.parts:
            if part.kind in {"index", "manifest"}:
                digest = part.key.digest
                for about in await self._recorded.referring(
                    named.upstream, named.repository, digest
                ):
                    more = await self.image(named.upstream, about, stored=False)
                    for one in more.parts:
                        parts.setdefault(one.key, replace(one, optional=True))
        return Image(image.root, tuple(parts.values()), image.platforms)

    async def bytes_of(self, keys: Sequence[BlobKey]) -> int:
        """How much of them is on this machine's disk."""

        def sum_blocking() -> int:
            found = (self._disk.look_blocking(key) for key in keys)
            return sum(times.size for times in found if times is not None)

        return await asyncio.get_running_loop().run_in_executor(self._thread, sum_blocking)

    async def closure(self, upstream: Upstream, root: Descriptor) -> list[BlobKey]:
        """All that belongs to an image, as far as its manifests are held; the root first."""
        return [part.key for part in await self._known(upstream, root, {}, look=False)]

    async def below(self, upstream: Upstream, manifest: Manifest) -> list[BlobKey]:
        """As `closure` of a manifest that is at hand, without the root, and only as far as
        manifests are on this machine.
        """
        walk = _Walk(group_of(upstream), {manifest.descriptor.digest: manifest.body}, look=False)
        await self._walked(walk, manifest.descriptor)
        return [part.key for part in walk.parts[1:]]

    async def _known(
        self, upstream: Upstream, root: Descriptor, bodies: dict[Digest, bytes], *, look: bool
    ) -> list[Part]:
        """Walk again and again, with what manifests the durable store adds each time."""
        asked: set[Digest] = set()
        while True:
            walk = _Walk(group_of(upstream), bodies, look)
            await self._walked(walk, root)
            lacking = [digest for digest in walk.lacking if digest not in asked]
            if self._durable is None or not lacking:
                return walk.parts
            for digest in lacking:
                asked.add(digest)
                body = await self._fetched(BlobKey(walk.group, digest))
                if body is not None:
                    bodies[digest] = body

    async def _walked(self, walk: _Walk, root: Descriptor) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._walk_blocking, walk, root)

    def _walk_blocking(self, walk: _Walk, root: Descriptor) -> None:
        self._down(walk, root, "", optional=False, depth=0)

    def _down(
        self, walk: _Walk, descriptor: Descriptor, platform: str, *, optional: bool, depth: int
    ) -> None:
        key = BlobKey(walk.group, descriptor.digest)
        if descriptor.digest in walk.seen or depth > DEPTH_MAX:
            return
        body = self._body(walk, key)
        is_index = descriptor.media_type in INDEX_TYPES
        below = Children()
        entries: list[tuple[Digest, str, str | None]] = []
        try:
            if body is None:
                raise BadUpstreamAnswer("not here")
            below = children(Manifest(descriptor=descriptor, body=body))
            is_index = is_index or bool(below.manifests)
            entries = list(index_entries(body)) if is_index else []
        except (BadUpstreamAnswer, InvalidDigest):
            walk.lacking.append(descriptor.digest)
        kind: Kind = "index" if is_index else "manifest"
        self._add(walk, kind, descriptor, platform, optional=optional)
        told = {child.digest: child for child in below.manifests}
        for digest, of, subject in entries:
            if digest in told:
                extra = optional or subject is not None
                self._down(walk, told[digest], of, optional=extra, depth=depth + 1)
        for number, blob in enumerate(below.blobs):
            if blob.digest not in walk.seen:
                what: Literal["config", "layer"] = "layer" if number else "config"
                self._add(walk, what, blob, platform, optional=optional)

    def _add(
        self, walk: _Walk, kind: Kind, descriptor: Descriptor, platform: str, *, optional: bool
    ) -> None:
        walk.seen.add(descriptor.digest)
        key = BlobKey(walk.group, descriptor.digest)
        times = self._disk.look_blocking(key) if walk.look else None
        walk.parts.append(
            Part(
                kind=kind,
                key=key,
                size=descriptor.size if times is None else times.size,
                platform=platform,
                optional=optional,
                here=times is not None,
                used_at=0.0 if times is None else max(times.used_at, times.stored_at),
                stored_at=0.0 if times is None else times.stored_at,
            )
        )

    def _body(self, walk: _Walk, key: BlobKey) -> bytes | None:
        body = walk.bodies.get(key.digest)
        if body is None:
            body = self._memory.peek(key)
        if body is None:
            body = self._disk.peek_bytes_blocking(key, self._manifest_bytes_max)
        return body

    # --- the durable store -----------------------------------------------------------------

    async def _fetched(self, key: BlobKey) -> bytes | None:
        """A manifest from the durable store; it is left there and nowhere else."""
        if self._durable is None:
            return None
        try:
            async with self._durable.open(key) as body:
                if body is None or (body.size or 0) > self._manifest_bytes_max:
                    return None
                data = b"".join([chunk async for chunk in body.chunks])
        except TransferBroken as error:
            raise StorageUnavailable(str(error)) from error
        return data if key.digest.matches(data) else None

    async def _with_stored(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        found: list[Part] = []
        for start in range(0, len(parts), _STATS_AT_ONCE):
            batch = parts[start : start + _STATS_AT_ONCE]
            stored = await asyncio.gather(*(self._is_stored(part.key) for part in batch))
            found += [replace(one, stored=is_) for one, is_ in zip(batch, stored, strict=True)]
        return tuple(found)

    async def _is_stored(self, key: BlobKey) -> bool:
        if self._durable is None:
            return False
        now, seen_at = time.monotonic(), self._stored.get(key)
        if seen_at is not None and now - seen_at < _STORED_KNOWN_S:
            return True
        if await self._durable.stat(key) is None:
            return False
        self._stored.put(key, now)
        return True

    def forget_stored(self, key: BlobKey) -> None:
        """It was just removed."""
        self._stored.pop(key)
