"""The bundle as a tar archive: which bytes lie where.

Everything follows from the contents: names, order, sizes, so also every header, every
offset and the length of the whole. So a writer that was killed goes on where it was, and
a reader knows each byte outside the blobs beforehand.

Headers are POSIX (pax where a name or a size needs it), and tell nothing of the machine or
the hour: files of user 0, mode 0644, time 0. The end is two empty blocks, without the
padding to a record that tar programs add.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.bundles.canonical import encoded
from proxy.bundles.contents import Contents, Image
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_INDEX, Descriptor

OCI_LAYOUT = "oci-layout"
CONTENTS = "entrepot/contents.json"
SIGNATURE = "entrepot/contents.sig"
INDEX = "index.json"

LAYOUT_BODY = encoded({"imageLayoutVersion": "1.0.0"})
"""The bytes of `oci-layout`."""

BLOCK = 512
END = bytes(2 * BLOCK)

# What skopeo (`oci-archive:FILE:NAME`) and podman go by, and what containerd does.
_NAME_ANNOTATIONS = ("org.opencontainers.image.ref.name", "io.containerd.image.name")


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the archive. All numbers in bytes.

    `body` where it is known beforehand, else the `digest` that it must have. `at`: where
    `header` begins; after it comes the body, then zeros up to the next block.
    """

    name: str
    size: int
    at: int
    header: bytes
    body: bytes | None
    digest: Digest | None

    @property
    def body_at(self) -> int:
        """Where the body begins."""
        return self.at + len(self.header)

    @property
    def body_end(self) -> int:
        """Where it ends."""
        return self.body_at + self.size

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.body_end + -self.size % BLOCK


def index_body(images: Iterable[Image]) -> bytes:
    """The bytes of `index.json`: a descriptor for each image, annotated with its name."""
    manifests = [
        {
            "mediaType": one.descriptor.media_type,
            "digest": str(one.descriptor.digest),
            "size": one.descriptor.size,
            "annotations": dict.fromkeys(_NAME_ANNOTATIONS, one.name),
        }
        for one in images
    ]
    return encoded({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


def sha256_of(body: bytes) -> str:
    """In hex, as the contents tell it of `index.json` and `oci-layout`."""
    return hashlib.sha256(body).hexdigest()


def blob_name(digest: Digest) -> str:
    """Where a blob lies in the layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def front(contents: Contents, contents_body: bytes, signature: bytes) -> list[tuple[str, bytes]]:
    """Names and bytes of what comes before the blobs, in order."""
    return [
        (OCI_LAYOUT, LAYOUT_BODY),
        (CONTENTS, contents_body),
        (SIGNATURE, signature),
        (INDEX, index_body(contents.images)),
    ]


def members(contents: Contents, contents_body: bytes, signature: bytes) -> Iterator[Member]:
    """All of them, in order. The archive ends with `END` behind the last."""
    at = 0
    for name, body in front(contents, contents_body, signature):
        member = Member(name, len(body), at, header(name, len(body)), body, None)
        yield member
        at = member.end
    for blob in contents.blobs:
        member = blob_member(blob.descriptor, at)
        yield member
        at = member.end


def blob_member(descriptor: Descriptor, at: int) -> Member:
    """The member of a blob that begins `at` bytes into the archive."""
    name, size = blob_name(descriptor.digest), descriptor.size
    return Member(name, size, at, header(name, size), None, descriptor.digest)


def header(name: str, size: int) -> bytes:
    """The header blocks of a file."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")


def length(contents: Contents, contents_body: bytes, signature: bytes) -> int:
    """Of the whole archive, in bytes."""
    end = 0
    for member in members(contents, contents_body, signature):
        end = member.end
    return end + len(END)
