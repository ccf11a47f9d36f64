"""Small bundles, made in memory of the images of `tests.support.images`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.bundles import archive, signing
from proxy.bundles.contents import Blob, Contents, LeftOut, Place, Referrer
from proxy.bundles.contents import Image as Named
from proxy.bundles.keys import PrivateKey
from proxy.oci.digest import Digest
from proxy.oci.manifests import INDEX_TYPES, Descriptor
from proxy.oci.names import Repository, Tag
from tests.support.images import Content, Image

# Always the same, so that what is made with them is.
KEY = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER_KEY = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle: what it says, its signature, and the bytes of its blobs."""

    contents: Contents
    body: bytes
    signature: bytes
    blobs: dict[Digest, bytes]

    def tar(self) -> bytes:
        """As an archive."""
        out = bytearray()
        for member in archive.members(self.contents, self.body, self.signature):
            assert len(out) == member.at
            body = self.blobs[member.digest] if member.digest is not None else member.body
            assert body is not None
            out += member.header + body + bytes(-len(body) % archive.BLOCK)
        return bytes(out + archive.END)


def place(name: str) -> Place:
    upstream, _, repository = name.partition("/")
    return Place(upstream, Repository.parse(repository))


def descriptor(content: Content) -> Descriptor:
    return Descriptor(media_type=content.media_type, digest=content.digest, size=content.size)


def bundle(
    images: Mapping[str, Image],
    *,
    referrers: Iterable[tuple[str, Image, str | None]] = (),
    key: PrivateKey | None = KEY,
    created: int = 1_700_000_000,
    bundle_id: str = "0" * 31 + "1",
    platforms: Sequence[str] | None = None,
    without: Iterable[Digest] = (),
    have: Iterable[Digest] = (),
    receipts: Sequence[str] = (),
) -> Made:
    """A bundle of `images` by full name (`lab/app:v1`, `lab/app` by digest).

    referrers: repository, what refers to something (by its `subject`), cosign's tag if it
    has one. `without`: is forgotten; `have`: is left out because the other side has it.
    """
    missing, had = set(without), set(have)
    contents: dict[Digest, tuple[Content, str, set[Place]]] = {}

    def add(where: Place, image: Image) -> None:
        configs = {_config(one) for one in image.manifests}
        for one in (*image.manifests, *image.blobs):
            if one.digest in missing:
                continue
            if one in image.manifests:
                kind = "index" if one.media_type in INDEX_TYPES else "manifest"
            else:
                kind = "config" if str(one.digest) in configs else "layer"
            contents.setdefault(one.digest, (one, kind, set()))[2].add(where)

    named, referring = [], []
    for name, image in images.items():
        whole, _, tag = name.partition(":")
        add(place(whole), image)
        named.append(
            Named(
                name=name if tag else f"{whole}@{image.digest}",
                place=place(whole),
                tag=Tag.parse(tag) if tag else None,
                descriptor=descriptor(image.manifest),
            )
        )
    for name, image, tag in referrers:
        assert image.subject is not None
        add(place(name), image)
        referring.append(
            Referrer(
                subject=image.subject,
                place=place(name),
                tag=None if tag is None else Tag.parse(tag),
                descriptor=descriptor(image.manifest),
                artifact_type=None,
            )
        )
    order = ("index", "manifest", "config", "layer")
    ordered = sorted(contents.values(), key=lambda one: (order.index(one[1]), str(one[0].digest)))
    said = Contents(
        bundle=bundle_id,
        created=created,
        receipts=tuple(receipts),
        bundles=(),
        platforms=None if platforms is None else tuple(platforms),
        images=tuple(named),
        referrers=tuple(referring),
        blobs=tuple(
            Blob(kind=kind, places=tuple(sorted(places)), descriptor=descriptor(one))  # type: ignore[arg-type] # one of the four
            for one, kind, places in ordered
            if one.digest not in had
        ),
        left_out=tuple(
            LeftOut(digest=one.digest, size=one.size, places=tuple(sorted(places)))
            for one, _, places in ordered
            if one.digest in had
        ),
        index_sha256=archive.sha256_of(archive.index_body(named)),
        layout_sha256=archive.sha256_of(archive.LAYOUT_BODY),
    )
    return sealed(said, {one.digest: one.body for one, _, _ in ordered}, key)


def sealed(contents: Contents, blobs: dict[Digest, bytes], key: PrivateKey | None) -> Made:
    """The bundle that says this, signed or not."""
    body = contents.encode()
    return Made(contents, body, signing.signed(body, key), blobs)


def _config(manifest: Content) -> str | None:
    config = json.loads(manifest.body).get("config")
    return config["digest"] if isinstance(config, dict) else None
