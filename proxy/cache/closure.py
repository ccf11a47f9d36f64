"""All that belongs to an image: from its name down to the layers, signatures included.

For whoever works with whole images (warming, exporting, keeping, proving completeness).
Manifests come before what they need, each digest once. Only wanted platforms are gone
into; an index is always whole, since its bytes are its identity, and attestations that
an index carries beside its images (BuildKit: `unknown/unknown`) go with the image that
they are about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from proxy.cache.listings import Listings
from proxy.cache.manifests import ManifestCache
from proxy.cache.tags import TagCache
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    EntrepotError,
    InvalidDigest,
    UnknownManifest,
    UpstreamUnavailable,
)
from proxy.oci.digest import Digest
from proxy.oci.manifests import (
    INDEX_TYPES,
    MEDIA_TYPES,
    Descriptor,
    Manifest,
    children,
    json_object,
)
from proxy.oci.names import Reference, Repository, Tag
from proxy.ports import Upstream

_ABOUT = "vnd.docker.reference.digest"
# Signatures before the referrers API: cosign's tags.
_COSIGN = ("sig", "att", "sbom")
# What nests deeper is no image; so nothing here runs away.
_DEPTH_MAX = 8

Kind = Literal["index", "manifest", "config", "layer"]


@dataclass(frozen=True, slots=True)
class Platforms:
    """Which images of an index are wanted; `wanted` is None for all of them."""

    wanted: frozenset[str] | None

    @classmethod
    def all(cls) -> Platforms:
        """Every one."""
        return cls(None)

    @classmethod
    def of(cls, platforms: Iterable[str]) -> Platforms:
        """Those of `os/architecture[/variant]`; without a variant: of any."""
        return cls(frozenset(map(_plain, platforms)))

    def chosen(self, index: bytes) -> dict[Digest, str]:
        """The wanted manifests of an index, and the platform of each.

        Raises `BadUpstreamAnswer`.
        """
        entries = json_object(index, "the index").get("manifests")
        found: dict[Digest, str] = {}
        about: list[tuple[Digest, str]] = []
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
                continue
            digest, annotations = Digest.parse(entry["digest"]), entry.get("annotations")
            subject = annotations.get(_ABOUT) if isinstance(annotations, dict) else None
            if isinstance(subject, str):
                about.append((digest, subject))
            elif self._wants(platform := _spelled(entry.get("platform"))):
                found.setdefault(digest, platform)
        named = {str(digest): platform for digest, platform in found.items()}
        for digest, subject in about:
            if subject in named:
                found.setdefault(digest, named[subject])
        return found

    def _wants(self, platform: str) -> bool:
        if self.wanted is None or not platform:
            return True
        return platform in self.wanted or platform.rpartition("/")[0] in self.wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One thing that belongs to an image.

    body: of manifests that are here. depth: 0 for the top. platform: of the image
    that it was first met in, None above. referrer: it came as, or below, something that
    refers to the image. missing: why it is not here; None for manifests that are, and
    for all blobs, which are not looked for.
    """

    kind: Kind
    descriptor: Descriptor
    depth: int
    body: bytes | None = None
    platform: str | None = None
    referrer: bool = False
    missing: str | None = None


@dataclass(slots=True)
class _Walk:
    upstream: Upstream
    repository: Repository
    platforms: Platforms
    fetch: bool
    referrers: bool
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
    ) -> AsyncIterator[Piece]:
        """Every piece. Without `fetch` only what is held is looked at.

        Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable` for the
        reference itself; what is missing below it is told by its piece.
        """
        walk = _Walk(upstream, repository, platforms, fetch, referrers, set())
        top = await self._top(walk, reference)
        async for piece in self._down(walk, top, 0, platform=None, referrer=False):
            yield piece

    async def _top(self, walk: _Walk, reference: Reference) -> Manifest:
        if walk.fetch:
            served = await self._tags.serve(walk.upstream, walk.repository, reference, body=True)
            if served.manifest is not None:
                return served.manifest
        else:
            held = await self._tags.held(walk.upstream, walk.repository, reference)
            if held is not None:
                return held
        raise UnknownManifest(f"{walk.repository}:{reference} of {walk.upstream.name} is not here")

    async def _down(
        self, walk: _Walk, manifest: Manifest, depth: int, *, platform: str | None, referrer: bool
    ) -> AsyncIterator[Piece]:
        descriptor, body = manifest.descriptor, manifest.body
        if descriptor.digest in walk.seen or depth > _DEPTH_MAX:
            return
        walk.seen.add(descriptor.digest)
        is_index = descriptor.media_type in INDEX_TYPES
        piece = Piece(
            kind="index" if is_index else "manifest",
            descriptor=descriptor,
            depth=depth,
            body=body,
            platform=platform,
            referrer=referrer,
        )
        try:
            below = children(manifest)
            chosen = walk.platforms.chosen(body) if is_index and not referrer else None
        except (BadUpstreamAnswer, InvalidDigest) as error:
            yield replace(piece, missing=str(error))
            return
        yield piece
        for child in below.manifests:
            if chosen is None or child.digest in chosen:
                of = platform if chosen is None else chosen[child.digest]
                async for piece in self._child(walk, child, depth + 1, of, referrer=referrer):
                    yield piece
        config = json_object(body, "the manifest").get("config")
        own = config.get("digest") if isinstance(config, dict) else None
        for blob in below.blobs:
            if blob.digest not in walk.seen:
                walk.seen.add(blob.digest)
                yield Piece(
                    kind="config" if str(blob.digest) == own else "layer",
                    descriptor=blob,
                    depth=depth + 1,
                    platform=platform,
                    referrer=referrer,
                )
        if walk.referrers:
            async for piece in self._referring(walk, descriptor.digest, depth + 1, platform):
                yield piece

    async def _child(
        self, walk: _Walk, child: Descriptor, depth: int, platform: str | None, *, referrer: bool
    ) -> AsyncIterator[Piece]:
        if child.digest in walk.seen:
            return
        try:
            manifest = await self._manifest(walk, child.digest)
        except EntrepotError as error:
            walk.seen.add(child.digest)
            yield Piece(
                kind="index" if child.media_type in INDEX_TYPES else "manifest",
                descriptor=child,
                depth=depth,
                platform=platform,
                referrer=referrer,
                missing=str(error),
            )
            return
        async for piece in self._down(walk, manifest, depth, platform=platform, referrer=referrer):
            yield piece

    async def _manifest(self, walk: _Walk, digest: Digest) -> Manifest:
        if walk.fetch:
            return (await self._manifests.get(walk.upstream, walk.repository, digest))[0]
        held = await self._manifests.held(walk.upstream, walk.repository, digest)
        if held is None:
            raise UnknownManifest(f"{digest} of {walk.upstream.name}/{walk.repository} is not here")
        return held

    async def _referring(
        self, walk: _Walk, digest: Digest, depth: int, platform: str | None
    ) -> AsyncIterator[Piece]:
        """What refers to a digest, by the API, its fallback tag, and cosign's tags."""
        for found in await self._referrers(walk, digest):
            async for piece in self._child(walk, found, depth, platform, referrer=True):
                yield piece
        for kind in _COSIGN:
            tag = Tag.parse(f"{digest.algorithm}-{digest.hex}.{kind}")
            held = await self._tags.held(walk.upstream, walk.repository, tag)
            if held is None and walk.fetch:
                held = await self._fetched(walk, tag)
            if held is not None:
                async for piece in self._down(walk, held, depth, platform=platform, referrer=True):
                    yield piece

    async def _fetched(self, walk: _Walk, tag: Tag) -> Manifest | None:
        try:
            served = await self._tags.serve(walk.upstream, walk.repository, tag, body=True)
        except (UnknownManifest, AccessDenied, UpstreamUnavailable):
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
        except (UnknownManifest, AccessDenied, UpstreamUnavailable):
            return []
        return [one for one in map(_referrer, descriptors) if one is not None]


def _referrer(entry: dict[str, object]) -> Descriptor | None:
    match entry:
        case {"mediaType": str(media_type), "digest": str(text), "size": int(size)}:
            try:
                digest = Digest.parse(text)
            except InvalidDigest:
                return None
            if media_type in MEDIA_TYPES:
                return Descriptor(media_type=media_type, digest=digest, size=size)
        case _:
            pass
    return None


def _spelled(platform: object) -> str:
    """`os/architecture[/variant]`; empty if the entry tells none."""
    if not isinstance(platform, dict):
        return ""
    parts = [platform.get("os"), platform.get("architecture"), platform.get("variant")]
    return _plain("/".join(part for part in parts if isinstance(part, str) and part))


def _plain(platform: str) -> str:
    """Without the variant that an architecture has anyway (containerd, platforms.Normalize)."""
    for usual in ("arm64/v8", "amd64/v1"):
        if platform.endswith(f"/{usual}"):
            return platform.rpartition("/")[0]
    return platform
