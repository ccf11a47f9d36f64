"""Whether images are whole, and what is written down of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.bundles.contents import Place
from proxy.bundles.importing_closure import Brought, walked
from proxy.errors import BadBundle
from proxy.oci.digest import Digest
from proxy.oci.manifests import INDEX_TYPES, MEDIA_TYPES
from tests.support.bundles import Made, bundle, place
from tests.support.images import Image, artifact, image, index

AMD64, ARM64 = image(300, 20, seed="amd"), image(50, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)
SIGNATURE = artifact(BOTH)
OF_THE_SIGNATURE = artifact(SIGNATURE, "application/note")
OF_ONE = artifact(AMD64, "application/sbom")


def digests(*images: Image) -> set[Digest]:
    return {c.digest for one in images for c in (*one.manifests, *one.blobs)}


async def brought(made: Made) -> Brought:
    async def body(_place: Place, digest: Digest) -> bytes:
        return made.blobs[digest]

    return await walked(made.contents, body)


async def test_a_repository_may_serve_what_its_images_need_and_nothing_else() -> None:
    made = bundle({"lab/app:v1": BOTH, "lab/one": AMD64})
    links = (await brought(made)).links
    assert links[place("lab/app")].keys() == digests(BOTH)
    assert links[place("lab/one")].keys() == digests(AMD64)
    for one in (*BOTH.manifests, *BOTH.blobs):
        told = links[place("lab/app")][one.digest]
        assert told.size == one.size
        assert told.media_type == (one.media_type if one.media_type in MEDIA_TYPES else "")


async def test_what_refers_to_an_image_is_pinned_with_it_however_far() -> None:
    made = bundle(
        {"lab/app:v1": BOTH, "lab/other:v1": ARM64},
        referrers=[
            ("lab/app", SIGNATURE, None),
            ("lab/app", OF_THE_SIGNATURE, None),
            ("lab/app", OF_ONE, f"sha256-{AMD64.digest.hex}.sbom"),
        ],
    )
    found = await brought(made)
    first, second = found.closures
    assert first[0] == BOTH.digest
    assert set(first) == digests(BOTH, SIGNATURE, OF_THE_SIGNATURE, OF_ONE)
    assert set(second) == digests(ARM64)
    app = place("lab/app")
    # What is found by its tag is not told by the referrers API.
    assert found.referrers.keys() == {(app, BOTH.digest), (app, SIGNATURE.digest)}
    (told,) = found.referrers[app, BOTH.digest]
    assert told["artifactType"] == "application/example.signature"


async def test_a_platform_may_be_absent_if_that_is_declared() -> None:
    without = digests(ARM64)
    made = bundle({"lab/app:v1": BOTH}, without=without, platforms=["linux/amd64"])
    found = await brought(made)
    assert found.links[place("lab/app")].keys() == digests(BOTH) - without
    with pytest.raises(BadBundle, match="lacks"):
        await brought(bundle({"lab/app:v1": BOTH}, without=without))
    with pytest.raises(BadBundle, match="lacks"):
        await brought(bundle({"lab/app:v1": BOTH}, without=without, platforms=["linux/arm64"]))


async def test_a_platform_that_is_there_is_there_although_it_was_not_asked_for() -> None:
    found = await brought(bundle({"lab/app:v1": BOTH}, platforms=["linux/amd64"]))
    assert found.links[place("lab/app")].keys() == digests(BOTH)


async def test_what_is_left_out_counts_as_there() -> None:
    made = bundle({"lab/app:v1": BOTH}, have=digests(AMD64), receipts=["a" * 32])
    found = await brought(made)
    assert set(found.closures[0]) == digests(BOTH)


@pytest.mark.parametrize("media_type", ["", "text/plain", min(INDEX_TYPES)])
async def test_a_manifest_is_what_it_is_called(media_type: str) -> None:
    made = bundle({"lab/app:v1": AMD64})
    (one,) = made.contents.images
    wrong = replace(one, descriptor=replace(one.descriptor, media_type=media_type))
    lying = replace(made, contents=replace(made.contents, images=(wrong,)))
    with pytest.raises(BadBundle):
        await brought(lying)


WHOLE: dict[str, Any] = {"lab/app:v1": BOTH, "lab/team/one": AMD64, "lab/third:x": ARM64}
ALL = sorted(digests(BOTH), key=str)


@settings(max_examples=150, deadline=None)
@given(lost=st.sets(st.sampled_from(ALL)), platforms=st.sampled_from([None, ["linux/amd64"]]))
async def test_whatever_is_lost_is_missed_exactly_if_it_is_needed(
    lost: set[Digest], platforms: list[str] | None
) -> None:
    # What an image of the contents names itself is missed when they are read.
    lost -= {BOTH.digest, AMD64.digest, ARM64.digest}
    made = bundle(WHOLE, without=lost, platforms=platforms)
    if lost:
        with pytest.raises(BadBundle, match="lacks"):
            await brought(made)
    else:
        found = await brought(made)
        assert {d for closure in found.closures for d in closure} == digests(BOTH)
