"""Manifests: what they need, what they are, and what is not one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadUpstreamAnswer
from proxy.oci.digest import Digest
from proxy.oci.manifests import (
    ACCEPT_ALL,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MEDIA_TYPES,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    Children,
    Descriptor,
    Manifest,
    accepts,
    check,
    children,
    media_type_of,
)

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


def described(content: bytes, media_type: str = LAYER, **more: object) -> dict[str, object]:
    return {
        "mediaType": media_type,
        "digest": str(Digest.of(content)),
        "size": len(content),
        **more,
    }


def descriptor(content: bytes, media_type: str = LAYER) -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content))


def manifest(document: object, media_type: str = OCI_MANIFEST) -> Manifest:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Manifest(
        descriptor=Descriptor(media_type=media_type, digest=Digest.of(body), size=len(body)),
        body=body,
    )


def test_an_image_needs_its_config_and_each_layer_once() -> None:
    found = children(
        manifest(
            {
                "schemaVersion": 2,
                "config": described(b"{}", CONFIG),
                "layers": [described(b"one"), described(b"two"), described(b"one")],
                "subject": described(b"the signed", OCI_MANIFEST),
            }
        )
    )
    assert found == Children(
        blobs=(descriptor(b"{}", CONFIG), descriptor(b"one"), descriptor(b"two")),
        subject=Digest.of(b"the signed"),
        artifact_type=CONFIG,
    )


def test_an_index_needs_its_manifests() -> None:
    found = children(
        manifest({"manifests": [described(b"amd64", OCI_MANIFEST)], "artifactType": "a/b"})
    )
    assert found == Children(manifests=(descriptor(b"amd64", OCI_MANIFEST),), artifact_type="a/b")


def test_an_artifact_manifest_needs_its_blobs() -> None:
    assert children(manifest({"blobs": [described(b"sbom")]})).blobs == (descriptor(b"sbom"),)


@pytest.mark.parametrize("artifact_type", [None, "", 5])
def test_an_unusable_artifact_type_gives_way_to_that_of_the_config(artifact_type: object) -> None:
    document = {"artifactType": artifact_type, "config": described(b"{}", CONFIG)}
    assert children(manifest(document)).artifact_type == CONFIG
    assert children(manifest({"artifactType": artifact_type})).artifact_type is None


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ],
)
def test_layers_that_stay_with_their_vendor_are_not_needed(media_type: str) -> None:
    elsewhere = described(b"windows", media_type, urls=["https://example.com/base"])
    kept = described(b"windows", media_type)
    assert children(manifest({"layers": [elsewhere]})).blobs == ()
    assert children(manifest({"layers": [kept]})).blobs == (descriptor(b"windows", media_type),)
    mirrored = described(b"x", LAYER, urls=["https://example.com/x"])
    assert children(manifest({"layers": [mirrored]})).blobs == (descriptor(b"x"),)


def test_a_descriptor_without_size_or_type_is_still_a_pointer() -> None:
    bare = {"digest": str(Digest.of(b"x"))}
    assert children(manifest({"layers": [bare]})).blobs == (
        Descriptor(media_type="", digest=Digest.of(b"x"), size=0),
    )


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<!doctype html><title>Sign in</title>",
        b"\xff\xfe\xfd",
        b"[]",
        b'"manifest"',
        b"[" * 200_000,
        {"layers": ["sha256:" + "0" * 64]},
        {"layers": [{"size": 3}]},
        {"layers": [{"digest": "sha256:short", "size": 3}]},
        {"layers": [{"digest": "blake3:" + "0" * 64, "size": 3}]},
        {"layers": [described(b"x") | {"size": -1}]},
        {"layers": [described(b"x") | {"size": "3"}]},
        {"layers": [described(b"x") | {"size": True}]},
        {"subject": {"digest": 7}},
    ],
)
def test_nonsense_is_a_bad_answer_of_the_upstream(document: object) -> None:
    with pytest.raises(BadUpstreamAnswer):
        children(manifest(document))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["config", "layers", "blobs", "manifests", "subject", "digest", "size", "urls"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_understood_or_refused(document: object) -> None:
    try:
        found = children(manifest(document))
    except BadUpstreamAnswer:
        return
    assert isinstance(found, Children)


@given(st.binary(), st.sampled_from(MEDIA_TYPES) | st.text())
def test_any_body_under_any_type_passes_or_is_refused(body: bytes, media_type: str) -> None:
    try:
        check(media_type, body)
    except BadUpstreamAnswer:
        return
    assert media_type in MEDIA_TYPES
    assert isinstance(json.loads(body), dict)


def test_a_manifest_may_name_its_type_or_leave_it_out() -> None:
    check(OCI_INDEX, b'{"schemaVersion":2,"manifests":[]}')
    check(OCI_INDEX, json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX}).encode())
    check(OCI_ARTIFACT, json.dumps({"mediaType": OCI_ARTIFACT, "blobs": []}).encode())


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/html", b"{}"),
        ("application/json", b"{}"),
        (OCI_INDEX, b"<html>"),
        (OCI_INDEX, json.dumps({"mediaType": DOCKER_LIST}).encode()),
        (OCI_INDEX, b'{"mediaType": ["x"]}'),
        (OCI_MANIFEST, b'{"errors":[{"code":"DENIED"}]}'),
    ],
)
def test_what_is_no_manifest_of_its_type_is_refused(media_type: str, body: bytes) -> None:
    with pytest.raises(BadUpstreamAnswer):
        check(media_type, body)


@pytest.mark.parametrize(
    ("content_type", "bare"),
    [
        (OCI_INDEX, OCI_INDEX),
        (f"{OCI_INDEX}; charset=utf-8", OCI_INDEX),
        (" Application/JSON ;x=y", "application/json"),
        ("", ""),
    ],
)
def test_parameters_of_a_content_type_are_cut_off(content_type: str, bare: str) -> None:
    assert media_type_of(content_type) == bare


@pytest.mark.parametrize(
    ("accept", "admitted"),
    [
        ([], True),
        ([""], True),
        ([","], True),
        ([OCI_MANIFEST], True),
        ([OCI_MANIFEST.upper()], True),
        ([DOCKER_MANIFEST, OCI_MANIFEST], True),
        ([f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"], True),
        ([f"{DOCKER_MANIFEST}, */*"], True),
        (["application/*"], True),
        ([f"{OCI_MANIFEST};q=0.5"], True),
        ([DOCKER_MANIFEST], False),
        (["text/*"], False),
        ([f"{OCI_MANIFEST};q=0"], False),
        ([f"{OCI_MANIFEST}; Q = 0.000"], False),
        ([f"{OCI_MANIFEST};q=0.001"], True),
        (["*/*;q=0.0"], False),
        ([ACCEPT_ALL], True),
    ],
)
def test_accept_lines_admit_what_they_name(accept: list[str], admitted: bool) -> None:
    assert accepts(accept, OCI_MANIFEST) is admitted


@given(st.lists(st.text()), st.text())
def test_any_accept_is_understood(accept: list[str], media_type: str) -> None:
    assert accepts([*accept, "*/*"], media_type)
