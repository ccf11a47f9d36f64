"""What the replicas are asked for: large blobs, many small images, a trace's blobs.

Random bytes, made anew for each run, so that no cache can know them. Half of an
image's layers are other images' too; the trace's sizes and popularity are those
of a production registry, without its largest blobs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.content import MANIFEST_TYPE

_PIECE_BYTES = 8 << 20
LARGE = "bench/large"
TRACE = "bench/trace"
# The trace's sizes: share of blobs, least and most bytes (log-uniform between).
_TRACE_SIZES = (
    (0.51, 300, 10_000),
    (0.14, 10_000, 1_000_000),
    (0.16, 1_000_000, 10_000_000),
    (0.19, 10_000_000, 14_000_000),
)


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob in a file of its own; `path` is its URL path below `/v2/`."""

    repository: str
    file: str
    digest: str
    size: int

    @property
    def path(self) -> str:
        return f"{self.repository}/blobs/{self.digest}"


@dataclass(frozen=True, slots=True)
class SmallImage:
    """`blobs`: config first, then layers; each served under `repository`."""

    repository: str
    manifest: Blob
    blobs: tuple[Blob, ...]


@dataclass(slots=True)
class Library:
    """Everything, by part of the bench."""

    large: dict[str, Blob] = field(default_factory=dict)
    images: list[SmallImage] = field(default_factory=list)
    trace: list[Blob] = field(default_factory=list)

    def unique_bytes(self) -> int:
        """Bytes of the images' distinct blobs and manifests."""
        sizes = {blob.digest: blob.size for image in self.images for blob in image.blobs}
        return sum(sizes.values()) + sum(image.manifest.size for image in self.images)

    def routes(self) -> dict[str, tuple[Blob, str]]:
        """URL path at the upstream -> what it is and its media type."""
        plain = "application/octet-stream"
        found = {f"/v2/{b.path}": (b, plain) for b in (*self.large.values(), *self.trace)}
        for image in self.images:
            for name in ("latest", image.manifest.digest):
                path = f"/v2/{image.repository}/manifests/{name}"
                found[path] = (image.manifest, MANIFEST_TYPE)
            found |= {f"/v2/{blob.path}": (blob, plain) for blob in image.blobs}
        return found


def make_library(
    folder: Path, *, large: dict[str, int], images: int, trace: int, seed: int
) -> Library:
    """Write it into `folder`. `large`: names and sizes in bytes."""
    chance = random.Random(seed)
    library = Library()
    for name, size in large.items():
        library.large[name] = _blob(LARGE, folder / name, size)
    for number in range(trace):
        size = _between(chance, *_trace_size((number + 0.5) / trace))
        library.trace.append(_blob(TRACE, folder / f"trace-{number}", size))
    pool = [
        _blob("", folder / f"shared-{number}", _between(chance, 20_000, 400_000))
        for number in range(max(4, images // 5))
    ]
    for number in range(images):
        library.images.append(_image(folder, number, pool, chance))
    routes = {path: [asdict(blob), kind] for path, (blob, kind) in library.routes().items()}
    (folder / "routes.json").write_text(json.dumps(routes))
    return library


def read_routes(folder: Path) -> dict[str, tuple[Blob, str]]:
    """What `make_library` wrote, for the upstream's process."""
    routes = json.loads((folder / "routes.json").read_text())
    return {path: (Blob(**blob), kind) for path, (blob, kind) in routes.items()}


def zipf(count: int, length: int, chance: random.Random, alpha: float = 1.03) -> list[int]:
    """`length` indices below `count`; which index is popular is by chance."""
    weights = [1 / (rank + 1) ** alpha for rank in range(count)]
    order = list(range(count))
    chance.shuffle(order)
    return [order[rank] for rank in chance.choices(range(count), weights, k=length)]


def _image(folder: Path, number: int, pool: list[Blob], chance: random.Random) -> SmallImage:
    """Four layers of its own, four that other images have too."""
    repository = f"bench/image-{number}"
    config = _blob(repository, folder / f"config-{number}", 1_500)
    own = [
        _blob(repository, folder / f"layer-{number}-{n}", _between(chance, 20_000, 400_000))
        for n in range(4)
    ]
    shared = [
        Blob(repository, blob.file, blob.digest, blob.size) for blob in chance.sample(pool, 4)
    ]
    layers = (*own, *shared)
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(config, "config.v1+json"),
            "layers": [_descriptor(layer, "layer.v1.tar") for layer in layers],
        }
    ).encode()
    path = folder / f"manifest-{number}"
    path.write_bytes(body)
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    manifest = Blob(repository, str(path), digest, len(body))
    return SmallImage(repository, manifest, (config, *layers))


def _trace_size(position: float) -> tuple[int, int]:
    for share, least, most in _TRACE_SIZES:
        if position < share:
            return least, most
        position -= share
    raise ValueError("shares don't add up to one")


def _between(chance: random.Random, least: int, most: int) -> int:
    return int(math.exp(chance.uniform(math.log(least), math.log(most))))


def _blob(repository: str, path: Path, size: int) -> Blob:
    digest = hashlib.sha256()
    left = size
    with path.open("wb") as file:
        while left:
            piece = os.urandom(min(left, _PIECE_BYTES))
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
    return Blob(repository, str(path), f"sha256:{digest.hexdigest()}", size)


def _descriptor(blob: Blob, kind: str) -> dict[str, str | int]:
    media_type = f"application/vnd.oci.image.{kind}"
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}
