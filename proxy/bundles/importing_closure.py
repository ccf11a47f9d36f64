"""Whether the images of a bundle are whole, and what is to be written down of them.

Goes down from every image and referrer by the manifests themselves, which are verified,
and not by what the contents say of them: a repository may serve what its manifests
need and nothing else. Knows of no storage and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from proxy.bundles.contents import Contents, Place
from proxy.cache.closure import Platforms
from proxy.errors import BadBundle, BadUpstreamAnswer, InvalidDigest
from proxy.oci.digest import Digest
from proxy.oci.manifests import (
    DEPTH_MAX,
    INDEX_TYPES,
    MEDIA_TYPES,
    SCHEMA1_TYPES,
    Descriptor,
    Manifest,
    check,
    children,
    json_object,
)

Body = Callable[[Place, Digest], Awaitable[bytes]]
"""The verified bytes of a manifest. Raises `BadBundle` where there is none."""


@dataclass(frozen=True, slots=True)
class Below:
    """What a manifest needs of what is here, and what it says of itself."""

    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]
    said: dict[str, object]


@dataclass(slots=True)
class Brought:
    """What is to be written down, by repository.

    `links`: digests it may serve, manifests with their media type, blobs with an empty
    one. `closures`: by image, all digests, its own first, those of referrers last.
    `referrers`: by subject, descriptors as the referrers API tells them.
    """

    links: dict[Place, dict[Digest, Descriptor]] = field(default_factory=lambda: defaultdict(dict))
    closures: list[tuple[Digest, ...]] = field(default_factory=list)
    referrers: dict[tuple[Place, Digest], list[dict[str, object]]] = field(
        default_factory=lambda: defaultdict(list)
    )


async def walked(contents: Contents, body: Body) -> Brought:
    """All of it. Raises `BadBundle` if something that an image needs is not listed."""
    return await _Walk(contents, body).all()


class _Walk:
    def __init__(self, contents: Contents, body: Body) -> None:
        self._contents = contents
        self._body = body
        self._platforms = (
            Platforms.all() if contents.platforms is None else Platforms.of(contents.platforms)
        )
        self._listed: dict[Digest, frozenset[Place]] = {
            one.descriptor.digest: frozenset(one.places) for one in contents.blobs
        }
        self._listed |= {one.digest: frozenset(one.places) for one in contents.left_out}
        self._known: dict[Digest, Below] = {}
        self._brought = Brought()

    async def all(self) -> Brought:
        referring: dict[tuple[Place, Digest], list[Digest]] = defaultdict(list)
        for one in self._contents.referrers:
            closure = await self._down(one.place, one.descriptor, referrer=True)
            referring[one.place, one.subject] += closure
            if one.tag is None:
                below = self._known[one.descriptor.digest]
                said = _referrer(one.descriptor, below.said)
                self._brought.referrers[one.place, one.subject].append(said)
        for image in self._contents.images:
            closure = await self._down(image.place, image.descriptor, referrer=False)
            todo = list(closure)
            while todo:
                for digest in referring.get((image.place, todo.pop()), ()):
                    if digest not in closure:
                        closure[digest] = None
                        todo.append(digest)
            self._brought.closures.append(tuple(closure))
        return self._brought

    async def _down(self, place: Place, root: Descriptor, *, referrer: bool) -> dict[Digest, None]:
        links = self._brought.links[place]
        closure: dict[Digest, None] = {}
        todo = [(root, 0, "an image")]
        while todo:
            descriptor, depth, needed_by = todo.pop()
            digest = descriptor.digest
            if digest in closure:
                continue
            if place not in self._listed.get(digest, ()):
                raise BadBundle(f"the bundle lacks {digest}, which {needed_by} of {place} needs")
            if depth > DEPTH_MAX:
                raise BadBundle("the bundle has indexes that nest too deep")
            closure[digest] = None
            below = await self._below(place, descriptor, needed_by, referrer=referrer)
            links[digest] = descriptor
            todo += [(child, depth + 1, str(digest)) for child in reversed(below.manifests)]
            for blob in below.blobs:
                if place not in self._listed.get(blob.digest, ()):
                    raise BadBundle(
                        f"the bundle lacks {blob.digest}, which {digest} of {place} needs"
                    )
                closure[blob.digest] = None
                opaque = Descriptor(media_type="", digest=blob.digest, size=blob.size)
                links.setdefault(blob.digest, opaque)
        return closure

    async def _below(
        self, place: Place, descriptor: Descriptor, needed_by: str, *, referrer: bool
    ) -> Below:
        digest = descriptor.digest
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = await self._read(place, descriptor, needed_by)
        if referrer or descriptor.media_type not in INDEX_TYPES or self._platforms.wanted is None:
            return known
        chosen = self._platforms.chosen(await self._body(place, digest))
        here = [
            child
            for child in known.manifests
            if child.digest in chosen or place in self._listed.get(child.digest, ())
        ]
        return Below(tuple(here), known.blobs, known.said)

    async def _read(self, place: Place, descriptor: Descriptor, needed_by: str) -> Below:
        digest, media_type = descriptor.digest, descriptor.media_type
        if media_type not in MEDIA_TYPES or media_type in SCHEMA1_TYPES:
            raise BadBundle(f"{digest}, which {needed_by} needs, is no manifest that can be kept")
        body = await self._body(place, digest)
        try:
            check(media_type, body)
            below = children(Manifest(descriptor=descriptor, body=body))
            said = json_object(body, "the manifest")
        except (BadUpstreamAnswer, InvalidDigest) as error:
            raise BadBundle(f"{digest} of {place}: {error}") from error
        few = {"annotations": said.get("annotations"), "artifactType": below.artifact_type}
        return Below(below.manifests, below.blobs, few)


def _referrer(descriptor: Descriptor, said: dict[str, object]) -> dict[str, object]:
    """As the referrers API lists it (distribution-spec, "Listing Referrers")."""
    document: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    for field_, kind in (("artifactType", str), ("annotations", dict)):
        if isinstance(said[field_], kind) and said[field_]:
            document[field_] = said[field_]
    return document


def digests(closures: Iterable[tuple[Digest, ...]]) -> frozenset[Digest]:
    """All of them."""
    return frozenset(digest for closure in closures for digest in closure)
