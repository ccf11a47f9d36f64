"""Images of upstreams that are not to be dialled: what is here, whatever its age.

Nothing is old here, since nobody can say so: no mark, no question, no count as stale.
Only an image whose pull can be finished is given out; which part of another one is
missing is said. Of an index one image is enough, since nobody needs them all.
"""

from __future__ import annotations

from proxy.cache.facts import Facts
from proxy.cache.manifests import ManifestCache, Served
from proxy.errors import UpstreamOffline
from proxy.oci.digest import Digest
from proxy.oci.manifests import INDEX_TYPES, Descriptor
from proxy.oci.names import Reference, Repository, Tag
from proxy.ports import Upstream

# A tag may be moved by another replica that takes a bundle in.
LOOK_EVERY_S = 10.0


class OfflineImages:
    """Answers from what is held. Raises `UpstreamOffline`."""

    def __init__(self, *, manifests: ManifestCache, facts: Facts) -> None:
        self._manifests = manifests
        self._facts = facts

    async def serve(
        self, upstream: Upstream, repository: Repository, reference: Reference
    ) -> Served:
        """The manifest by tag or by digest."""
        name = _name(upstream, repository, reference)
        if isinstance(reference, Digest):
            return await self.whole(upstream, repository, reference, name)
        record = await self._facts.latest_tag(upstream, repository, reference)
        if record is None:
            raise UpstreamOffline(f"{name} is not here")
        try:
            return await self.whole(upstream, repository, record.current.digest, name)
        except UpstreamOffline:
            if record.previous is None:
                raise
            served = await self._previous(upstream, repository, record.previous, name)
            if served is None:
                raise
            return served

    async def whole(
        self, upstream: Upstream, repository: Repository, digest: Digest, name: str
    ) -> Served:
        """The manifest of that digest, if a pull of it can be finished; `name` is for words."""
        held = await self._manifests.held(upstream, repository, digest)
        if held is None:
            raise UpstreamOffline(f"{name} is not here")
        if await self._manifests.complete(upstream, repository, held):
            return Served(held.descriptor, held, "hit")
        if held.descriptor.media_type in INDEX_TYPES:
            raise UpstreamOffline(f"of {name} the index is here, but none of its images is whole")
        lacking, all_ = await self._manifests.lacking(upstream, repository, held)
        raise UpstreamOffline(f"of {name} {lacking} of {all_} layers and configs are not here")

    async def _previous(
        self, upstream: Upstream, repository: Repository, previous: Descriptor, name: str
    ) -> Served | None:
        try:
            served = await self.whole(upstream, repository, previous.digest, name)
        except UpstreamOffline:
            return None
        warning = "not all of the tag's image is here; this is the previous one"
        return Served(served.descriptor, served.manifest, "stale", warning)


def _name(upstream: Upstream, repository: Repository, reference: Reference) -> str:
    mark = ":" if isinstance(reference, Tag) else "@"
    return f"{upstream.name}/{repository}{mark}{reference}"
