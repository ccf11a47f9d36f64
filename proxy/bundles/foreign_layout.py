"""Images in an OCI image layout that somebody else wrote: skopeo, podman, buildx, ORAS.

Manifests are read and verified here; of layers only that they are there and as long as
their manifest says, since whoever stores them verifies them. An index of which not all
images were copied counts as one of those platforms that were.

Source: image-spec `image-layout.md`; names: containerd's and containers/image's annotations.
"""

from __future__ import annotations

from proxy.bundles.foreign_files import JSON_MAX, Files, json_of
from proxy.bundles.foreign_found import Found, FoundBlob, FoundImage, Kind
from proxy.bundles.reader_media import read, size_of
from proxy.cache.platforms import index_entries
from proxy.errors import BadBundle, BadUpstreamAnswer, InvalidDigest
from proxy.oci.digest import Digest
from proxy.oci.listings import subject_of
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

_IMAGES_MAX = 10_000
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


def is_layout(files: Files) -> bool:
    """Whether it says that it is one. Raises `BadBundle`."""
    said = json_of(files, "oci-layout")
    return isinstance(said, dict) and str(said.get("imageLayoutVersion", "")).startswith("1.")


def found_in(files: Files) -> Found:
    """All images of the layout. Raises `BadBundle`."""
    index = json_of(files, "index.json")
    entries = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= _IMAGES_MAX:
        raise BadBundle("index.json of the layout names no images")
    found = Found()
    walk = _Walk(files, found)
    for entry in entries:
        if not isinstance(entry, dict):
            raise BadBundle("index.json of the layout has something that is no descriptor")
        descriptor = _descriptor(entry)
        annotations = entry.get("annotations")
        said = annotations if isinstance(annotations, dict) else {}
        names = tuple(str(said[name]) for name in _NAMES if isinstance(said.get(name), str))
        found.images.append(walk.image(descriptor, names))
    return found


class _Walk:
    """Goes down from manifests. Raises `BadBundle`."""

    def __init__(self, files: Files, found: Found) -> None:
        self._files = files
        self._found = found
        self._below: dict[Digest, tuple[Digest, ...]] = {}
        self._sparse: dict[Digest, frozenset[str]] = {}

    def image(self, descriptor: Descriptor, names: tuple[str, ...]) -> FoundImage:
        """One image with all that it needs."""
        root = self._manifest(descriptor, 0)
        if root is None:
            raise BadBundle(f"the layout lacks the manifest {descriptor.digest}")
        body = read(root.place, bytes_max=JSON_MAX, what=str(root.digest))
        try:
            below = children(_as_manifest(root, body))
        except BadUpstreamAnswer as error:
            raise BadBundle(f"{root.digest}: {error}") from error
        tag = next((name for name in names if subject_of(name) is not None), None)
        return FoundImage(
            root=root,
            closure=self._closure(root.digest),
            names=() if tag is not None else names,
            subject=below.subject or (None if tag is None else subject_of(tag)),
            tag=tag,
            artifact_type=below.artifact_type,
            platforms=self._sparse.get(root.digest),
        )

    def _closure(self, root: Digest) -> tuple[Digest, ...]:
        seen: dict[Digest, None] = {}
        todo = [root]
        while todo:
            digest = todo.pop()
            if digest not in seen:
                seen[digest] = None
                todo += reversed(self._below.get(digest, ()))
        return tuple(seen)

    def _manifest(self, descriptor: Descriptor, depth: int) -> FoundBlob | None:
        """It and all below; None if it is not here."""
        digest = descriptor.digest
        if digest in self._below:
            return self._found.blobs[digest]
        if depth > DEPTH_MAX:
            raise BadBundle("the layout has indexes that nest too deep")
        place = self._files.place(f"blobs/{digest.algorithm}/{digest.hex}")
        if place is None:
            return None
        body = read(place, bytes_max=JSON_MAX, what=f"the manifest {digest}")
        if not digest.matches(body):
            raise BadBundle(f"the layout has other bytes than {digest}")
        media_type = _media_type(descriptor, body)
        is_index = media_type in INDEX_TYPES
        blob = FoundBlob(
            digest=digest,
            size=len(body),
            media_type=media_type,
            kind="index" if is_index else "manifest",
            place=place,
        )
        try:
            check(media_type, body)
            below = children(_as_manifest(blob, body))
        except BadUpstreamAnswer as error:
            raise BadBundle(f"{digest}: {error}") from error
        self._found.blobs[digest] = blob
        self._below[digest] = ()
        needed = [child for child in below.manifests if self._manifest(child, depth + 1)]
        if len(needed) < len(below.manifests):
            if not needed:
                raise BadBundle(f"the layout lacks all images of the index {digest}")
            self._sparse[digest] = _platforms(body, {child.digest for child in needed})
        config = json_object(body, "the manifest").get("config")
        own = config.get("digest") if isinstance(config, dict) else None
        for child in below.blobs:
            self._blob(child, "config" if str(child.digest) == own else "layer", digest)
        self._below[digest] = tuple(one.digest for one in (*needed, *below.blobs))
        return blob

    def _blob(self, descriptor: Descriptor, kind: Kind, needed_by: Digest) -> None:
        digest = descriptor.digest
        place = self._files.place(f"blobs/{digest.algorithm}/{digest.hex}")
        if place is None:
            raise BadBundle(f"the layout lacks {digest}, which {needed_by} needs")
        if size_of(place) != descriptor.size:
            raise BadBundle(f"{digest} is not as long as {needed_by} says")
        self._found.blobs.setdefault(
            digest,
            FoundBlob(
                digest=digest,
                size=descriptor.size,
                media_type=descriptor.media_type,
                kind=kind,
                place=place,
            ),
        )


def _as_manifest(blob: FoundBlob, body: bytes) -> Manifest:
    descriptor = Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size)
    return Manifest(descriptor=descriptor, body=body)


def _descriptor(entry: dict[str, object]) -> Descriptor:
    try:
        digest = Digest.parse(str(entry.get("digest")))
    except InvalidDigest as error:
        raise BadBundle(f"index.json of the layout: {error}") from error
    return Descriptor(media_type=str(entry.get("mediaType", "")), digest=digest, size=0)


def _media_type(descriptor: Descriptor, body: bytes) -> str:
    """As it says itself, else as it is called."""
    try:
        said = json_object(body, "the manifest").get("mediaType")
    except BadUpstreamAnswer as error:
        raise BadBundle(f"{descriptor.digest}: {error}") from error
    media_type = said if isinstance(said, str) else descriptor.media_type
    if media_type not in MEDIA_TYPES or media_type in SCHEMA1_TYPES:
        raise BadBundle(
            f"{descriptor.digest} is of a kind that can't be kept: {media_type[:100]!r}"
        )
    return media_type


def _platforms(index: bytes, here: set[Digest]) -> frozenset[str]:
    """Those of the images that are here. Raises `BadBundle`."""
    try:
        return frozenset(
            platform
            for digest, platform, subject in index_entries(index)
            if digest in here and platform and subject is None
        )
    except InvalidDigest as error:
        raise BadBundle(f"an index of the layout: {error}") from error
