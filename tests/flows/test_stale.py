"""Something is held and the upstream can't say whether it still counts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Image, image, index

OLD, NEW = image(1000, 300_000, seed="old"), image(1000, 300_000, seed="new")
APP = "/v2/lab/app"
DOWN = Fault(status=502)


async def pulled(
    world: World, upstream: FakeRegistry, img: Image = OLD, **settings: float
) -> Running:
    """A proxy that holds all of `app:v1`."""
    upstream.add("app", img, "v1")
    proxy = await world.start({"lab": upstream}, **settings)
    await proxy.pull(APP, img, "v1")
    return proxy


@pytest.mark.parametrize("how", ["502", "429", "gone"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_whole_image_is_served_without_its_upstream_and_marked(
    world: World, upstream: FakeRegistry, how: str, restarted: bool
) -> None:
    proxy = await pulled(world, upstream)
    if restarted:
        await world.stack.aclose()
        proxy = await world.start({"lab": upstream})
    if how == "gone":
        await upstream.stop()
    else:
        upstream.inject(Fault(status=int(how)), times=None)
    for _ in range(5):  # before and after the breaker opens
        for method in ("GET", "HEAD"):
            answer = await proxy.ask(f"{APP}/manifests/v1", method)
            assert answer.status == 200
            assert answer.headers["Docker-Content-Digest"] == str(OLD.digest)
            words = "limits our requests" if how == "429" else "can't be reached"
            assert answer.headers["Warning"] == f'299 - "served stale: lab {words}"'
        answer = await proxy.ask(f"{APP}/manifests/{OLD.digest}")
        # What a digest names can't be out of date.
        assert (answer.status, answer.headers.get("Warning")) == (200, None)
    await proxy.pull(APP, OLD, "v1")
    reason = "limited" if how == "429" else "unreachable"
    assert await proxy.metric("entrepot_stale_answers_total", reason=reason) >= 10


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_an_image_that_cant_be_finished_is_not_begun_by_tag_or_digest(
    world: World, upstream: FakeRegistry, missing: int
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream})
    present = replace(OLD, blobs=OLD.blobs[:missing] + OLD.blobs[missing + 1 :])
    await proxy.pull(APP, present, "v1")
    upstream.inject(DOWN, times=None)
    for _ in range(3):
        answer = await proxy.ask(f"{APP}/manifests/v1")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    # By now it is known to be down.
    for reference in ("v1", OLD.digest):
        for method in ("GET", "HEAD"):
            assert (await proxy.ask(f"{APP}/manifests/{reference}", method)).status == 503
    # What is there is served to whoever comes for just that.
    assert (await proxy.ask(f"{APP}/blobs/{present.blobs[0].digest}")).status == 200


@pytest.mark.parametrize("reference", ["v1", str(OLD.digest)])
async def test_an_unfinished_image_is_served_again_when_its_upstream_is_back(
    world: World, upstream: FakeRegistry, reference: str
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull(APP, replace(OLD, blobs=()), "v1")
    upstream.inject(DOWN, times=None)
    for _ in range(3):
        assert (await proxy.ask(f"{APP}/manifests/other")).status == 503
    assert (await proxy.ask(f"{APP}/manifests/{reference}")).status == 503
    proxy.let_time_pass("lab", 61)
    assert (await proxy.ask(f"{APP}/manifests/{reference}")).status == 503
    upstream.heal()
    proxy.let_time_pass("lab", 61)
    # Nobody but this request could have noticed.
    answer = await proxy.ask(f"{APP}/manifests/{reference}")
    assert (answer.status, answer.body) == (200, OLD.manifest.body)
    assert "Warning" not in answer.headers


async def test_an_index_that_cant_be_finished_gives_way_to_the_image_before_it(
    world: World, upstream: FakeRegistry
) -> None:
    before = index(OLD, image(500, architecture="arm64"))
    after = index(NEW, image(600, architecture="arm64", seed="new"))
    upstream.add("app", before, "v1")
    proxy = await world.start({"lab": upstream})
    # One platform of it: nobody needs them all.
    await proxy.pull(
        APP, replace(before, manifests=(before.manifest, OLD.manifest), blobs=OLD.blobs), "v1"
    )
    upstream.add("app", after, "v1")
    assert (await proxy.ask(f"{APP}/manifests/v1")).body == after.manifest.body
    upstream.inject(DOWN, times=None)
    for _ in range(2):
        answer = await proxy.ask(f"{APP}/manifests/v1")
        assert (answer.status, answer.body) == (200, before.manifest.body)
        assert answer.headers["Docker-Content-Digest"] == str(before.digest)
        assert "previous image" in answer.headers["Warning"]
    # The rest of that pull.
    await proxy.pull(APP, OLD)


@pytest.mark.parametrize("fault", [DOWN, Fault(status=404), Fault(status=403), Fault(html=True)])
async def test_a_moved_tag_whose_new_manifest_cant_be_had_stays_where_it_was(
    world: World, upstream: FakeRegistry, fault: Fault
) -> None:
    proxy = await pulled(world, upstream)
    upstream.add("app", NEW, "v1")
    upstream.inject(fault, kind="manifest", method="GET")
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.status, answer.body) == (200, OLD.manifest.body)
    assert "served stale" in answer.headers["Warning"]
    upstream.inject(DOWN, times=None)
    # The record did not move ahead of its manifest.
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert answer.body == OLD.manifest.body
    assert "previous image" not in answer.headers["Warning"]


async def test_a_slow_upstream_is_not_waited_for_when_something_can_be_served(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await pulled(world, upstream, revalidate_budget_s=0.1)
    upstream.add("app", NEW, "v1")
    go = asyncio.Event()
    upstream.inject(Fault(delay=go), method="HEAD", times=None)
    began = time.monotonic()
    answers = await asyncio.gather(*(proxy.ask(f"{APP}/manifests/v1") for _ in range(10)))
    assert time.monotonic() - began < 2
    assert {answer.body for answer in answers} == {OLD.manifest.body}
    assert {answer.headers["Warning"] for answer in answers} == {
        '299 - "served stale: lab is slow to answer"'
    }
    # The question is still open, and whoever asks when it is answered hears it.
    waiting = asyncio.create_task(proxy.ask(f"{APP}/manifests/v1"))
    go.set()
    assert (await waiting).body == NEW.manifest.body
    assert upstream.count(kind="manifest", method="HEAD") == 1


async def test_a_slow_upstream_is_waited_for_when_nothing_else_can_be_served(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream}, revalidate_budget_s=0.05)
    await proxy.pull(APP, replace(OLD, blobs=()), "v1")
    go = asyncio.Event()
    upstream.inject(Fault(delay=go), method="HEAD")
    asyncio.get_running_loop().call_later(0.2, go.set)
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.status, answer.body) == (200, OLD.manifest.body)
    assert "Warning" not in answer.headers


async def test_a_new_manifest_that_is_slow_to_come_is_not_waited_for(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await pulled(world, upstream, revalidate_budget_s=0.1)
    upstream.add("app", NEW, "v1")
    go = asyncio.Event()
    upstream.inject(Fault(delay=go), kind="manifest", method="GET")
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.status, answer.body) == (200, OLD.manifest.body)
    assert "slow" in answer.headers["Warning"]
    waiting = asyncio.create_task(proxy.ask(f"{APP}/manifests/v1"))
    go.set()
    assert (await waiting).body == NEW.manifest.body
    assert upstream.count(kind="manifest", method="GET") == 2


async def test_records_of_a_name_that_now_means_another_registry_are_a_miss(
    world: World, upstream: FakeRegistry
) -> None:
    await pulled(world, upstream, tag_fresh_s=3600)
    await world.stack.aclose()
    async with FakeRegistry() as other:
        other.add("app", NEW, "v1")
        proxy = await world.start({"lab": other}, tag_fresh_s=3600)
        assert (await proxy.ask(f"{APP}/manifests/v1")).body == NEW.manifest.body
        assert (await proxy.ask(f"{APP}/manifests/{OLD.digest}")).status == 404
        assert (await proxy.ask(f"{APP}/blobs/{OLD.blobs[1].digest}")).status == 404
        assert (await proxy.ask(f"{APP}/blobs/{OLD.blobs[1].digest}", "HEAD")).status == 404
        await other.stop()
        proxy_tags = await proxy.ask(f"{APP}/tags/list")
        assert proxy_tags.body == b'{"name":"lab/app","tags":["v1"]}'


async def test_held_tags_of_another_registry_are_not_listed_in_an_outage(
    world: World, upstream: FakeRegistry
) -> None:
    await pulled(world, upstream)
    await world.stack.aclose()
    async with FakeRegistry() as other:
        proxy = await world.start({"lab": other})
        await other.stop()
        assert (await proxy.ask(f"{APP}/tags/list")).status == 503
