"""Archives of other tools, made into what a bundle says of itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.bundles.contents_reading import decode
from proxy.bundles.foreign import open_foreign
from proxy.bundles.importing_sending import verify
from proxy.bundles.reader import Opened
from proxy.bundles.reader_media import read
from proxy.errors import BadBundle
from proxy.oci.digest import Digest
from proxy.oci.manifests import OCI_MANIFEST
from tests.support.foreign_archives import (
    CONTAINERD_NAME,
    REF_NAME,
    Members,
    docker_save,
    layout,
    tarred,
    unpacked,
)
from tests.support.images import Image, artifact, attested, image, index, schema1

AMD64, ARM64 = image(3000, 20, seed="amd"), image(500, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)
NAMED = {REF_NAME: "lab.example/app:v1"}


def named(name: str) -> tuple[str, str, str | None]:
    """As a proxy would: all is below the registry's name."""
    upstream, _, rest = name.partition("/")
    if "@" in rest:
        return upstream, rest.partition("@")[0], None
    repository, _, tag = rest.partition(":")
    return upstream, repository, tag or "latest"


def opened(tmp_path: Path, members: Members, name: str | None = None) -> list[Opened]:
    path = tmp_path / "archive.tar"
    path.write_bytes(tarred(members))
    found = open_foreign([path], named, name=name, created=5)
    for one in found:
        assert decode(one.body) == one.contents
        for digest in one.blobs:
            verify(one, digest)
    return found


def names(*found: Opened) -> list[str]:
    return [one.name for each in found for one in each.contents.images]


def digests(wanted: Image) -> set[Digest]:
    return {one.digest for one in (*wanted.manifests, *wanted.blobs)}


def refused(tmp_path: Path, members: Members, match: str, **more: Any) -> None:
    with pytest.raises(BadBundle, match=match):
        opened(tmp_path, members, **more)


def test_a_layout_is_read_from_a_tar_and_from_a_folder(tmp_path: Path) -> None:
    members = layout([(BOTH, NAMED)])
    (found,) = opened(tmp_path, members)
    assert names(found) == ["lab.example/app:v1"]
    assert found.blobs.keys() == digests(BOTH)
    assert found.contents.platforms is None
    folder = unpacked(members, tmp_path / "folder")
    (same,) = open_foreign([folder], named, name=None, created=5)
    assert same.contents == found.contents


@pytest.mark.parametrize(
    ("annotations", "given", "called"),
    [
        ({REF_NAME: "lab.example/app:v1"}, None, "lab.example/app:v1"),
        ({REF_NAME: "v1", CONTAINERD_NAME: "quay.io/a/b:v1"}, None, "quay.io/a/b:v1"),
        ({REF_NAME: "v1"}, "lab.example/app", "lab.example/app:v1"),
        ({REF_NAME: "v1"}, "lab.example/app:v2", "lab.example/app:v2"),
        ({}, "lab.example/app:v2", "lab.example/app:v2"),
        ({}, "lab.example/app@" + str(BOTH.digest), f"lab.example/app@{BOTH.digest}"),
        (NAMED, "lab.example/other:v2", "lab.example/other:v2"),
    ],
)
def test_names_are_found_where_tools_leave_them(
    tmp_path: Path, annotations: dict[str, str], given: str | None, called: str
) -> None:
    assert names(*opened(tmp_path, layout([(BOTH, annotations)]), given)) == [called]


def test_an_image_without_a_name_needs_one(tmp_path: Path) -> None:
    refused(tmp_path, layout([(BOTH, {})]), "give --name")
    refused(tmp_path, layout([(BOTH, {REF_NAME: "v1"})]), r"it is called 'v1'\): give --name")


def test_a_name_is_for_the_one_that_has_none(tmp_path: Path) -> None:
    members = layout([(AMD64, NAMED), (ARM64, {})])
    found = opened(tmp_path, members, "lab.example/unnamed:v9")
    assert names(*found) == ["lab.example/app:v1", "lab.example/unnamed:v9"]


def test_images_of_other_platforms_that_were_not_copied_are_declared(tmp_path: Path) -> None:
    members = layout([(BOTH, NAMED)], without=digests(ARM64))
    (found,) = opened(tmp_path, members)
    assert found.contents.platforms == ("linux/amd64",)
    assert found.blobs.keys() == digests(BOTH) - digests(ARM64)
    whole = layout(
        [(BOTH, NAMED), (AMD64, {REF_NAME: "lab.example/one:v1"})], without=digests(ARM64)
    )
    assert [one.contents.platforms for one in opened(tmp_path, whole)] == [("linux/amd64",), None]


@pytest.mark.parametrize("about", [AMD64, ARM64])
def test_an_attestation_is_no_platform(tmp_path: Path, about: Image) -> None:
    whole = attested(BOTH, about, image(50, seed="attestation"))
    (found,) = opened(tmp_path, layout([(whole, NAMED)], without=digests(ARM64)))
    assert found.contents.platforms == ("linux/amd64",)
    assert found.blobs.keys() == digests(whole) - digests(ARM64)


def test_a_name_that_only_looks_like_a_signatures_is_a_name(tmp_path: Path) -> None:
    name = "sha256-" + "a" * 70
    members = layout([(AMD64, {REF_NAME: name})])
    assert names(*opened(tmp_path, members, "lab.example/app")) == [f"lab.example/app:{name}"]


def test_signatures_come_with_what_they_sign(tmp_path: Path) -> None:
    signature, old = artifact(BOTH), artifact(AMD64, "application/old")
    tag = f"sha256-{BOTH.digest.hex}.sig"
    members = layout([(BOTH, NAMED), (signature, {}), (AMD64, {REF_NAME: tag}), (old, {})])
    (found,) = opened(tmp_path, members)
    assert names(found) == ["lab.example/app:v1"]
    told = {(str(one.subject), one.tag) for one in found.contents.referrers}
    assert told == {
        (str(BOTH.digest), None),
        (str(BOTH.digest), tag),
        (str(AMD64.digest), None),
    }
    assert found.blobs.keys() >= digests(signature) | digests(old)


def test_a_layout_that_is_not_whole_or_not_right_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, layout([(AMD64, NAMED)], without=[AMD64.layers[0].digest]), "lacks")
    refused(tmp_path, layout([(AMD64, NAMED)], without=[AMD64.digest]), "lacks the manifest")
    refused(tmp_path, layout([(BOTH, NAMED)], without=[AMD64.digest, ARM64.digest]), "lacks all")
    refused(tmp_path, layout([]), "names no images")
    refused(tmp_path, layout([(schema1(), NAMED)]), "other bytes|can't be kept")
    short = [
        (name, body[:-1] if name.endswith(AMD64.layers[0].digest.hex) else body)
        for name, body in layout([(AMD64, NAMED)])
    ]
    refused(tmp_path, short, "not as long")
    wrong = [
        (name, bytes(len(body)) if name.endswith(AMD64.digest.hex) else body)
        for name, body in layout([(AMD64, NAMED)])
    ]
    refused(tmp_path, wrong, "other bytes")


def test_docker_save_is_an_image_for_each_of_its_tags(tmp_path: Path) -> None:
    (found,) = opened(tmp_path, docker_save("hub.example/app:v1", "lab.example/team/app:v2"))
    assert names(found) == ["hub.example/app:v1", "lab.example/team/app:v2"]
    (first, second) = found.contents.images
    assert first.descriptor == second.descriptor
    assert first.descriptor.media_type == OCI_MANIFEST
    manifest = json.loads(read(found.blobs[first.descriptor.digest], bytes_max=9999, what="it"))
    assert [one["mediaType"] for one in manifest["layers"]] == [
        "application/vnd.oci.image.layer.v1.tar"
    ] * 2
    assert len(found.blobs) == 4
    (again,) = opened(tmp_path, docker_save("hub.example/app:v1", "lab.example/team/app:v2"))
    assert again.contents == found.contents


def test_layers_that_are_links_in_docker_save_are_followed_inside_of_it(tmp_path: Path) -> None:
    (found,) = opened(tmp_path, docker_save("lab.example/app:v1", doubled=True))
    assert len(found.blobs) == 4
    members = docker_save("lab.example/app:v1", doubled=True)
    for target in ("../../../../etc/passwd", "/etc/passwd", "../3/layer.tar", "layer.tar"):
        evil = [(n, target if isinstance(body, str) else body) for n, body in members]
        refused(tmp_path, evil, "lacks|circles")


def test_layers_that_are_not_those_of_the_configuration_are_refused(tmp_path: Path) -> None:
    wrong = [
        (name, b"x" * 700 if name == "2/layer.tar" else body)
        for name, body in docker_save("lab.example/app:v1")
    ]
    refused(tmp_path, wrong, "other bytes than the layer")
    lost = [one for one in docker_save("lab.example/app:v1") if one[0] != "2/layer.tar"]
    refused(tmp_path, lost, "lacks '2/layer.tar'")
    refused(tmp_path, docker_save(), "give --name")
    assert names(*opened(tmp_path, docker_save(), "lab.example/a:v1")) == ["lab.example/a:v1"]


def test_a_layout_of_docker_save_has_its_names_in_dockers_list(tmp_path: Path) -> None:
    listed = [
        {"Config": f"blobs/sha256/{AMD64.config.digest.hex}", "RepoTags": ["lab.example/app:v7"]}
    ]
    members = [*layout([(AMD64, {})]), ("manifest.json", json.dumps(listed).encode())]
    assert names(*opened(tmp_path, members)) == ["lab.example/app:v7"]


def test_what_is_nothing_that_is_known_is_told(tmp_path: Path) -> None:
    refused(tmp_path, [("file", b"1")], "no bundle, no OCI layout")
    for body, word in (
        (gzip.compress(b"x" * 5000), "gunzip"),
        (b"\x28\xb5\x2f\xfd" * 500, "zstd -d"),
    ):
        path = tmp_path / "packed"
        path.write_bytes(body)
        with pytest.raises(BadBundle, match=word):
            open_foreign([path], named, name=None, created=5)
    for bad in (b"[", b"[]", b'{"manifests": [1]}', b'{"manifests": [{"digest": "x"}]}'):
        members = [(n, bad if n == "index.json" else b) for n, b in layout([(AMD64, NAMED)])]
        refused(tmp_path, members, "index.json")
    for bad in (b"[", b"[]", b"[1]", b'[{"Config": 1}]', b'[{"Config": "x", "Layers": []}]'):
        members = [
            (n, bad if n == "manifest.json" else b) for n, b in docker_save("lab.example/a:b")
        ]
        refused(tmp_path, members, "manifest.json|lacks")
