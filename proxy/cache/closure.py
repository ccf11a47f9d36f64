"""All that belongs to an image: from its name down to the layers, signatures included.

For whoever works with whole images (warming, exporting, keeping, proving completeness).
Manifests come before what they need, each digest once. Only wanted platforms are gone
into; an index is always whole, since its bytes are its identity, and attestations that
an index carries beside its images (BuildKit: `unknown/unknown`) go with the image that
they are about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Literal

from proxy.cache.listings import Listings
from proxy.cache.manifests import ManifestCache
from proxy.cache.platforms import Platforms
from proxy.cache.tags import TagCache
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    EntrepotError,
    InvalidDigest,
    UnknownManifest,
    UpstreamOffline,
    UpstreamUnavailable,
)
from proxy.oci.digest import Digest
from proxy.oci.listings import referrer_of, signature_tags
from proxy.oci.manifests import (
    DEPTH_MAX,
    INDEX_TYPES,
    Descriptor,
    Manifest,
    children,
    json_object,
)
from proxy.oci.names import Reference, Repository, Tag
from proxy.ports import Upstream

__all__ = ["Closure", "Kind", "Piece", "Platforms"]

Kind = Literal["index", "manifest", "config", "layer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One thing that belongs to an image.

    body: of manifests that are here. depth: 0 for the top. platform: of the image
    that it was first met in, None above. referrer: it came as, or below, something that
    refers to the image; subject: what it refers to itself; tag: by which that was found,
    None if the referrers API told. warning: of the top, why its name may stand for something
    else by now. missing: why it is not here; None for manifests that are, and
    for all blobs, which are not looked for.
    """

    kind: Kind
    descriptor: Descriptor
    depth: int
    body: bytes | None = None
    platform: str | None = None
    referrer: bool = False
    subject: Digest | None = None
    tag: Tag | None = None
    warning: str | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Met:
    """On the way to a manifest; the fields are those of `Piece`."""

    depth: int = 0
    platform: str | None = None
    referrer: bool = False
    subject: Digest | None = None
    tag: Tag | None = None
    warning: str | None = None


@dataclass(slots=True)
class _Walk:
    upstream: Upstream
    repository: Repository
    platforms: Platforms
    fetch: bool
    referrers: bool
    certain: bool
    seen: set[Digest]


class Closure:
    """Walks images. Fetches manifests if asked to, blobs never."""

    def __init__(self, tags: TagCache, manifests: ManifestCache, listings: Listings) -> None:
        self._tags = tags
        self._manifests = manifests
        self._listings = listings

    async def walk(
        self,
        upstream: Upstream,
        repository: Repository,
        reference: Reference,
        *,
        platforms: Platforms,
        fetch: bool,
        referrers: bool = True,
        certain: bool = False,
    ) -> AsyncIterator[Piece]:
        """Every piece. Without `fetch` only what is held is looked at.

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable` for the
        reference itself; what is missing below it is told by its piece. `certain`: raises
        `UpstreamUnavailable`, too, when it can't be told what refers to something; else
        there is taken to be nothing.
        """
        walk = _Walk(upstream, repository, platforms, fetch, referrers, certain, set())
        top, warning = await self._top(walk, reference)
        async for piece in self._down(walk, top, _Met(warning=warning)):
            yield piece

    async def _top(self, walk: _Walk, reference: Reference) -> tuple[Manifest, str | None]:
        if walk.fetch:
            served = await self._tags.serve(walk.upstream, walk.repository, reference, body=True)
            if served.manifest is not None:
                return served.manifest, served.warning
        else:
            held = await self._tags.held(walk.upstream, walk.repository, reference)
            if held is not None:
                return held, None
        raise UnknownManifest(f"{walk.repository}:{reference} of {walk.upstream.name} is not here")

    async def _down(self, walk: _Walk, manifest: Manifest, met: _Met) -> AsyncIterator[Piece]:
        descriptor, body = manifest.descriptor, manifest.body
        if descriptor.digest in walk.seen or met.depth > DEPTH_MAX:
            return
        walk.seen.add(descriptor.digest)
        is_index = descriptor.media_type in INDEX_TYPES
        piece = Piece(
            kind="index" if is_index else "manifest",
            descriptor=descriptor,
            depth=met.depth,
            body=body,
            platform=met.platform,
            referrer=met.referrer,
            subject=met.subject,
            tag=met.tag,
            warning=met.warning,
        )
        try:
            below = children(manifest)
            chosen = walk.platforms.chosen(body) if is_index and not met.referrer else None
        except (BadUpstreamAnswer, InvalidDigest) as error:
            yield replace(piece, missing=str(error))
            return
        yield piece
        for child in below.manifests:
            if chosen is None or child.digest in chosen:
                of = met.platform if chosen is None else chosen[child.digest]
                below_it = _Met(depth=met.depth + 1, platform=of, referrer=met.referrer)
                async for piece in self._child(walk, child, below_it):
                    yield piece
        config = json_object(body, "the manifest").get("config")
        own = config.get("digest") if isinstance(config, dict) else None
        for blob in below.blobs:
            if blob.digest not in walk.seen:
                walk.seen.add(blob.digest)
                yield Piece(
                    kind="config" if str(blob.digest) == own else "layer",
                    descriptor=blob,
                    depth=met.depth + 1,
                    platform=met.platform,
                    referrer=met.referrer,
                )
        if walk.referrers:
            referring = _Met(
                depth=met.depth + 1,
                platform=met.platform,
                referrer=True,
                subject=descriptor.digest,
            )
            async for piece in self._referring(walk, descriptor.digest, referring):
                yield piece

    async def _child(self, walk: _Walk, child: Descriptor, met: _Met) -> AsyncIterator[Piece]:
        if child.digest in walk.seen:
            return
        try:
            manifest = await self._manifest(walk, child.digest)
        except EntrepotError as error:
            walk.seen.add(child.digest)
            yield Piece(
                kind="index" if child.media_type in INDEX_TYPES else "manifest",
                descriptor=child,
                depth=met.depth,
                platform=met.platform,
                referrer=met.referrer,
                subject=met.subject,
                missing=str(error),
            )
            return
        async for piece in self._down(walk, manifest, met):
            yield piece

    async def _manifest(self, walk: _Walk, digest: Digest) -> Manifest:
        if walk.fetch:
            return (await self._manifests.get(walk.upstream, walk.repository, digest))[0]
        held = await self._manifests.held(walk.upstream, walk.repository, digest)
        if held is None:
            raise UnknownManifest(f"{digest} of {walk.upstream.name}/{walk.repository} is not here")
        return held

    async def _referring(self, walk: _Walk, digest: Digest, met: _Met) -> AsyncIterator[Piece]:
        """What refers to a digest, by the API, its fallback tag, and cosign's tags."""
        for found in await self._referrers(walk, digest):
            async for piece in self._child(walk, found, met):
                yield piece
        for tag in signature_tags(digest):
            # They move, as when one more signs.
            held = await (self._fetched(walk, tag) if walk.fetch else self._held(walk, tag))
            if held is not None:
                async for piece in self._down(walk, held, replace(met, tag=tag)):
                    yield piece

    async def _held(self, walk: _Walk, tag: Tag) -> Manifest | None:
        return await self._tags.held(walk.upstream, walk.repository, tag)

    async def _fetched(self, walk: _Walk, tag: Tag) -> Manifest | None:
        try:
            served = await self._tags.serve(walk.upstream, walk.repository, tag, body=True)
        except (UnknownManifest, AccessDenied, UpstreamOffline):
            return None
        except UpstreamUnavailable:
            if walk.certain:
                raise
            return None
        return served.manifest

    async def _referrers(self, walk: _Walk, digest: Digest) -> list[Descriptor]:
        try:
            if walk.fetch:
                found = await self._listings.referrers(walk.upstream, walk.repository, digest)
                descriptors = list(found.descriptors)
            else:
                descriptors = list(
                    await self._listings.known_referrers(walk.upstream, walk.repository, digest)
                )
        except (UnknownManifest, AccessDenied, UpstreamOffline):
            return []
        except UpstreamUnavailable:
            if walk.certain:
                raise
            return []
        return [one for one in map(referrer_of, descriptors) if one is not None]
