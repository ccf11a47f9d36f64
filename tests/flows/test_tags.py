"""What a tag names now: how often the upstream is asked, and what is written down."""

from __future__ import annotations

import asyncio

import pytest

from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeAuth, FakeRegistry, Fault
from tests.support.images import image

OLD, NEW = image(1000, seed="old"), image(1000, seed="new")
APP = "/v2/lab/app"


async def named(proxy: Running, method: str = "HEAD") -> str | int:
    """The digest that `app:v1` names for a client, or the status of a refusal."""
    answer = await proxy.ask(f"{APP}/manifests/v1", method)
    return answer.headers["Docker-Content-Digest"] if answer.status == 200 else answer.status


async def test_a_fresh_tag_is_answered_without_asking(world: World, upstream: FakeRegistry) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=60)
    assert await named(proxy, "GET") == str(OLD.digest)
    upstream.add("app", NEW, "v1")
    for method in ("GET", "HEAD", "GET"):
        assert await named(proxy, method) == str(OLD.digest)
    assert len(upstream.seen) == 1


async def test_an_upstreams_own_freshness_goes_before_the_general_one(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    lab = {"url": upstream.url, "tag_fresh_s": 0}
    proxy = await world.start({"lab": lab}, tag_fresh_s=60)
    assert await named(proxy, "GET") == str(OLD.digest)
    upstream.add("app", NEW, "v1")
    assert await named(proxy, "GET") == str(NEW.digest)


async def test_an_unchanged_tag_costs_one_head_and_no_get(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream})
    for _ in range(5):
        assert await named(proxy, "GET") == str(OLD.digest)
    assert upstream.count(kind="manifest", method="GET") == 1
    assert upstream.count(kind="manifest", method="HEAD") == 4


async def test_fifty_clients_that_ask_at_once_cause_one_question(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream})
    held = asyncio.Event()
    for number, expected in ((1, OLD), (2, OLD), (3, NEW)):
        if expected is NEW:
            upstream.add("app", NEW, "v1")
        held.clear()
        upstream.inject(Fault(delay=held), kind="manifest")
        asked = [asyncio.create_task(named(proxy, "GET")) for _ in range(50)]
        await upstream.wait_requests(number, kind="manifest")
        held.set()
        assert set(await asyncio.gather(*asked)) == {str(expected.digest)}
        assert upstream.count(kind="manifest", method="GET") == (1 if expected is OLD else 2)
    # First a GET; then a HEAD; then a HEAD and the GET of what it named.
    assert upstream.count(kind="manifest") == 4
    assert await proxy.metric("entrepot_tag_moves_total") == 2


async def test_clients_that_only_compare_digests_cost_no_pull(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.quirks.quota = 100
    proxy = await world.start({"lab": upstream}, tag_fresh_s=60)
    for _ in range(3):
        assert await named(proxy) == str(OLD.digest)
    upstream.add("app", NEW, "v1")
    assert await named(proxy) == str(NEW.digest)
    assert upstream.quirks.quota == 100
    assert upstream.count(kind="manifest", method="GET") == 0


@pytest.mark.parametrize("held_before", [False, True])
async def test_head_by_tag_and_get_by_digest_make_a_tag_that_survives_the_upstream(
    world: World, upstream: FakeRegistry, held_before: bool
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream})
    if held_before:
        await proxy.pull(APP, OLD, "v1")
        upstream.add("app", NEW, "v1")
    current = NEW if held_before else OLD
    # As containerd does it: the tag is never asked for with GET.
    assert await named(proxy) == str(current.digest)
    await proxy.pull(APP, current)
    await upstream.stop()
    for method in ("HEAD", "GET"):
        answer = await proxy.ask(f"{APP}/manifests/v1", method)
        assert answer.headers["Docker-Content-Digest"] == str(current.digest)
        assert "previous" not in answer.headers["Warning"]


async def test_head_of_a_moved_tag_alone_does_not_lose_the_image_that_is_held(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.pull(APP, OLD, "v1")
    upstream.add("app", NEW, "v1")
    assert await named(proxy) == str(NEW.digest)
    await upstream.stop()
    assert await named(proxy) == str(OLD.digest)


async def test_a_tag_that_moves_to_an_image_that_is_held_costs_one_head(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.add("app", NEW, "v2")
    proxy = await world.start({"lab": upstream})
    await proxy.pull(APP, OLD, "v1")
    await proxy.pull(APP, NEW, "v2")
    gets = upstream.count(kind="manifest", method="GET")
    upstream.repositories["app"].tags["v1"] = NEW.digest
    assert await named(proxy) == str(NEW.digest)
    assert await named(proxy, "GET") == str(NEW.digest)
    assert upstream.count(kind="manifest", method="GET") == gets
    await upstream.stop()
    assert await named(proxy) == str(NEW.digest)


async def test_a_deleted_tag_is_404_and_stays_so_without_the_upstream(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream}, negative_s=0)
    await proxy.pull(APP, OLD, "v1")
    del upstream.repositories["app"].tags["v1"]
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    upstream.inject(Fault(status=502))
    assert await named(proxy) == 503
    upstream.add("app", NEW, "v1")
    assert await named(proxy, "GET") == str(NEW.digest)


@pytest.mark.parametrize("tail", ["manifests/none", f"manifests/sha256:{'0' * 64}"])
async def test_what_is_not_there_is_asked_for_once_in_a_while(
    world: World, upstream: FakeRegistry, tail: str
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream}, negative_s=60)
    for method in ("GET", "HEAD", "GET"):
        assert (await proxy.ask(f"{APP}/{tail}", method)).status == 404
    assert len(upstream.seen) == 1
    # Another repository's absence is another one.
    assert (await proxy.ask(f"/v2/lab/other/{tail}")).status == 404
    assert len(upstream.seen) == 2


async def test_what_appears_is_noticed_when_absence_is_no_longer_remembered(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", NEW, "v2")
    proxy = await world.start({"lab": upstream}, negative_s=0)
    assert await named(proxy, "GET") == 404
    upstream.add("app", OLD, "v1")
    assert await named(proxy, "GET") == str(OLD.digest)


@pytest.mark.parametrize("stale_max_s", [0, 3600])
async def test_revoked_credentials_are_stale_for_a_time_and_then_the_truth(
    world: World, stale_max_s: int
) -> None:
    auth = FakeAuth(users={"me": "secret"}, private={"app"})
    async with FakeRegistry(auth=auth) as upstream:
        upstream.add("app", OLD, "v1")
        lab = {"url": upstream.url, "username": "me", "password": "secret", "expose": "all"}
        proxy = await world.start({"lab": lab}, tag_stale_max_s=stale_max_s)
        await proxy.pull(APP, OLD, "v1")
        auth.users.clear()
        auth.revoke()
        answer = await proxy.ask(f"{APP}/manifests/v1")
        if stale_max_s:
            assert (answer.status, answer.body) == (200, OLD.manifest.body)
            assert "lab refuses our requests" in answer.headers["Warning"]
        else:
            assert (answer.status, answer.code) == (403, "DENIED")
        auth.users["me"] = "secret"
        answer = await proxy.ask(f"{APP}/manifests/v1")
        assert (answer.status, answer.headers.get("Warning")) == (200, None)


async def test_tags_and_their_images_survive_a_restart(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull(APP, OLD, "v1")
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    before = len(upstream.seen)
    await proxy.pull(APP, OLD, "v1")
    assert len(upstream.seen) == before
