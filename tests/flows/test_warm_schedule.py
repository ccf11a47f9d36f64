"""Warm-ups at their times, by a whole proxy: what was missed while it was off is made up
for when it starts, so no test waits for a minute to come.
"""

from __future__ import annotations

from typing import Any

from proxy.cache import keys
from proxy.warming.plans import plans
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image, index
from tests.support.waiting import until

AMD64, ARM64 = image(200_000, seed="amd"), image(500, seed="arm", architecture="arm64")
NEW_AMD64 = image(250_000, seed="new amd")
NEW_ARM64 = image(600, seed="new arm", architecture="arm64")
LONG_AGO = b'{"v": 1, "due": 1000.0, "sums": null}'


async def noted_as_missed(proxy: Running) -> None:
    """Its plans were done last long ago."""
    assert proxy.entrepot.status is not None
    records = proxy.entrepot.status._backing.records
    for plan in plans(proxy.entrepot.settings.warm):
        key = keys.warm_up(plan.identity)
        # It writes its own first note when it starts.
        await until(lambda key=key: records.get(key), "its first note is there")
        await records.put(key, LONG_AGO)


async def done(proxy: Running) -> list[dict[str, Any]]:
    """How its plans went, once they have all been done."""
    url = f"http://{proxy.entrepot.admin_address}/warm"

    async def all_done() -> dict[str, Any] | None:
        async with proxy.client.get(url) as response:
            told: dict[str, Any] = await response.json()
        return told if all(one["last"] for one in told["schedule"]) else None

    return list((await until(all_done, "all plans have been done"))["schedule"])


async def test_a_scheduled_warm_up_brings_its_images(world: World, upstream: FakeRegistry) -> None:
    upstream.add("app", index(AMD64, ARM64), "v1")
    run = {"cron": "0 2 * * *", "images": ["lab/app:v1"], "platforms": ["all"]}
    warm = {"schedule": [run]}
    await noted_as_missed(await world.start({"lab": upstream}, warm=warm))
    await world.stack.aclose()
    assert upstream.seen == []
    proxy = await world.start({"lab": upstream}, warm=warm)
    (told,) = await done(proxy)
    assert (told["plan"], told["went"]["complete"]) == ("schedule[0]", True)
    await upstream.stop()
    await proxy.pull("/v2/lab/app", index(AMD64, ARM64), "v1")


async def test_the_tags_that_people_pull_are_brought_up_to_date_for_their_platforms(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", index(AMD64, ARM64), "v1")
    upstream.add("never", image(100, seed="never"), "v1")
    # What is configured differs from what people pull.
    settings: dict[str, Any] = {"warm": {"learned": {}, "platforms": ["linux/amd64"]}}
    first = await world.start({"lab": upstream}, **settings)
    await first.ask("/v2/lab/app/manifests/v1")
    await first.pull("/v2/lab/app", ARM64, str(ARM64.digest))
    await noted_as_missed(first)
    await world.stack.aclose()

    upstream.add("app", index(NEW_AMD64, NEW_ARM64), "v1")
    proxy = await world.start({"lab": upstream}, **settings)
    (told,) = await done(proxy)
    assert (told["plan"], told["went"]["complete_images"]) == ("learned", 1)
    fetched = {one.reference for one in upstream.requests(kind="blob", method="GET")}
    assert {str(one.digest) for one in NEW_ARM64.blobs} <= fetched
    assert fetched.isdisjoint(str(one.digest) for one in NEW_AMD64.blobs)
    assert not any(one.repository == "never" for one in upstream.seen)
    await upstream.stop()
    answer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert answer.sha256 == str(index(NEW_AMD64, NEW_ARM64).digest)
    await proxy.pull("/v2/lab/app", NEW_ARM64, str(NEW_ARM64.digest))


async def test_a_warm_up_whose_list_can_not_be_read_is_counted(
    world: World, upstream: FakeRegistry
) -> None:
    run = {"cron": "0 2 * * *", "file": str(world.root / "absent")}
    warm = {"schedule": [run]}
    await noted_as_missed(await world.start({"lab": upstream}, warm=warm))
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream}, warm=warm)
    await until(
        lambda: proxy.metric("entrepot_warm_failures_total", trigger="schedule"), "it has failed"
    )
    assert await proxy.metric("entrepot_warm_images_total") == 0
    await proxy.pull("/v2/lab/app", upstream.add("app", AMD64, "v1"), "v1")
