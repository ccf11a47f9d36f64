"""A real, runnable busybox image as an OCI layout, written by hand.

By hand, so that the test knows every byte: which blobs there are, their digests
and sizes, for two platforms under one index. One layer is larger than what
Entrepot keeps in RAM, so that pulls use the path of files, too.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARKER = "landed once, shipped many times"
LARGE_LAYER_BYTES = 3 << 20
SAID_BY = "/bin/say"

_OCI = "application/vnd.oci.image"
_INDEX = f"{_OCI}.index.v1+json"
_MANIFEST = f"{_OCI}.manifest.v1+json"
_CONFIG = f"{_OCI}.config.v1+json"
_LAYER = f"{_OCI}.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Built:
    """An image in an OCI layout; digests as `sha256:<hex>`, all for linux/amd64
    but `index`, which names both platforms.
    """

    layout: Path
    index: str
    manifest: str
    config: str
    layers: tuple[str, ...]
    other_manifest: str
    other_blobs: tuple[str, ...]

    @property
    def blobs(self) -> frozenset[str]:
        """What a client of this platform must have fetched."""
        return frozenset((self.config, *self.layers))

    @property
    def all_blobs(self) -> frozenset[str]:
        """What a copy of every platform must have fetched."""
        return self.blobs | frozenset(self.other_blobs)

    def content(self, digest: str) -> bytes:
        return (self.layout / "blobs" / digest.replace(":", "/")).read_bytes()


def build(layout: Path, busybox: Path) -> Built:
    """Write the layout into the empty folder `layout`; the same bytes every time."""
    (layout / "blobs" / "sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    system = _tar({"bin/busybox": busybox.read_bytes()}, links={"bin/sh": "busybox"})
    script = f"#!/bin/sh\necho '{MARKER}'\n".encode()
    # Incompressible on purpose: the layer stays as large as it looks.
    ballast = random.Random(20).randbytes(LARGE_LAYER_BYTES)
    own = _tar({SAID_BY[1:]: script, "ballast": ballast})
    manifest, config, layers = _platform(layout, "amd64", [system, own])
    foreign = _tar({"README": b"no such processor here\n"})
    other, other_config, other_layers = _platform(layout, "arm64", [foreign])
    index = _put(
        layout,
        {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [
                {**manifest, "platform": {"os": "linux", "architecture": "amd64"}},
                {**other, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            ],
        },
        _INDEX,
    )
    names = [(index, "multi"), (manifest, "single")]
    listed = [{**d, "annotations": {"org.opencontainers.image.ref.name": n}} for d, n in names]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": listed}))
    return Built(
        layout=layout,
        index=index["digest"],
        manifest=manifest["digest"],
        config=config,
        layers=layers,
        other_manifest=other["digest"],
        other_blobs=(other_config, *other_layers),
    )


def _platform(
    layout: Path, architecture: str, tars: list[bytes]
) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    layers = [_put(layout, gzip.compress(tar, 6, mtime=0), _LAYER) for tar in tars]
    config = _put(
        layout,
        {
            "architecture": architecture,
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": [SAID_BY], "Env": ["PATH=/bin"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars],
            },
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "tests"} for _ in tars],
        },
        _CONFIG,
    )
    manifest = _put(
        layout,
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers},
        _MANIFEST,
    )
    return manifest, config["digest"], tuple(layer["digest"] for layer in layers)


def _put(layout: Path, content: bytes | dict[str, Any], media_type: str) -> dict[str, Any]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    encoded = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / encoded).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(data)}


def _tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        folder = tarfile.TarInfo("bin")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o755, len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return sink.getvalue()
