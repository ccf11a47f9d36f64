"""Somebody else's archive made into what a bundle says of itself, so that it can be
imported like one: OCI layouts (folder or tar) and docker archives. Nobody signed it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.bundles import archive, foreign_docker, foreign_layout
from proxy.bundles.contents import Blob, Contents, Image, Place, Referrer
from proxy.bundles.foreign_files import Files, FolderFiles, TarFiles
from proxy.bundles.foreign_found import Found, FoundBlob, FoundImage
from proxy.bundles.reader import Opened
from proxy.bundles.reader_media import Medium
from proxy.errors import BadBundle, InvalidRequest
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag

Named = Callable[[str], tuple[str, str, str | None]]
"""Upstream, repository and tag (None: by digest) of an image's full name. May raise."""

_TAG_ALONE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"\x28\xb5": "zstd -d", b"\xfd7": "unxz", b"BZ": "bunzip2"}


def open_foreign(
    paths: Sequence[Path], named: Named, *, name: str | None, created: float
) -> list[Opened]:
    """What is there; more than one where images differ in their platforms.

    name: what to call an image that has no name, or the only one that there is.
    created: what counts as the time it was made. Raises `BadBundle` and what `named` does.
    """
    found, where = _found(paths)
    by_platforms: dict[frozenset[str] | None, list[FoundImage]] = {}
    for image in found.images:
        if image.subject is None:
            by_platforms.setdefault(image.platforms, []).append(image)
    names = _Names(named, name, alone=sum(map(len, by_platforms.values())) == 1)
    opened = []
    for platforms, images in by_platforms.items():
        contents = _contents(found, [(names.image(one), one) for one in images], platforms, created)
        digests = (blob.descriptor.digest for blob in contents.blobs)
        opened.append(
            Opened(
                name=where,
                contents=contents,
                body=contents.encode(),
                signature=None,
                blobs={digest: found.blobs[digest].place for digest in digests},
            )
        )
    return opened


def _found(paths: Sequence[Path]) -> tuple[Found, str]:
    files: Files
    if len(paths) == 1 and paths[0].is_dir():
        files, where = FolderFiles(paths[0]), str(paths[0])
    else:
        medium = Medium(paths)
        where = medium.name
        undo = _COMPRESSED.get(medium.read(0, min(2, medium.size)))
        if undo is not None:
            raise BadBundle(f"{where} is compressed; decompress it first ({undo})")
        files = TarFiles(medium)
    if files.place(archive.CONTENTS) is not None:
        raise BadBundle(f"{where} is a bundle of Entrepot that was damaged or packed anew")
    if foreign_layout.is_layout(files):
        found = foreign_layout.found_in(files)
        if not any(image.names for image in found.images):
            _name_by_docker(files, found)
        return found, where
    if foreign_docker.is_docker_archive(files):
        return foreign_docker.found_in(files), where
    raise BadBundle(f"{where} is no bundle, no OCI layout and no archive of docker save")


def _name_by_docker(files: Files, found: Found) -> None:
    """A layout that `docker save` wrote has its names in docker's own list, too."""
    if foreign_docker.is_docker_archive(files):
        named = foreign_docker.repo_tags(files)
        found.images[:] = [
            FoundImage(root=image.root, closure=image.closure, names=names)
            for image in found.images
            for names in [tuple(t for d in image.closure for t in named.get(d, ()))]
        ]


class _Names:
    def __init__(self, named: Named, name: str | None, *, alone: bool) -> None:
        self._named = named
        self._name = name
        self._alone = alone

    def image(self, found: FoundImage) -> Image:
        upstream, repository, tag = self._named(self._full(found))
        try:
            place = Place(upstream, Repository.parse(repository))
            parsed = None if tag is None else Tag.parse(tag)
        except InvalidRequest as error:
            raise BadBundle(str(error)) from error
        at = f"@{found.root.digest}" if parsed is None else f":{parsed}"
        return Image(
            name=f"{place}{at}", place=place, tag=parsed, descriptor=_descriptor(found.root)
        )

    def _full(self, found: FoundImage) -> str:
        said = next((name for name in found.names if "/" in name or ":" in name), None)
        if self._name is not None and (said is None or self._alone):
            tag = next((name for name in found.names if _TAG_ALONE.fullmatch(name)), None)
            has_tag = ":" in self._name.rpartition("/")[2] or "@" in self._name
            return self._name if has_tag or tag is None else f"{self._name}:{tag}"
        if said is None:
            called = f" (it is called {found.names[0][:100]!r})" if found.names else ""
            raise BadBundle(f"the image {found.root.digest} has no full name{called}: give --name")
        return said


def _contents(
    found: Found,
    images: Sequence[tuple[Image, FoundImage]],
    platforms: frozenset[str] | None,
    created: float,
) -> Contents:
    named = {image.name: (image, one) for image, one in images}
    places: dict[Digest, set[Place]] = {}
    belongs: list[tuple[Image, dict[Digest, None]]] = []
    for image, one in named.values():
        belongs.append((image, dict.fromkeys(one.closure)))
        for digest in one.closure:
            places.setdefault(digest, set()).add(image.place)
    referrers = _referrers(found, belongs, places)
    listed = tuple(image for image, _ in named.values())
    order = ("index", "manifest", "config", "layer")
    blobs = sorted(
        (found.blobs[digest] for digest in places),
        key=lambda blob: (order.index(blob.kind), str(blob.digest)),
    )
    said = "\n".join([*(f"{one.name} {one.descriptor.digest}" for one in listed)])
    return Contents(
        bundle=hashlib.sha256(said.encode()).hexdigest()[:32],
        created=int(created),
        receipts=(),
        bundles=(),
        platforms=None if platforms is None else tuple(sorted(platforms)),
        images=listed,
        referrers=tuple(referrers),
        blobs=tuple(
            Blob(
                kind=blob.kind,
                places=tuple(sorted(places[blob.digest])),
                descriptor=_descriptor(blob),
            )
            for blob in blobs
        ),
        left_out=(),
        index_sha256=archive.sha256_of(archive.index_body(listed)),
        layout_sha256=archive.sha256_of(archive.LAYOUT_BODY),
    )


def _referrers(
    found: Found,
    belongs: Sequence[tuple[Image, dict[Digest, None]]],
    places: dict[Digest, set[Place]],
) -> list[Referrer]:
    """Those of the images, and those of their referrers."""
    listed: dict[tuple[Digest, Place, Digest], Referrer] = {}
    for image, closure in belongs:
        todo = list(closure)
        while todo:
            subject = todo.pop()
            for one in found.images:
                key = (subject, image.place, one.root.digest)
                if one.subject != subject or key in listed:
                    continue
                listed[key] = Referrer(
                    subject=subject,
                    place=image.place,
                    tag=None if one.tag is None else Tag.parse(one.tag),
                    descriptor=_descriptor(one.root),
                    artifact_type=one.artifact_type,
                )
                for digest in one.closure:
                    places.setdefault(digest, set()).add(image.place)
                todo += one.closure
    return list(listed.values())


def _descriptor(blob: FoundBlob) -> Descriptor:
    media_type = blob.media_type or "application/octet-stream"
    return Descriptor(media_type=media_type, digest=blob.digest, size=blob.size)
