"""Manifests as bytes with a type, and the few fields of them that matter here.

A manifest is never re-serialised: its bytes are its identity. Parsing serves
two questions only: "what else is needed to finish this pull?" (`children`) and
"is this a manifest at all?" (`check`).

Sources: image-spec `manifest.md`, `image-index.md`; Docker "image manifest
v2.2"; limits of the clients as measured in containerd, containers/image, ORAS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.errors import BadUpstreamAnswer, InvalidDigest
from proxy.oci.digest import Digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

MEDIA_TYPES = (
    OCI_INDEX,
    OCI_MANIFEST,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT,
    DOCKER_SCHEMA1_SIGNED,
    DOCKER_SCHEMA1,
)
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
# Their digest is over the signed payload, not over the body: they can be passed
# through but neither verified nor kept.
SCHEMA1_TYPES = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})

DEPTH_MAX = 8
"""What nests deeper is no image; so whoever goes down into one comes to an end."""

# Layers that stay with their vendor (`urls`), in Docker's word and in OCI's.
_NOT_DISTRIBUTED = ("rootfs.foreign.", "layer.nondistributable.")

_REFUSED = re.compile(r"q[ \t]*=[ \t]*0(?:\.0*)?")

# What upstreams are asked with, whatever the client accepts: a tag must resolve
# to the same digest for everyone (distribution downgrades lists otherwise).
ACCEPT_ALL = ", ".join(MEDIA_TYPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What content is, before having it: media type, digest, size in bytes."""

    media_type: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest's exact bytes and what they are."""

    descriptor: Descriptor
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """What a manifest points at.

    `blobs` (config and layers) and `manifests` (of an index) are needed to
    finish a pull; `subject` is not.
    """

    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Digest | None = None
    artifact_type: str | None = None


def media_type_of(content_type: str) -> str:
    """The bare media type of a Content-Type value, parameters cut off."""
    return content_type.partition(";")[0].strip().lower()


def check(media_type: str, body: bytes) -> None:
    """Raise `BadUpstreamAnswer` unless `body` can be a manifest of that type.

    Catches what upstreams and the boxes in front of them really send with a
    200: login pages, empty bodies, error envelopes.
    """
    if media_type not in MEDIA_TYPES:
        raise BadUpstreamAnswer(f"not a manifest media type: {media_type[:100]!r}")
    document = json_object(body, "the manifest")
    declared = document.get("mediaType")
    if declared is not None and declared != media_type:
        raise BadUpstreamAnswer(
            f"manifest says it is {str(declared)[:100]!r}, was sent as {media_type!r}"
        )
    if "errors" in document and "schemaVersion" not in document:
        raise BadUpstreamAnswer("an error envelope was sent in place of a manifest")


def children(manifest: Manifest) -> Children:
    """What `manifest` needs; raises `BadUpstreamAnswer` when it makes no sense.

    Layers that carry `urls` and are not distributable (old Windows base layers)
    live elsewhere by design and are left out.
    """
    document = json_object(manifest.body, "the manifest")
    subject = document.get("subject")
    artifact_type = document.get("artifactType")
    config = document.get("config")
    blobs: list[object] = [config] if isinstance(config, dict) else []
    for field in ("layers", "blobs"):
        blobs += _list(document, field)
    # Empty counts as absent (image-spec, "artifactType" of a referrer).
    if not (artifact_type and isinstance(artifact_type, str)) and isinstance(config, dict):
        artifact_type = config.get("mediaType")
    return Children(
        blobs=tuple(_unique(_descriptors(blobs))),
        manifests=tuple(_unique(_descriptors(_list(document, "manifests")))),
        subject=_descriptor(subject).digest if isinstance(subject, dict) else None,
        artifact_type=artifact_type if artifact_type and isinstance(artifact_type, str) else None,
    )


def accepts(accept: Iterable[str], media_type: str) -> bool:
    """Whether Accept header lines (any number, comma lists allowed) admit a type.

    No Accept at all admits everything; wildcards do too. Quality values other
    than `q=0` are ignored: there is only one representation to offer.
    """
    items = [item for line in accept for item in line.split(",") if item.strip()]
    if not items:
        return True
    major = media_type.partition("/")[0]
    for item in items:
        wanted, *parameters = (part.strip().lower() for part in item.split(";"))
        refused = any(_REFUSED.fullmatch(parameter) for parameter in parameters)
        if not refused and wanted in {media_type, "*/*", f"{major}/*"}:
            return True
    return False


def json_object(body: bytes, what: str) -> dict[str, object]:
    """`body` as a JSON object; else `BadUpstreamAnswer`, calling it `what`."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadUpstreamAnswer(f"{what} is not JSON") from error
    if not isinstance(document, dict):
        raise BadUpstreamAnswer(f"{what} is not a JSON object")
    return document


def _list(document: dict[str, object], field: str) -> list[object]:
    value = document.get(field)
    return value if isinstance(value, list) else []


def _descriptors(items: Iterable[object]) -> Iterator[Descriptor]:
    for item in items:
        if not isinstance(item, dict):
            raise BadUpstreamAnswer("a descriptor in the manifest is not an object")
        media_type = str(item.get("mediaType"))
        if item.get("urls") and any(word in media_type for word in _NOT_DISTRIBUTED):
            continue
        yield _descriptor(item)


def _descriptor(item: dict[str, object]) -> Descriptor:
    digest, size = item.get("digest"), item.get("size", 0)
    # `type`: true and false are ints as well.
    if not isinstance(digest, str) or type(size) is not int or size < 0:
        raise BadUpstreamAnswer("a descriptor in the manifest lacks a digest or has a bad size")
    try:
        parsed = Digest.parse(digest)
    except InvalidDigest as error:
        raise BadUpstreamAnswer(f"the manifest points at a bad digest: {error}") from error
    media_type = item.get("mediaType")
    return Descriptor(
        media_type=media_type if isinstance(media_type, str) else "",
        digest=parsed,
        size=size,
    )


def _unique(descriptors: Iterable[Descriptor]) -> Iterator[Descriptor]:
    seen: set[Digest] = set()
    for descriptor in descriptors:
        if descriptor.digest not in seen:
            seen.add(descriptor.digest)
            yield descriptor
