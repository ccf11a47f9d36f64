"""Whole images: what belongs to one, in an order in which it can be stored."""

from __future__ import annotations

import pytest

from proxy.cache.closure import Closure, Piece, Platforms
from proxy.errors import UnknownManifest
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Image, artifact, attested, image, index

APP, V1 = Repository.parse("app"), Tag.parse("v1")
AMD, ARM = image(900, 800, seed="app"), image(700, seed="app", architecture="arm64")
SIGNED_BY_TAG = artifact(AMD, "application/example.cosign")
SIGNATURE = artifact(AMD, "application/example.signature")
ABOUT_AMD = image(50, seed="attestation")
INDEX = attested(index(AMD, ARM), AMD, ABOUT_AMD)


@pytest.fixture
async def filled(upstream: FakeRegistry) -> FakeRegistry:
    """`app:v1` for two platforms, one of them attested and signed in two ways."""
    upstream.add("app", INDEX, "v1")
    upstream.add("app", SIGNATURE)
    upstream.add("app", SIGNED_BY_TAG, f"sha256-{AMD.digest.hex}.sig")
    return upstream


async def walked(
    running: Running, *, platforms: Platforms, fetch: bool, referrers: bool = True
) -> list[Piece]:
    status = running.entrepot.status
    assert status is not None
    closure: Closure = status._cache.closure
    upstream = status._upstreams["lab"]
    return [
        piece
        async for piece in closure.walk(
            upstream, APP, V1, platforms=platforms, fetch=fetch, referrers=referrers
        )
    ]


def digests(*images: Image) -> set[Digest]:
    return {one.digest for each in images for one in (*each.manifests, *each.blobs)}


async def test_only_what_is_wanted_is_gone_into_and_the_index_stays_whole(
    world: World, filled: FakeRegistry
) -> None:
    running = await world.start({"lab": filled})
    pieces = await walked(running, platforms=Platforms.of(["linux/amd64"]), fetch=True)
    found = {piece.descriptor.digest for piece in pieces}
    wanted = digests(AMD, ABOUT_AMD, SIGNATURE, SIGNED_BY_TAG) | {INDEX.digest}
    assert found == wanted
    assert len(found) == len(pieces)
    assert pieces[0].body == INDEX.manifest.body
    assert {one.platform for one in pieces if one.depth > 0 and not one.referrer} == {"linux/amd64"}
    by_digest = {one.descriptor.digest: one for one in pieces}
    assert all(by_digest[one.digest].referrer for one in SIGNATURE.manifests)
    assert all(by_digest[one.digest].referrer for one in SIGNED_BY_TAG.manifests)


async def test_manifests_come_before_what_they_need(world: World, filled: FakeRegistry) -> None:
    running = await world.start({"lab": filled})
    pieces = await walked(running, platforms=Platforms.all(), fetch=True)
    place = {piece.descriptor.digest: at for at, piece in enumerate(pieces)}
    assert place.keys() == digests(INDEX, SIGNATURE, SIGNED_BY_TAG)
    for each in (AMD, ARM, SIGNATURE):
        assert all(place[each.digest] < place[blob.digest] for blob in each.blobs)


async def test_looking_at_what_is_held_asks_nobody(world: World, filled: FakeRegistry) -> None:
    running = await world.start({"lab": filled})
    with pytest.raises(UnknownManifest):
        await walked(running, platforms=Platforms.all(), fetch=False)
    assert filled.count() == 0
    fetched = await walked(running, platforms=Platforms.all(), fetch=True)
    asked = filled.count()
    held = await walked(running, platforms=Platforms.all(), fetch=False)
    assert [one.descriptor for one in held] == [one.descriptor for one in fetched]
    assert filled.count() == asked


async def test_without_referrers_nobody_is_asked_for_them(
    world: World, filled: FakeRegistry
) -> None:
    running = await world.start({"lab": filled})
    pieces = await walked(running, platforms=Platforms.all(), fetch=True, referrers=False)
    assert {piece.descriptor.digest for piece in pieces} == digests(INDEX)


async def test_a_child_that_is_gone_is_told_and_the_rest_goes_on(
    world: World, filled: FakeRegistry
) -> None:
    running = await world.start({"lab": filled})
    del filled.repositories["app"].manifests[str(AMD.digest)]
    pieces = await walked(running, platforms=Platforms.all(), fetch=True)
    (gone,) = [piece for piece in pieces if piece.missing is not None]
    assert gone.descriptor.digest == AMD.digest
    assert gone.platform == "linux/amd64"
    assert {piece.descriptor.digest for piece in pieces} >= digests(ARM)


async def test_an_image_whose_digest_no_tag_can_hold_has_no_signatures_by_tag(
    world: World, upstream: FakeRegistry
) -> None:
    long = upstream.add("app", image(90, algorithm="sha512"), "v1")
    running = await world.start({"lab": upstream})
    for fetch in (True, False):
        pieces = await walked(running, platforms=Platforms.all(), fetch=fetch)
        assert {piece.descriptor.digest for piece in pieces} == digests(long)
