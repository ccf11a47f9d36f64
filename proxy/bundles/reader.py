"""A bundle as it was carried here: opened, and found to be exactly what it says.

The contents tell every byte of the archive outside the blobs, so each of them is
compared; nothing is parsed that a forger could have written, except the contents
themselves, behind their signature. The bytes of blobs are verified by whoever keeps
them, since they are read only once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.bundles import archive, signing
from proxy.bundles.contents import Contents
from proxy.bundles.contents_reading import decode
from proxy.bundles.foreign_files import Files, FolderFiles
from proxy.bundles.reader_media import Medium, Spans, read, size_of
from proxy.errors import BadBundle
from proxy.oci.digest import Digest

if TYPE_CHECKING:
    from proxy.bundles.keys import PublicKey

CONTENTS_BYTES_MAX = 32 * 1024 * 1024
"""Enough for 100,000 blobs, and little enough to be held in memory."""

_BODY_AT = slice(124, 136)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A bundle with where its blobs are; `signature` is None for a foreign archive."""

    name: str
    contents: Contents
    body: bytes
    signature: bytes | None
    blobs: dict[Digest, Spans]


def is_bundle(path: Path) -> bool:
    """Whether it begins as one of ours. Raises `BadBundle` if it can't be read."""
    if path.is_dir():
        return FolderFiles(path).place(archive.CONTENTS) is not None
    start = _member(archive.OCI_LAYOUT, archive.LAYOUT_BODY)
    medium = Medium([path])
    # A part may be shorter than that.
    return medium.size > 0 and start.startswith(medium.read(0, min(len(start), medium.size)))


def open_bundle(paths: Sequence[Path], keys: Iterable[PublicKey] | None) -> Opened:
    """A bundle in a file, in parts of one, or in a folder.

    keys: those to believe; None leaves the signature to others. Raises `BadBundle`,
    also for a bundle that nobody signed if there are keys.
    """
    if len(paths) == 1 and paths[0].is_dir():
        return _from_folder(paths[0], keys)
    return _from_archive(Medium(paths), keys)


def check_signed(signature: bytes, contents: bytes, keys: Iterable[PublicKey] | None) -> None:
    """Raises `BadBundle` unless one of `keys` signed; None: unless the checksum is right."""
    if keys is None:
        if signing.read(signature).sha256 != archive.sha256_of(contents):
            raise BadBundle("the bundle is damaged: its contents are not those it was made with")
    elif signing.verify(signature, contents, keys) is None:
        raise BadBundle("the bundle is not signed")


def _from_archive(medium: Medium, keys: Iterable[PublicKey] | None) -> Opened:
    start = _member(archive.OCI_LAYOUT, archive.LAYOUT_BODY)
    if medium.read(0, len(start)) != start:
        raise _damaged(medium.name)
    body, at = _next(medium, len(start), archive.CONTENTS, CONTENTS_BYTES_MAX)
    signature, _ = _next(medium, at, archive.SIGNATURE, signing.SIGNATURE_BYTES_MAX)
    check_signed(signature, body, keys)
    contents = decode(body)
    _check_front(contents)
    blobs: dict[Digest, Spans] = {}
    end = 0
    for member in archive.members(contents, body, signature):
        if medium.read(member.at, len(member.header)) != member.header:
            raise _damaged(medium.name)
        place = medium.place(member.body_at, member.size)
        if member.body is not None and medium.read(member.body_at, member.size) != member.body:
            raise _damaged(medium.name)
        if any(medium.read(member.body_end, member.end - member.body_end)):
            raise _damaged(medium.name)
        if member.digest is not None:
            blobs[member.digest] = place
        end = member.end
    if medium.read(end, len(archive.END)) != archive.END:
        raise _damaged(medium.name)
    if medium.size != end + len(archive.END):
        raise BadBundle(f"{medium.name} goes on behind the bundle's end")
    return Opened(name=medium.name, contents=contents, body=body, signature=signature, blobs=blobs)


def _from_folder(root: Path, keys: Iterable[PublicKey] | None) -> Opened:
    files = FolderFiles(root)
    body = _file(files, archive.CONTENTS, CONTENTS_BYTES_MAX)
    signature = _file(files, archive.SIGNATURE, signing.SIGNATURE_BYTES_MAX)
    check_signed(signature, body, keys)
    contents = decode(body)
    _check_front(contents)
    for name, expected in archive.front(contents, body, signature):
        if _file(files, name, len(expected)) != expected:
            raise _damaged(str(root))
    blobs: dict[Digest, Spans] = {}
    for blob in contents.blobs:
        digest = blob.descriptor.digest
        place = files.place(archive.blob_name(digest))
        if place is None or size_of(place) != blob.descriptor.size:
            raise BadBundle(f"{root} lacks {digest}, or some of it")
        blobs[digest] = place
    return Opened(name=str(root), contents=contents, body=body, signature=signature, blobs=blobs)


def _check_front(contents: Contents) -> None:
    hashes = (archive.sha256_of(archive.LAYOUT_BODY), contents.layout_sha256)
    index = (archive.sha256_of(archive.index_body(contents.images)), contents.index_sha256)
    for is_, said in (hashes, index):
        if is_ != said:
            raise BadBundle("the bundle's contents are not about the bundle that they are in")


def _next(medium: Medium, at: int, name: str, size_max: int) -> tuple[bytes, int]:
    """The bytes of the member at an offset, which must be called `name`; where it ends."""
    block = medium.read(at, archive.BLOCK)
    with contextlib.suppress(ValueError):
        size = int(block[_BODY_AT].strip(b" \0"), 8)
        if 0 <= size <= size_max and archive.header(name, size) == block:
            end = at + archive.BLOCK + size
            return medium.read(at + archive.BLOCK, size), end + -size % archive.BLOCK
    raise _damaged(medium.name)


def _file(files: Files, name: str, size_max: int) -> bytes:
    place = files.place(name)
    if place is None:
        raise BadBundle(f"the bundle lacks {name}")
    return read(place, bytes_max=size_max, what=name)


def _member(name: str, body: bytes) -> bytes:
    return archive.header(name, len(body)) + body + bytes(-len(body) % archive.BLOCK)


def _damaged(name: str) -> BadBundle:
    return BadBundle(f"{name} is damaged, or is no bundle of Entrepot")
