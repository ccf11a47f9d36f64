"""What is held in memory for the hot set, and who can't push it out."""

from __future__ import annotations

from proxy.ports import PUBLIC, BlobKey
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Content, Image, image

MEMORY_BYTES = 1_000_000
HOT_BYTES = 40_000
SCAN_BYTES = 100_000


def pieces(images: list[Image]) -> list[tuple[str, Content]]:
    """Manifests and blobs, with what they are called in a path."""
    return [
        (kind, one)
        for made in images
        for kind, contents in (("manifests", made.manifests), ("blobs", made.blobs))
        for one in contents
    ]


async def asked(proxy: Running, kind: str, content: Content) -> None:
    answer = await proxy.ask(f"/v2/lab/app/{kind}/{content.digest}")
    assert (answer.status, answer.body) == (200, content.body)
    await proxy.settled()
    # The fast lane tells of uses a little later.
    proxy.entrepot.telemetry.hand_on()


def held(proxy: Running, images: list[Image]) -> list[bool]:
    assert proxy.entrepot.status is not None
    memory = proxy.entrepot.status._cache.memory
    return [BlobKey(PUBLIC, one.digest) in memory for _, one in pieces(images)]


async def test_a_scan_of_ten_times_the_memory_leaves_what_is_hot_in_it(
    world: World, upstream: FakeRegistry
) -> None:
    hot = [image(HOT_BYTES, HOT_BYTES, seed=f"hot {number}") for number in range(4)]
    scanned = [image(SCAN_BYTES, seed=f"scan {number}") for number in range(100)]
    for made in (*hot, *scanned):
        upstream.add("app", made)
    proxy = await world.start({"lab": upstream}, memory_bytes_max=MEMORY_BYTES)
    for _ in range(4):
        for kind, one in pieces(hot):
            await asked(proxy, kind, one)
    assert all(held(proxy, hot))
    for made in scanned:
        (layer,) = made.layers
        for _ in range(2):
            await asked(proxy, "blobs", layer)
    assert sum(held(proxy, scanned[:50])) == 0
    assert all(held(proxy, hot))
