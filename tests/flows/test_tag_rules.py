"""Rules for tags by pattern: fresh for so long, never moving, never kept."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image

OLD, NEW = image(1000, seed="old"), image(1000, seed="new")
APP = "/v2/lab/app"


async def named(proxy: Running, tag: str, method: str = "GET") -> str | int:
    """The digest that a tag of `app` names for a client, or the status of a refusal."""
    answer = await proxy.ask(f"{APP}/manifests/{tag}", method)
    return answer.headers["Docker-Content-Digest"] if answer.status == 200 else answer.status


async def moved(
    world: World, upstream: FakeRegistry, tag: str, rules: list[dict[str, Any]], **settings: Any
) -> Running:
    """A proxy that has the old image of a tag which names the new one by now."""
    upstream.add("app", OLD, tag)
    proxy = await world.start({"lab": upstream}, tag_rules=rules, **settings)
    await proxy.pull(APP, OLD, tag)
    upstream.add("app", NEW, tag)
    upstream.seen.clear()
    return proxy


async def test_a_rule_says_how_long_its_tags_are_fresh(
    world: World, upstream: FakeRegistry
) -> None:
    rules = [{"match": "app:*-slim", "fresh_s": 3600}, {"match": "*:other", "fresh_s": 0}]
    proxy = await moved(world, upstream, "3-slim", rules)
    assert await named(proxy, "3-slim") == str(OLD.digest)
    assert upstream.seen == []
    upstream.add("app", OLD, "3")
    assert await named(proxy, "3") == str(OLD.digest)
    upstream.add("app", NEW, "3")
    assert await named(proxy, "3") == str(NEW.digest)


async def test_the_first_rule_that_matches_holds_and_an_upstreams_own_come_first(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    lab = {"url": upstream.url, "tag_rules": [{"match": "app:*", "fresh_s": 3600}]}
    rules = [{"match": "lab/*:v1", "fresh_s": 0}]
    proxy = await world.start({"lab": lab}, tag_rules=rules)
    assert await named(proxy, "v1") == str(OLD.digest)
    upstream.add("app", NEW, "v1")
    assert await named(proxy, "v1") == str(OLD.digest)


@pytest.mark.parametrize("match", ["*:v*", "lab/app:v1"])
async def test_an_immutable_tag_is_never_asked_about_again(
    world: World, upstream: FakeRegistry, match: str
) -> None:
    rules = [{"match": match, "immutable": True}]
    proxy = await moved(world, upstream, "v1", rules)
    for _ in range(3):
        for method in ("HEAD", "GET"):
            assert await named(proxy, "v1", method) == str(OLD.digest)
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream}, tag_rules=rules)
    assert await named(proxy, "v1") == str(OLD.digest)
    assert upstream.seen == []


async def test_an_immutable_tag_is_in_the_fast_lane_for_ever(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await moved(world, upstream, "v1", [{"match": "*:v*", "immutable": True}])
    assert await named(proxy, "v1") == str(OLD.digest)
    assert proxy.entrepot.status is not None
    (answer,) = [
        one
        for one in proxy.entrepot.status.servers[0].lane.answers.values()
        if one.known.served.kind == "manifest" and b"/v1 " in one.known.head
    ]
    assert answer.standing.holds(4e9)


async def test_a_tag_that_is_not_cached_is_asked_for_each_time_and_not_served_without(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await moved(
        world, upstream, "nightly-1", [{"match": "*:nightly*", "cache": False}], tag_fresh_s=3600
    )
    for expected in (NEW, OLD, NEW):
        upstream.add("app", expected, "nightly-1")
        for method in ("HEAD", "GET"):
            assert await named(proxy, "nightly-1", method) == str(expected.digest)
    assert upstream.count(kind="manifest", method="HEAD") == 6
    # Its content is content like any other.
    assert upstream.count(kind="manifest", method="GET") == 1
    records = proxy.entrepot.settings.data_dir / "repos" / "lab" / "app"
    assert not (records / "_tags").exists()
    assert not (records / "_history").exists()
    upstream.inject(Fault(status=502))
    assert await named(proxy, "nightly-1") == 503


async def test_an_uncached_tag_that_is_not_there_is_404(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream}, tag_rules=[{"match": "*:x", "cache": False}])
    answer = await proxy.ask(f"{APP}/manifests/x")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
