"""Manifests by digest: memory, then disk, then one fetch for all who ask.

A manifest's bytes are a blob like any other; the link record of its repository
says that they are a manifest, and of which type. So content that was only ever
shown as a layer is never served as a manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.cache.blobs import BlobCache
from proxy.cache.content import Outcome
from proxy.cache.facts import Facts
from proxy.cache.lru import Lru
from proxy.cache.records import Link
from proxy.cache.shared import Shared
from proxy.cache.single import SingleFlight
from proxy.cache.small_store import SmallStore
from proxy.cache.standing import Lives, Standing
from proxy.cache.vouching import group_of
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    UnknownManifest,
    UpstreamUnavailable,
)
from proxy.oci.digest import Digest
from proxy.oci.manifests import (
    INDEX_TYPES,
    MEDIA_TYPES,
    SCHEMA1_TYPES,
    Children,
    Descriptor,
    Manifest,
    children,
)
from proxy.oci.names import Repository
from proxy.ports import BlobKey, Coordination, Upstream

_ABSENT = b"absent"
# Until every replica can read it from the store.
_SHARED_S = 60.0
_NOTED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Served:
    """An answer: what it is, how it came about, a warning to pass on.

    `manifest` is None when only the descriptor was asked for and is known.
    """

    descriptor: Descriptor
    manifest: Manifest | None
    outcome: Outcome
    warning: str | None = None


class ManifestCache:
    """Answers requests for manifests by digest."""

    def __init__(
        self,
        *,
        store: SmallStore,
        facts: Facts,
        size_hints: Lru[Digest, int],
        blobs: BlobCache,
        shared: Shared,
        coordination: Coordination,
        negative_s: float,
        health: Lives,
    ) -> None:
        """`health`: a life for each upstream that ends whenever it begins to fail."""
        self._health = health
        self._store = store
        self._facts = facts
        self._size_hints = size_hints
        self._blobs = blobs
        self._coordination = coordination
        self._shared = shared
        self._negative_s = negative_s
        self._flights = SingleFlight()
        # Of these the sizes of what they need were remembered.
        self._noted: Lru[BlobKey, None] = Lru(_NOTED_MAX)
        # Called with each manifest that comes, and all that it needs.
        self.came: Callable[[BlobKey, Iterable[Digest]], None] = lambda *_: None

    async def held(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> Manifest | None:
        """The manifest if this repository may serve it and the bytes are here."""
        link = self._facts.link_known(upstream, repository, digest)
        if link is None:
            link = await self._facts.link(upstream, repository, digest)
        if link is None or link.media_type not in MEDIA_TYPES:
            return None
        key = BlobKey(group_of(upstream), digest)
        body = await self._store.get(key)
        if body is None:
            return None
        descriptor = Descriptor(media_type=link.media_type, digest=digest, size=len(body))
        manifest = Manifest(descriptor=descriptor, body=body)
        if key not in self._noted:
            # Kept by an earlier start, or by another replica.
            self._noted.put(key, None)
            self._note_sizes(manifest)
        return manifest

    async def get(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> tuple[Manifest, Outcome]:
        """Held or fetched. Raises `UnknownManifest`, `AccessDenied`, `UpstreamUnavailable`."""
        manifest = await self.held(upstream, repository, digest)
        if manifest is not None:
            return manifest, "hit"
        joined = (upstream.name, repository, digest)
        outcome: Outcome = "join" if self._flights.running(joined) else "miss"
        fetched = await self._flights.join(
            joined, lambda: self._fetch(upstream, repository, digest)
        )
        return fetched, outcome

    def standing(
        self, upstream: Upstream, repository: Repository, manifest: Manifest
    ) -> Standing | None:
        """For how long `held` gives this manifest from memory and all of its image
        can be had; None if not now.
        """
        digest = manifest.descriptor.digest
        linked = self._facts.link_life(upstream, repository, digest)
        if linked is None or linked[0].media_type != manifest.descriptor.media_type:
            return None
        life = self._store.life(BlobKey(group_of(upstream), digest), manifest.body)
        if life is None or down(upstream):
            return None
        return Standing((linked[1], life, self._health.of(upstream.name)))

    async def complete(
        self, upstream: Upstream, repository: Repository, manifest: Manifest
    ) -> bool:
        """Whether a pull that starts here can be finished with the upstream gone.

        For an index: of at least one of its images, since nobody needs them all.
        """
        try:
            needed = children(manifest)
        except BadUpstreamAnswer:
            return False
        if manifest.descriptor.media_type in INDEX_TYPES:
            for child in needed.manifests:
                held = await self.held(upstream, repository, child.digest)
                if held is not None and await self.complete(upstream, repository, held):
                    return True
            return not needed.manifests
        for blob in needed.blobs:
            if not await self._blobs.held(upstream, repository, blob.digest):
                return False
        return True

    async def lacking(
        self, upstream: Upstream, repository: Repository, manifest: Manifest
    ) -> tuple[int, int]:
        """How many of an image's blobs can't be served with the upstream gone, of how many.

        Raises `BadUpstreamAnswer`.
        """
        blobs = children(manifest).blobs
        held = [await self._blobs.held(upstream, repository, one.digest) for one in blobs]
        return held.count(False), len(held)

    async def finishable(
        self, upstream: Upstream, repository: Repository, manifest: Manifest
    ) -> bool:
        """Whether a pull that starts here can be finished, as far as is known.

        An upstream that is known not to answer is asked once more, since nobody
        else might: its breaker refuses at once while it is not time to try.
        """
        reachable = not down(upstream) and not upstream.offline
        if reachable or await self.complete(upstream, repository, manifest):
            return True
        try:
            return await upstream.resolve(repository, manifest.descriptor.digest) is not None
        except (UpstreamUnavailable, AccessDenied):
            return False

    async def keep(self, upstream: Upstream, repository: Repository, manifest: Manifest) -> bool:
        """Store a verified manifest and its link; False where it can't be kept."""
        descriptor = manifest.descriptor
        if descriptor.media_type in SCHEMA1_TYPES:
            return False
        key = BlobKey(group_of(upstream), descriptor.digest)
        self._note(key, manifest)
        # First the right, then the bytes: who finds the bytes must not have to ask.
        link = Link(url=upstream.url, media_type=descriptor.media_type, size=descriptor.size)
        await self._facts.put_link(upstream, repository, descriptor.digest, link)
        return await self._store.put(key, manifest.body)

    async def share(self, upstream: Upstream, repository: Repository, manifest: Manifest) -> None:
        """Spare other replicas the GET of a manifest that we have just fetched."""
        if manifest.descriptor.media_type not in SCHEMA1_TYPES:
            name = shared_name(upstream, repository, manifest.descriptor.digest)
            await self._shared.tell(name, _packed(manifest), ttl_s=_SHARED_S)

    async def aclose(self) -> None:
        """Stop fetching."""
        await self._flights.aclose()

    async def _fetch(self, upstream: Upstream, repository: Repository, digest: Digest) -> Manifest:
        absence = f"absent/{upstream.name}/{repository}/manifests/{digest}"
        unknown = UnknownManifest(f"{upstream.name} has no manifest {digest} in {repository}")
        if await self._coordination.get(absence) is not None:
            raise unknown
        body = await self._store.get(BlobKey(group_of(upstream), digest))
        shared = await self._shared.told(shared_name(upstream, repository, digest))
        if body is not None and not shared:
            # The bytes came by another repository: only ask whether ours has them.
            found = await upstream.resolve(repository, digest)
            if isinstance(found, Descriptor):
                found = Manifest(descriptor=found, body=body)
        else:
            found = await self._get_once(upstream, repository, digest)
        if found is None:
            await self._coordination.put(absence, _ABSENT, ttl_s=self._negative_s)
            raise unknown
        if found.descriptor.digest != digest:
            raise BadUpstreamAnswer(f"{upstream.name} answered {digest} with another digest")
        await self.keep(upstream, repository, found)
        return found

    async def _get_once(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> Manifest | None:
        """One GET for all replicas: each counts against Docker Hub's quota."""
        unverifiable: list[Manifest] = []

        async def work() -> bytes | None:
            manifest = await upstream.get_manifest(repository, digest)
            if manifest is None:
                return None
            if manifest.descriptor.media_type in SCHEMA1_TYPES:
                unverifiable.append(manifest)
                return None
            return _packed(manifest)

        name = shared_name(upstream, repository, digest)
        outcome = await self._shared.once(name, work, ttl_s=_SHARED_S)
        if outcome is None:
            return unverifiable[0] if unverifiable else None
        media_type, _, body = outcome.partition(b"\n")
        descriptor = Descriptor(
            media_type=media_type.decode(), digest=Digest.of(body, digest.algorithm), size=len(body)
        )
        return Manifest(descriptor=descriptor, body=body)

    def _note(self, key: BlobKey, manifest: Manifest) -> None:
        """Tell what it needs, and remember how large that is."""
        needed = self._note_sizes(manifest)
        if needed is not None:
            self.came(key, (one.digest for one in (*needed.manifests, *needed.blobs)))

    def _note_sizes(self, manifest: Manifest) -> Children | None:
        """What it needs. Sizes are remembered, since some upstreams send blobs without any,
        and only of a blob known to be large several parts are fetched at once.
        """
        try:
            needed = children(manifest)
        except BadUpstreamAnswer:
            return None  # Served as it is; only this is lost.
        for blob in needed.blobs:
            self._size_hints.put(blob.digest, blob.size)
        return needed


def shared_name(upstream: Upstream, repository: Repository, digest: Digest) -> str:
    """Under which replicas share what the upstream answered."""
    return f"manifest/{upstream.name}/{repository}/{digest}"


def _packed(manifest: Manifest) -> bytes:
    return manifest.descriptor.media_type.encode() + b"\n" + manifest.body


def down(upstream: Upstream) -> bool:
    """Whether an upstream is known not to answer now."""
    return upstream.health().state == "failing"


def unfinishable(upstream: Upstream, repository: Repository) -> UpstreamUnavailable:
    """What to answer for an image that can't be pulled to its end now.

    A client that gets the manifest may be bound to us for the whole image
    (containers/image is), so half an image is worse than none.
    """
    return UpstreamUnavailable(
        f"{upstream.name} can't be reached, and not all of {repository} is held here"
    )
