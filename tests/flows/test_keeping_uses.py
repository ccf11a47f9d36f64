"""Commands know of every pull that has had its answer, whatever the background is doing."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.web import fastlane
from proxy.web.fastlane import FastLane
from proxy.web.server import PullServer
from tests.flows.conftest import Running, World
from tests.flows.kept import here, listed, still, told
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image

DAY_S = 86_400.0


def lane_of(proxy: Running) -> FastLane:
    assert proxy.entrepot.status is not None
    server = proxy.entrepot.status.servers[0]
    assert isinstance(server, PullServer)
    assert server.lane is not None
    return server.lane


async def asked_often(proxy: Running, tag: str) -> None:
    """The fast lane answers it from now on, and has told of all that it answered."""
    for _ in range(4):
        await proxy.ask(f"/v2/lab/app/manifests/{tag}")
    lane_of(proxy).flush()
    await told(proxy, "ls")


async def asked_much_later(proxy: Running, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more, by the fast lane, which has not told of it yet."""
    assert proxy.entrepot.status is not None
    uses = proxy.entrepot.status._cache.uses
    monkeypatch.setattr(uses, "_monotonic", lambda: time.monotonic() + DAY_S)
    await proxy.ask(f"/v2/lab/app/manifests/{tag}")
    assert len(lane_of(proxy)._used) == 1


async def test_a_pull_that_was_just_answered_is_the_last_one(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    still(monkeypatch)
    monkeypatch.setattr(fastlane, "_FLUSH_S", 3600.0)
    one = upstream.add("app", image(1000), "v1")
    now = start = time.time()
    world.clock = lambda: now
    proxy = await world.start({"lab": upstream}, tag_fresh_s=10 * DAY_S)
    await proxy.pull("/v2/lab/app", one, "v1")
    assert (await listed(proxy))["lab/app:v1"]["pulled_at"] == start
    # And one that the fast lane answers, which tells of it later.
    await asked_often(proxy, "v1")
    now = start + DAY_S
    await asked_much_later(proxy, "v1", monkeypatch)
    assert (await listed(proxy))["lab/app:v1"]["pulled_at"] == now


async def test_retention_counts_pulls_that_were_just_answered(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    still(monkeypatch)
    monkeypatch.setattr(fastlane, "_FLUSH_S", 3600.0)
    rules = [{"match": "*", "unused_s": "14d"}]
    idle, busy = (upstream.add("app", image(1000, seed=tag), tag) for tag in ("idle", "busy"))
    now = start = time.time()
    world.clock = lambda: now
    proxy = await world.start({"lab": upstream}, keep={"retention": rules}, tag_fresh_s=100 * DAY_S)
    await proxy.pull("/v2/lab/app", idle, "idle")
    await proxy.pull("/v2/lab/app", busy, "busy")
    await asked_often(proxy, "busy")
    now = start + 20 * DAY_S
    await asked_much_later(proxy, "busy", monkeypatch)
    (done,) = await told(proxy, "evict")
    assert [one["image"] for one in done["images"]] == ["lab/app:idle"]
    assert here(world, busy) == [True]


async def test_a_removed_image_has_no_pull_left_to_note(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    still(monkeypatch)
    one = upstream.add("app", image(1000), "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull("/v2/lab/app", one, "v1")
    await told(proxy, "rm", "lab/app:v1")
    await told(proxy, "warm", "lab/app:v1")
    assert (await listed(proxy))["lab/app:v1"]["pulled_at"] is None


async def test_uses_that_are_being_noted_are_waited_for(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    backgrounds = still(monkeypatch)
    one = upstream.add("app", image(1000), "v1")
    proxy = await world.start({"lab": upstream})
    # By its digest, so that no tag moves, which comes first.
    await proxy.pull("/v2/lab/app", one)
    noting = asyncio.create_task(backgrounds[0].note_uses())
    await asyncio.sleep(0)
    await backgrounds[0].hear_of_uses()
    assert noting.done()
