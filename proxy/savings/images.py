"""Which image a manifest or blob belongs to.

A client asks for an image by tag and for everything else by digest, so what a manifest
names is remembered as its image's. A layer that two tags of a repository share belongs
to the one pulled last. The memory is bounded: of what it forgot, only the repository
is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.cache.lru import Lru
from proxy.errors import BadUpstreamAnswer
from proxy.oci.digest import Digest
from proxy.oci.manifests import Manifest, children
from proxy.oci.names import Reference, Repository, Tag

_DIGESTS_MAX = 8192

Spell = Callable[[str, Repository, Reference], str]
_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Place:
    """`top`: a pull may begin here. `told`: what it names is remembered, too."""

    image: str
    top: bool
    told: bool = False


class Images:
    """Learns from what is served. `spell(upstream, repository, reference)` names an image."""

    def __init__(self, spell: Spell, *, digests_max: int = _DIGESTS_MAX) -> None:
        self._spell = spell
        self._places: Lru[_Key, _Place] = Lru(digests_max)

    def manifest(
        self,
        upstream: str,
        repository: Repository,
        reference: Reference,
        digest: Digest,
        manifest: Manifest | None,
    ) -> tuple[str, bool]:
        """The image that is asked for, and whether a pull of it begins here."""
        key = (upstream, repository, str(digest))
        place = self._places.get(key)
        if not isinstance(reference, Digest) or place is None:
            image = self._spell(upstream, repository, reference)
            if place is None or place.image != image or not place.top:
                place = _Place(image, top=True)
                self._places.put(key, place)
        if manifest is not None and not place.told:
            place.told = True
            self._tell(upstream, repository, place.image, manifest)
        return place.image, place.top

    def blob(self, upstream: str, repository: str, digest: str) -> str:
        """The image of a blob, or else its repository."""
        place = self._places.get((upstream, repository, digest))
        return f"{upstream}/{repository}" if place is None else place.image

    def fetched(self, upstream: str, repository: str, reference: str) -> str | None:
        """The image of a manifest that was fetched, None if that will only be known once
        it was served.
        """
        if ":" not in reference:
            return self._spell(upstream, Repository(repository), Tag(reference))
        place = self._places.get((upstream, repository, reference))
        return None if place is None else place.image

    def _tell(self, upstream: str, repository: str, image: str, manifest: Manifest) -> None:
        try:
            needed = children(manifest)
        except BadUpstreamAnswer:
            return  # Served as it is.
        for one in (*needed.manifests, *needed.blobs):
            key = (upstream, repository, str(one.digest))
            place = self._places.get(key)
            if place is None or place.image != image or place.top:
                self._places.put(key, _Place(image, top=False))
