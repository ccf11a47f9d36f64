"""Pulls through a healthy proxy: what is fetched, how often, what comes back."""

from __future__ import annotations

import asyncio

from tests.flows.conftest import World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image

LARGE = 3_000_000


async def test_a_cold_pull_fetches_each_thing_once_and_a_warm_one_nothing(
    world: World, upstream: FakeRegistry
) -> None:
    img = upstream.add("app", image(1000, 300_000, LARGE), "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=60)
    for _ in range(2):
        answer = await proxy.ask("/v2/lab/app/manifests/v1")
        assert (answer.status, answer.body) == (200, img.manifest.body)
        assert answer.headers["Docker-Content-Digest"] == str(img.digest)
        assert answer.headers["Content-Type"] == img.manifest.media_type
        for blob in img.blobs:
            answer = await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}")
            assert (answer.status, answer.body) == (200, blob.body)
    assert upstream.count(kind="manifest") == 1
    assert upstream.count(kind="blob") == len(img.blobs)


async def test_many_clients_at_once_cause_one_fetch_and_get_bytes_before_it_ends(
    world: World, upstream: FakeRegistry
) -> None:
    img = upstream.add("app", image(LARGE), "v1")
    blob = img.blobs[1]
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=1_000_000, stall=held), kind="blob")
    proxy = await world.start({"lab": upstream})
    path = f"{proxy.url}/v2/lab/app/blobs/{blob.digest}"

    async def pull(started: asyncio.Event) -> bytes:
        async with proxy.client.get(path) as response:
            first = await response.content.readexactly(500_000)
            started.set()
            return first + await response.content.read()

    started = [asyncio.Event() for _ in range(16)]
    pulls = [asyncio.create_task(pull(event)) for event in started]
    async with asyncio.timeout(10):
        # All of them hold half a megabyte while the upstream is still stalled.
        await asyncio.gather(*(event.wait() for event in started))
        held.set()
        assert set(await asyncio.gather(*pulls)) == {blob.body}
    assert upstream.count(kind="blob") == 1
    assert await proxy.metric("entrepot_joins_total") == 15
