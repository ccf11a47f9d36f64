"""Images in an archive of `docker save`, old or new, and of `skopeo docker-archive:`.

It has layers and configurations but no manifests, so one is made: in OCI's words,
always the same for the same image. Nothing is unpacked: a layer is taken as it lies
there, compressed or not, and read once for its digest.

Source: docker's image specification v1.2 ("Combined Image JSON + Filesystem Changeset
Format"), moby `image/tarexport`; containers/image `docker/internal/tarfile`.
"""

from __future__ import annotations

import json

from proxy.bundles.foreign_files import JSON_MAX, Files, json_of, parsed
from proxy.bundles.foreign_found import Found, FoundBlob, FoundImage
from proxy.bundles.reader_media import Spans, chunks, read, size_of
from proxy.errors import BadBundle
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_IMAGES_MAX = 10_000
_LAYERS_MAX = 1_000


def is_docker_archive(files: Files) -> bool:
    """Whether it has docker's list of images. Raises `BadBundle`."""
    return files.place("manifest.json") is not None


def repo_tags(files: Files) -> dict[Digest, tuple[str, ...]]:
    """The names of images by the digest of their configuration. Raises `BadBundle`."""
    listed = json_of(files, "manifest.json")
    found: dict[Digest, tuple[str, ...]] = {}
    for one in listed if isinstance(listed, list) else []:
        match one:
            case {"Config": str(config), "RepoTags": list(tags)}:
                body = read(_place(files, config), bytes_max=JSON_MAX, what=config)
                found[Digest.of(body)] = tuple(str(tag) for tag in tags)
            case _:
                pass
    return found


def found_in(files: Files) -> Found:
    """All images of the archive. Raises `BadBundle`."""
    listed = json_of(files, "manifest.json")
    if not isinstance(listed, list) or not 0 < len(listed) <= _IMAGES_MAX:
        raise BadBundle("manifest.json of the archive names no images")
    found = Found()
    layers: dict[Spans, FoundBlob] = {}
    for one in listed:
        match one:
            case {"Config": str(config), "Layers": list(names)} if len(names) <= _LAYERS_MAX:
                tags = one.get("RepoTags") or []
                image = _image(files, config, [str(name) for name in names], layers)
            case _:
                raise BadBundle("manifest.json of the archive makes no sense")
        if not isinstance(tags, list):
            raise BadBundle("manifest.json of the archive makes no sense")
        for blob in image:
            found.blobs.setdefault(blob.digest, blob)
        closure = tuple(dict.fromkeys(blob.digest for blob in image))
        # Each tag is an image of its own: it may lead to another repository.
        for tag in tags or [None]:
            names_here = () if tag is None else (str(tag),)
            found.images.append(FoundImage(root=image[0], closure=closure, names=names_here))
    return found


def _image(
    files: Files, config_name: str, names: list[str], known: dict[Spans, FoundBlob]
) -> list[FoundBlob]:
    """Its made manifest, its configuration, its layers."""
    place = _place(files, config_name)
    body = read(place, bytes_max=JSON_MAX, what=config_name)
    config = FoundBlob(
        digest=Digest.of(body), size=len(body), media_type=_CONFIG, kind="config", place=place
    )
    layers = []
    for name in names:
        place = _place(files, name)
        if place not in known:
            known[place] = _layer(place)
        layers.append(known[place])
    _check_layers(parsed(body, config_name), layers)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(config),
            "layers": [_descriptor(layer) for layer in layers],
        },
        separators=(",", ":"),
    ).encode()
    root = FoundBlob(
        digest=Digest.of(manifest),
        size=len(manifest),
        media_type=OCI_MANIFEST,
        kind="manifest",
        place=(manifest,),
    )
    return [root, config, *layers]


def _place(files: Files, name: str) -> Spans:
    place = files.place(name)
    if place is None:
        raise BadBundle(f"the archive lacks {name[:200]!r}")
    return place


def _layer(place: Spans) -> FoundBlob:
    start, digest = b"", Digest("sha256", "0" * 64)
    hasher = digest.hasher()
    for chunk in chunks(place):
        start = start or chunk[:4]
        hasher.update(chunk)
    kind = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}.get(start[:2], "")
    return FoundBlob(
        digest=Digest("sha256", hasher.hexdigest()),
        size=size_of(place),
        media_type=_LAYER + kind,
        kind="layer",
        place=place,
    )


def _check_layers(config: object, layers: list[FoundBlob]) -> None:
    """The configuration tells the layers' digests, of what they are uncompressed."""
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    said = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(said, list) or len(said) != len(layers):
        raise BadBundle("an image of the archive has other layers than its configuration says")
    for digest, layer in zip(said, layers, strict=True):
        if layer.media_type == _LAYER and digest != str(layer.digest):
            raise BadBundle(f"the archive has other bytes than the layer {str(digest)[:100]}")


def _descriptor(blob: FoundBlob) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}
