"""What a bundle is and has: the values behind `entrepot/contents.json`.

Pure. The package's docstring has the format, `contents_reading.py` the way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from proxy.bundles.canonical import encoded
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag

VERSION = 1

Kind = Literal["index", "manifest", "config", "layer"]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A repository of an upstream; as text `docker.io/library/alpine`."""

    upstream: str
    repository: Repository

    def __str__(self) -> str:
        return f"{self.upstream}/{self.repository}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What was asked for: a name, and what it named when the bundle was planned."""

    name: str
    place: Place
    tag: Tag | None
    descriptor: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Referrer:
    """What refers to something here. `tag`: found by that tag (cosign's), else by the API."""

    subject: Digest
    place: Place
    tag: Tag | None
    descriptor: Descriptor
    artifact_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes in the bundle, and the repositories that they belong to."""

    descriptor: Descriptor
    kind: Kind
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What belongs to the images and is not in the bundle; `size` in bytes."""

    digest: Digest
    size: int
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All of it. `created`: seconds since the epoch. `platforms`: None for all.

    `receipts` and `bundles`: ids of what it builds on; empty for a full bundle.
    `index_sha256`, `layout_sha256`: of the members `index.json` and `oci-layout`.
    """

    bundle: str
    created: int
    receipts: tuple[str, ...]
    bundles: tuple[str, ...]
    platforms: tuple[str, ...] | None
    images: tuple[Image, ...]
    referrers: tuple[Referrer, ...]
    blobs: tuple[Blob, ...]
    left_out: tuple[LeftOut, ...]
    index_sha256: str
    layout_sha256: str

    def encode(self) -> bytes:
        """The bytes of `entrepot/contents.json`."""
        places = sorted(set(self._places()))
        numbers = {place: at for at, place in enumerate(places)}

        def of(many: Iterable[Place]) -> list[int]:
            return sorted(numbers[one] for one in many)

        return encoded(
            {
                "v": VERSION,
                "bundle": self.bundle,
                "created": self.created,
                "base": {"bundles": list(self.bundles), "receipts": list(self.receipts)},
                "platforms": None if self.platforms is None else list(self.platforms),
                "repositories": [str(place) for place in places],
                "images": [
                    {
                        "name": one.name,
                        "repository": numbers[one.place],
                        "tag": one.tag,
                        **_described(one.descriptor),
                    }
                    for one in self.images
                ],
                "referrers": [
                    {
                        "subject": str(one.subject),
                        "repository": numbers[one.place],
                        "tag": one.tag,
                        "artifact_type": one.artifact_type,
                        **_described(one.descriptor),
                    }
                    for one in self.referrers
                ],
                "blobs": [
                    {
                        "kind": one.kind,
                        "repositories": of(one.places),
                        **_described(one.descriptor),
                    }
                    for one in self.blobs
                ],
                "left_out": [[str(one.digest), one.size, of(one.places)] for one in self.left_out],
                "sha256": {"index.json": self.index_sha256, "oci-layout": self.layout_sha256},
            }
        )

    def _places(self) -> Iterator[Place]:
        yield from (one.place for one in self.images)
        yield from (one.place for one in self.referrers)
        yield from (place for one in self.blobs for place in one.places)
        yield from (place for one in self.left_out for place in one.places)


def _described(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "digest": str(descriptor.digest),
        "media_type": descriptor.media_type,
        "size": descriptor.size,
    }
