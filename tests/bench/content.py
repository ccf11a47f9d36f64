"""Makes the images that every system is asked for.

Random bytes, so that nothing on the way can compress or share them; made
anew for each run of the bench, so that no cache can know them already.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = "bench/image"
TAG = "latest"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_BYTES = 1500
_POOL_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of content; `path` is its file, `size` in bytes."""

    path: str
    digest: str
    size: int
    media_type: str
    repository: str = REPOSITORY

    @property
    def url(self) -> str:
        """Its path at a registry, below `/v2` or a prefix of it."""
        kind = "manifests" if self.media_type == MANIFEST_TYPE else "blobs"
        return f"{self.repository}/{kind}/{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One repository with one tag, `latest`."""

    config: Item
    layers: tuple[Item, ...]
    manifest: Item

    @property
    def tag_url(self) -> str:
        return f"{self.manifest.repository}/manifests/{TAG}"

    @property
    def size(self) -> int:
        """Of all layers together."""
        return sum(layer.size for layer in self.layers)

    def items(self) -> tuple[Item, ...]:
        return (self.config, *self.layers, self.manifest)


Library = dict[str, Image]
"""Images by name; the repository of each is `bench/<name>`."""


def make_library(folder: Path, shapes: Mapping[str, Sequence[int]]) -> Library:
    """Write the images' content into `folder`, and a `catalog.json` that names it.

    `shapes`: the layers' sizes in bytes by the image's name.
    """
    made = {name: _image(folder, name, sizes) for name, sizes in shapes.items()}
    items = [asdict(item) for image in made.values() for item in image.items()]
    (folder / "catalog.json").write_text(json.dumps(items))
    return made


def read_catalog(folder: Path) -> list[Item]:
    """What `make_library` wrote; for the upstream, which is another process."""
    return [Item(**fields) for fields in json.loads((folder / "catalog.json").read_text())]


def _image(folder: Path, name: str, sizes: Sequence[int]) -> Image:
    repository = f"bench/{name}"
    config = _blob(folder / f"{name}.config", _CONFIG_BYTES, _CONFIG_TYPE, repository)
    layers = tuple(
        _blob(folder / f"{name}.{number}", size, _LAYER_TYPE, repository)
        for number, size in enumerate(sizes)
    )
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(config),
            "layers": [_descriptor(layer) for layer in layers],
        },
        indent=2,
    ).encode()
    path = folder / f"{name}.manifest"
    path.write_bytes(body)
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    manifest = Item(str(path), digest, len(body), MANIFEST_TYPE, repository)
    return Image(config=config, layers=layers, manifest=manifest)


def _blob(path: Path, size: int, media_type: str, repository: str) -> Item:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in _random(size):
            file.write(piece)
            digest.update(piece)
    return Item(str(path), f"sha256:{digest.hexdigest()}", size, media_type, repository)


def _random(size: int) -> Iterator[bytes]:
    """One random pool, rotated and stamped for each piece: gigabytes in a second."""
    pool = os.urandom(min(size, _POOL_BYTES))
    left, turn = size, 0
    while left:
        piece = (turn.to_bytes(8, "big") + pool[turn:] + pool[:turn])[: min(left, len(pool))]
        yield piece
        left -= len(piece)
        turn = (turn + 4093) % len(pool)


def _descriptor(item: Item) -> dict[str, str | int]:
    return {"mediaType": item.media_type, "digest": item.digest, "size": item.size}
