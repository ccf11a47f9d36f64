"""Archives as other tools write them: OCI layouts and docker's, by hand."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from proxy.oci.digest import Digest
from tests.support.images import Image, pseudo_random

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
Members = list[tuple[str, bytes | str]]
"""Names and bytes; text is where a symbolic link leads."""


def tarred(members: Iterable[tuple[str, bytes | str]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, body in members:
            info = tarfile.TarInfo(name)
            if isinstance(body, str):
                info.type, info.linkname = tarfile.SYMTYPE, body
                tar.addfile(info)
            else:
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def layout(
    images: Iterable[tuple[Image, Mapping[str, str]]], *, without: Iterable[Digest] = ()
) -> Members:
    """An OCI layout of images and the annotations that they have in its index."""
    missing = set(without)
    entries, blobs = [], {}
    for image, said in images:
        entry = image.manifest.descriptor()
        entries.append({**entry, "annotations": dict(said)} if said else entry)
        for one in (*image.manifests, *image.blobs):
            if one.digest not in missing:
                blobs[f"blobs/{one.digest.algorithm}/{one.digest.hex}"] = one.body
    index = {"schemaVersion": 2, "manifests": entries}
    return [
        *sorted(blobs.items()),
        ("index.json", json.dumps(index).encode()),
        ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
    ]


def unpacked(members: Members, folder: Path) -> Path:
    for name, body in members:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(body, bytes)
        path.write_bytes(body)
    return folder


def docker_save(*tags: str, seed: str = "saved", doubled: bool = False) -> Members:
    """As docker wrote it before version 25; `doubled`: a layer that is a link to another."""
    first, second = (pseudo_random(f"{seed}{n}", size) for n, size in enumerate((5000, 700)))
    layers = [first, second, second] if doubled else [first, second]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(one)) for one in layers]},
        }
    ).encode()
    name = f"{Digest.of(config).hex}.json"
    members: Members = [(name, config), ("1/VERSION", b"1.0")]
    members += [("1/layer.tar", first), ("2/layer.tar", second)]
    if doubled:
        members.append(("3/layer.tar", "../2/layer.tar"))
    listed = {
        "Config": name,
        "RepoTags": list(tags) or None,
        "Layers": [f"{number}/layer.tar" for number in range(1, len(layers) + 1)],
    }
    members.append(("manifest.json", json.dumps([listed]).encode()))
    members.append(("repositories", b"{}"))
    return members
