"""Small images, built in memory, the same bytes on every run.

`image`, `index`, `artifact` and `schema1` return an `Image`: everything that
belongs to one root manifest. `FakeRegistry.add` and `MemoryUpstream.add` take
it. Nothing here knows how content is served.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.oci.digest import Digest
from proxy.oci.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
)

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True, slots=True)
class Content:
    """Some bytes under their media type; a manifest or a blob."""

    media_type: str
    body: bytes
    digest: Digest

    @classmethod
    def of(cls, media_type: str, body: bytes, *, algorithm: str = "sha256") -> Content:
        return cls(media_type, body, Digest.of(body, algorithm))

    @property
    def size(self) -> int:
        return len(self.body)

    def descriptor(self, **more: object) -> dict[str, object]:
        """As manifests spell it; `more` are further fields (platform, artifactType)."""
        return {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
            **more,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A root manifest with all that it points at.

    `manifests` starts with the root; the children of an index follow. `blobs`
    are all configs and layers, root first, layers in order after their config.
    `subject` is what an artifact refers to.
    """

    manifests: tuple[Content, ...]
    blobs: tuple[Content, ...]
    subject: Digest | None = None

    @property
    def manifest(self) -> Content:
        return self.manifests[0]

    @property
    def digest(self) -> Digest:
        return self.manifest.digest

    @property
    def config(self) -> Content:
        return self.blobs[0]

    @property
    def layers(self) -> tuple[Content, ...]:
        """The blobs that are not configs."""
        return tuple(b for b in self.blobs if b.media_type in {OCI_LAYER, DOCKER_LAYER})


def pseudo_random(seed: str, size: int) -> bytes:
    """`size` bytes that do not compress and depend on `seed` only."""
    return random.Random(seed).randbytes(size)


def document(content: dict[str, object]) -> bytes:
    """JSON as registries store it; indented, so that re-serialising shows."""
    return json.dumps(content, indent=3).encode()


def image(
    *layer_sizes: int,
    seed: str = "image",
    docker: bool = False,
    architecture: str = "amd64",
    algorithm: str = "sha256",
) -> Image:
    """An image with layers of the given sizes in bytes (default: one of 1,000).

    Another `seed` gives other bytes; `algorithm` names the manifest itself
    (its blobs stay sha256).
    """
    layers = [
        Content.of(
            DOCKER_LAYER if docker else OCI_LAYER,
            pseudo_random(f"{seed}/{architecture}/{number}", size),
        )
        for number, size in enumerate(layer_sizes or (1000,))
    ]
    config = Content.of(
        DOCKER_CONFIG if docker else OCI_CONFIG,
        document({"architecture": architecture, "os": "linux", "seed": seed}),
    )
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    root = Content.of(
        media_type,
        document(
            {
                "schemaVersion": 2,
                "mediaType": media_type,
                "config": config.descriptor(),
                "layers": [layer.descriptor() for layer in layers],
            }
        ),
        algorithm=algorithm,
    )
    return Image(manifests=(root,), blobs=(config, *layers))


def index(*images: Image, docker: bool = False) -> Image:
    """An index (Docker: manifest list) of `images`, each with its platform."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    root = Content.of(
        media_type,
        document(
            {
                "schemaVersion": 2,
                "mediaType": media_type,
                "manifests": [
                    child.manifest.descriptor(platform=_platform(child)) for child in images
                ],
            }
        ),
    )
    return Image(
        manifests=(root, *_flat(child.manifests for child in images)),
        blobs=_flat(child.blobs for child in images),
    )


def attested(plain: Image, about: Image, attestation: Image) -> Image:
    """An index as BuildKit makes it: beside its images, what is known of one of them."""
    entries = json.loads(plain.manifest.body)["manifests"]
    entries.append(
        attestation.manifest.descriptor(
            platform={"os": "unknown", "architecture": "unknown"},
            annotations={
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": str(about.digest),
            },
        )
    )
    root = Content.of(
        OCI_INDEX, document({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    )
    return Image(
        manifests=(root, *plain.manifests[1:], *attestation.manifests),
        blobs=(*plain.blobs, *attestation.blobs),
    )


def artifact(
    subject: Image, artifact_type: str = "application/example.signature", *, size: int = 100
) -> Image:
    """A manifest that refers to `subject`, such as a signature."""
    seed = f"{artifact_type}/{subject.digest}"
    layer = Content.of("application/octet-stream", pseudo_random(seed, size))
    config = Content.of(OCI_EMPTY, b"{}")
    root = Content.of(
        OCI_MANIFEST,
        document(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "artifactType": artifact_type,
                "config": config.descriptor(),
                "layers": [layer.descriptor()],
                "subject": subject.manifest.descriptor(),
            }
        ),
    )
    return Image(manifests=(root,), blobs=(config, layer), subject=subject.digest)


def schema1(*, seed: str = "old") -> Image:
    """A signed schema 1 manifest: its digest is *not* that of its body."""
    payload = {"schemaVersion": 1, "name": seed, "tag": "old", "fsLayers": [], "history": []}
    body = document({**payload, "signatures": [{"signature": "c2ln", "protected": "cA"}]})
    root = Content(DOCKER_SCHEMA1_SIGNED, body, Digest.of(document(payload)))
    return Image(manifests=(root,), blobs=())


def _platform(child: Image) -> dict[str, str]:
    configured = json.loads(child.config.body)
    return {"architecture": configured["architecture"], "os": configured["os"]}


def _flat(groups: Iterable[tuple[Content, ...]]) -> tuple[Content, ...]:
    return tuple(dict.fromkeys(content for group in groups for content in group))
