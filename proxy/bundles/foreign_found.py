"""What was found in somebody else's archive, before it has names here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from proxy.bundles.reader_media import Spans
from proxy.oci.digest import Digest

Kind = Literal["index", "manifest", "config", "layer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBlob:
    """Some content and where it is. Of manifests alone the digest was verified."""

    digest: Digest
    size: int
    media_type: str
    kind: Kind
    place: Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """A manifest or index with all that it needs, itself first.

    `names` as the archive calls it, most telling first. `subject`: it is a signature or
    the like, of that digest; `tag`: by which it is found if it says no subject itself.
    `platforms` of an index that are here, None for all.
    """

    root: FoundBlob
    closure: tuple[Digest, ...]
    names: tuple[str, ...] = ()
    subject: Digest | None = None
    tag: str | None = None
    artifact_type: str | None = None
    platforms: frozenset[str] | None = None


@dataclass(slots=True)
class Found:
    """All of an archive."""

    images: list[FoundImage] = field(default_factory=list)
    blobs: dict[Digest, FoundBlob] = field(default_factory=dict)
