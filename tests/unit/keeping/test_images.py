"""Images as they are held: platforms, completeness, names that say what they are about."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import EntrepotError
from proxy.keeping.images import (
    Image,
    Kind,
    Part,
    index_entries,
    is_pattern,
    platforms_of,
    subject_of,
)
from proxy.oci.digest import Digest
from proxy.ports import PUBLIC, BlobKey
from tests.support.images import image, index


def part(
    word: str,
    kind: Kind = "layer",
    *,
    platform: str = "linux/amd64",
    here: bool = True,
    stored: bool = False,
    optional: bool = False,
) -> Part:
    return Part(
        kind=kind,
        key=BlobKey(PUBLIC, Digest.of(word.encode())),
        size=10,
        platform=platform,
        optional=optional,
        here=here,
        used_at=5.0,
        stored_at=1.0,
        stored=stored,
    )


def held(*parts: Part) -> Image:
    return Image(parts[0].key.digest, parts, platforms_of(parts))


ARM = {"platform": "linux/arm64"}


def test_an_image_is_complete_by_platform() -> None:
    one = held(
        part("index", "index", platform=""),
        part("m1", "manifest"),
        part("l1", here=False, stored=True),
        part("m2", "manifest", platform="linux/arm64"),
        part("l2", platform="linux/arm64", here=False),
        part("attestation", "manifest", here=False, optional=True),
    )
    assert one.platforms == {"linux/amd64": True, "linux/arm64": False}
    assert (one.state, one.usable, one.here_bytes, one.used_at) == ("partial", True, 30, 5.0)
    assert held(part("m", "manifest"), part("l")).state == "complete"
    assert held(part("m", "manifest", here=False)).state == "absent"
    assert held(part("i", "index")).state == "partial"


def test_a_new_image_takes_the_olds_place_once_nobody_is_worse_off() -> None:
    amd, arm = part("a", "manifest"), part("b", "manifest", platform="linux/arm64")
    no_arm = part("c", "manifest", platform="linux/arm64", here=False)
    old_both, old_amd = held(amd, arm), held(amd, no_arm)
    assert held(amd, arm).covers(old_both)
    assert not held(amd, no_arm).covers(old_both)
    assert held(amd, no_arm).covers(old_amd)
    # What the new one is not even made for nobody can wait for.
    assert held(amd).covers(old_both)
    assert not held(no_arm).covers(old_amd)


def test_an_indexs_entries_have_platforms_and_attestations_that_of_their_image() -> None:
    both = index(image(seed="x"), image(seed="y", architecture="arm64"))
    document = json.loads(both.manifest.body)
    first = document["manifests"][0]
    about = {
        "mediaType": first["mediaType"],
        "digest": str(Digest.of(b"attestation")),
        "size": 1,
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.digest": first["digest"]},
    }
    document["manifests"] += [about, "nonsense", {"digest": 3}]
    found = list(index_entries(json.dumps(document).encode()))
    assert [(platform, optional) for _, platform, optional in found] == [
        ("linux/amd64", False),
        ("linux/arm64", False),
        ("linux/amd64", True),
    ]


ENTRIES = st.lists(
    st.dictionaries(st.sampled_from(["digest", "platform", "annotations"]), st.text())
)
BODIES = st.binary(max_size=60) | ENTRIES.map(lambda made: json.dumps({"manifests": made}).encode())


@given(body=BODIES)
def test_any_bytes_are_entries_or_a_plain_error(body: bytes) -> None:
    with contextlib.suppress(EntrepotError):
        assert isinstance(list(index_entries(body)), list)


@pytest.mark.parametrize(
    ("tag", "about"),
    [
        ("sha256-" + "a" * 64, True),
        ("sha256-" + "a" * 64 + ".sig", True),
        ("sha512-" + "0" * 128 + ".att", True),
        ("sha256-" + "a" * 63, False),
        ("sha256-" + "a" * 128, False),
        ("sha512-" + "a" * 64 + ".sig", False),
        ("v1", False),
        ("sha256-" + "A" * 64, False),
    ],
)
def test_some_tags_only_say_what_they_are_about(tag: str, about: bool) -> None:
    found = subject_of(tag)
    assert (found is not None) is about
    assert found is None or tag.startswith(f"{found.algorithm}-{found.hex}")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("docker.io/library/alpine:3.20", False), ("a/*:b", True), ("a?", True), ("[ab]:c", True)],
)
def test_what_has_to_be_expanded_is_a_pattern(text: str, pattern: bool) -> None:
    assert is_pattern(text) is pattern
