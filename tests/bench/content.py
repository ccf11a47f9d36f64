"""Makes the image that every system is asked for.

Random bytes, so that nothing on the way can compress or share them; made
anew for each run of the bench, so that no cache can know them already.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = "bench/image"
TAG = "latest"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of content; `path` is its file, `size` in bytes."""

    path: str
    digest: str
    size: int
    media_type: str

    @property
    def url(self) -> str:
        """Its path at a registry, below `/v2` or a prefix of it."""
        kind = "manifests" if self.media_type == MANIFEST_TYPE else "blobs"
        return f"{REPOSITORY}/{kind}/{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The image: `crowd` and `single` are the two large blobs, `small` the 10 KB one."""

    crowd: Item
    single: Item
    small: Item
    manifest: Item

    def items(self) -> tuple[Item, ...]:
        return (self.crowd, self.single, self.small, self.manifest)


def make_image(folder: Path, *, blob_bytes: int, small_bytes: int) -> Image:
    """Write an image's content into `folder`, and a `catalog.json` that names it."""
    crowd = _blob(folder / "crowd", blob_bytes)
    single = _blob(folder / "single", blob_bytes)
    small = _blob(folder / "small", small_bytes, _CONFIG_TYPE)
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(small),
            "layers": [_descriptor(crowd), _descriptor(single)],
        },
        indent=2,
    ).encode()
    path = folder / "manifest"
    path.write_bytes(body)
    manifest = Item(str(path), _digest(body), len(body), MANIFEST_TYPE)
    image = Image(crowd=crowd, single=single, small=small, manifest=manifest)
    (folder / "catalog.json").write_text(json.dumps([asdict(item) for item in image.items()]))
    return image


def read_catalog(folder: Path) -> list[Item]:
    """What `make_image` wrote; for the upstream, which is another process."""
    return [Item(**fields) for fields in json.loads((folder / "catalog.json").read_text())]


def _blob(path: Path, size: int, media_type: str = _LAYER_TYPE) -> Item:
    digest = hashlib.sha256()
    left = size
    with path.open("wb") as file:
        while left:
            piece = os.urandom(min(left, _PIECE_BYTES))
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
    return Item(str(path), f"sha256:{digest.hexdigest()}", size, media_type)


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _descriptor(item: Item) -> dict[str, str | int]:
    return {"mediaType": item.media_type, "digest": item.digest, "size": item.size}
