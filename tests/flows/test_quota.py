"""An upstream that counts pulls, as Docker Hub does: what is spent, and on whom."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy.cache.traffic import Urgency, working_as
from proxy.cli import app
from proxy.config import load
from proxy.doctor.upstreams import examine
from proxy.errors import QuotaKept
from proxy.oci.names import Repository, Tag
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeAuth, FakeRegistry, Quirks
from tests.support.images import image, index

OLD, NEW, OTHER = image(1000, seed="old"), image(1000, seed="new"), image(1000, seed="other")
APP = "/v2/lab/app"
SAVED = '299 - "served stale: lab has few pulls left for us"'


def spent(upstream: FakeRegistry) -> int:
    return upstream.count(kind="manifest", method="GET")


def lab(upstream: FakeRegistry, **settings: Any) -> dict[str, dict[str, Any]]:
    return {"lab": {"url": upstream.url, **settings}}


async def serve(proxy: Running, tag: str) -> object:
    """As a warm-up asks for a tag."""
    assert proxy.entrepot.status is not None
    cache = proxy.entrepot.status._cache
    upstream = proxy.entrepot.status._upstreams["lab"]
    return await cache.tags.serve(upstream, Repository.parse("app"), Tag.parse(tag), body=True)


async def test_below_the_reserve_a_tag_that_moved_is_answered_with_what_is_held(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.quirks.quota = 12
    proxy = await world.start(lab(upstream))
    await proxy.pull(APP, OLD, "v1")
    upstream.add("app", NEW, "v1")
    upstream.quirks.quota = 10  # A tenth of the limit; somebody else spends, too.
    assert (await proxy.ask(f"{APP}/manifests/other")).status == 404  # Tells of it.
    upstream.quirks.quota = 10
    before = spent(upstream)
    for method in ("GET", "HEAD", "GET"):
        answer = await proxy.ask(f"{APP}/manifests/v1", method)
        assert answer.headers["Docker-Content-Digest"] == str(OLD.digest)
        assert answer.headers["Warning"] == SAVED
    await proxy.pull(APP, OLD, "v1")
    assert spent(upstream) == before
    # Nobody has it, and somebody waits for it.
    upstream.add("app", OTHER, "v2")
    assert (await proxy.ask(f"{APP}/manifests/v2")).body == OTHER.manifest.body
    assert spent(upstream) == before + 1
    assert await proxy.metric("entrepot_stale_answers_total", reason="quota") == 4
    # The window ends: the next question is free and tells so.
    upstream.quirks.quota = 100
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.body, answer.headers.get("Warning")) == (NEW.manifest.body, None)


async def test_a_manifest_that_is_held_costs_nothing_so_its_tag_moves(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.add("app", NEW, "v2")
    upstream.quirks.quota = 12
    proxy = await world.start(lab(upstream, quota_reserve=50))
    await proxy.pull(APP, OLD, "v1")
    await proxy.pull(APP, NEW, "v2")
    upstream.add("app", NEW, "v1")
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.body, answer.headers.get("Warning")) == (NEW.manifest.body, None)
    assert upstream.quirks.quota == 10


async def test_what_is_too_old_is_fetched_in_spite_of_the_reserve(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.quirks.quota = 12
    proxy = await world.start(lab(upstream, quota_reserve=50, tag_stale_max_s=0))
    await proxy.pull(APP, OLD, "v1")
    upstream.add("app", NEW, "v1")
    assert (await proxy.ask(f"{APP}/manifests/v1")).body == NEW.manifest.body


@pytest.mark.parametrize("quota", [None, 100])
async def test_without_a_quota_or_with_plenty_left_nothing_is_saved(
    world: World, upstream: FakeRegistry, quota: int | None
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.quirks.quota = quota
    proxy = await world.start(lab(upstream))
    await proxy.pull(APP, OLD, "v1")
    upstream.add("app", NEW, "v1")
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.body, answer.headers.get("Warning")) == (NEW.manifest.body, None)


async def test_where_even_asking_takes_a_get_nobody_is_asked_below_the_reserve(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.quirks.quota, upstream.quirks.head_status = 20, 405
    proxy = await world.start(lab(upstream, quota_reserve=18))
    await proxy.pull(APP, OLD, "v1")
    assert (await proxy.ask(f"{APP}/manifests/v1")).headers.get("Warning") is None
    before = upstream.quirks.quota
    assert before == 18
    for _ in range(3):
        assert (await proxy.ask(f"{APP}/manifests/v1")).headers["Warning"] == SAVED
    assert upstream.quirks.quota == before


async def test_with_none_left_what_is_held_is_served_and_the_rest_is_told_fast(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.add("app", OTHER, "v2")
    upstream.quirks.quota = 1
    proxy = await world.start(lab(upstream))
    await proxy.pull(APP, OLD, "v1")
    upstream.add("app", NEW, "v1")
    before = spent(upstream)
    assert (await proxy.ask(f"{APP}/manifests/v1")).headers["Warning"] == SAVED
    for reference in ("v2", str(OTHER.digest)):
        answer = await proxy.ask(f"{APP}/manifests/{reference}")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        assert b"no pulls left" in answer.body
    assert spent(upstream) == before
    # What does not count goes on.
    assert (await proxy.ask(f"{APP}/manifests/v2", "HEAD")).status == 200
    assert (await proxy.ask(f"{APP}/blobs/{OTHER.blobs[1].digest}")).status == 200
    upstream.quirks.quota = 50
    assert (await proxy.ask(f"{APP}/manifests/v2", "HEAD")).status == 200
    assert (await proxy.ask(f"{APP}/manifests/v2")).body == OTHER.manifest.body


async def test_warm_up_never_spends_below_its_mark_and_is_told_so(
    world: World, upstream: FakeRegistry
) -> None:
    for number in range(5):
        upstream.add("app", image(500, seed=str(number)), f"v{number}")
    upstream.quirks.quota = 32
    proxy = await world.start(lab(upstream))
    for urgency in (Urgency.WARM, Urgency.REFRESH):
        kept = 0
        with working_as(urgency):
            for number in range(5):
                try:
                    await serve(proxy, f"v{number}")
                except QuotaKept:
                    kept += 1
        assert (kept, upstream.quirks.quota) == (3, 30)
    # One that it holds, and that moved: not answered with the old one.
    upstream.add("app", NEW, "v0")
    with working_as(Urgency.WARM), pytest.raises(QuotaKept):
        await serve(proxy, "v0")
    assert (await proxy.ask(f"{APP}/manifests/v4")).status == 200
    assert upstream.quirks.quota == 29
    kept_s = await proxy.metric("entrepot_upstream_quota_pulls_total", outcome="kept")
    assert kept_s == 7
    assert await proxy.metric("entrepot_stale_answers_total", reason="quota") == 0


async def test_somebody_who_waits_gets_what_a_warm_up_asked_for_first(
    world: World, upstream: FakeRegistry
) -> None:
    images = [image(500, seed=str(number)) for number in range(5)]
    for number, one in enumerate(images):
        upstream.add("app", one, f"v{number}")
    upstream.quirks.quota = 20
    proxy = await world.start(lab(upstream))
    assert (await proxy.ask(f"{APP}/manifests/none")).status == 404  # Tells how few there are.
    for number, one in enumerate(images):
        async with asyncio.TaskGroup() as group:
            with working_as(Urgency.WARM):
                warm = group.create_task(outcome_of(serve(proxy, f"v{number}")))
            answer = group.create_task(proxy.ask(f"{APP}/manifests/v{number}"))
        assert answer.result().body == one.manifest.body
        assert warm.result() in {"QuotaKept", ""}


async def test_none_left_is_429_where_the_operator_wants_it(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    upstream.quirks.quota = 0
    proxy = await world.start(lab(upstream, relay_429=True))
    assert (await proxy.ask(f"{APP}/manifests/v1", "HEAD")).status == 200
    answer = await proxy.ask(f"{APP}/manifests/v1")
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert int(answer.headers["Retry-After"]) > 0
    assert spent(upstream) == 0


async def outcome_of(work: Any) -> str:
    try:
        await work
    except QuotaKept as error:
        return type(error).__name__
    return ""


# --- several logins -----------------------------------------------------------


def two(upstream: FakeRegistry, **settings: Any) -> dict[str, dict[str, Any]]:
    logins = [{"username": "bert", "password": "b"}, {"username": "carl", "password": "c"}]
    return lab(upstream, username="anna", password="a", credentials=logins, **settings)


def shared_hub(**quotas: int) -> FakeRegistry:
    auth = FakeAuth(users={"anna": "a", "bert": "b", "carl": "c"}, private={"secret"})
    made = FakeRegistry(Quirks(quotas=quotas), auth)
    for number in range(9):
        made.add("app", image(500, seed=str(number)), f"v{number}")
    made.add("secret", OTHER, "v1")
    return made


async def test_logins_are_used_in_turn_and_a_limited_one_is_passed_over(world: World) -> None:
    async with shared_hub(anna=40, bert=40, carl=0) as upstream:
        proxy = await world.start(two(upstream, expose="all"))
        for number in range(9):
            answer = await proxy.ask(f"{APP}/manifests/v{number}")
            assert (answer.status, answer.headers.get("Warning")) == (200, None)
        assert sorted(upstream.quirks.quotas.values()) == [0, 35, 36]
        # carl was tried once, got a 429, and another went instead.
        assert [one.user for one in upstream.seen if one.status == 429] == ["carl"]
        assert (await proxy.status())["upstreams"]["lab"]["state"] == "ok"


async def test_several_logins_show_nobody_what_a_stranger_may_not_see(world: World) -> None:
    async with shared_hub(anna=40, bert=40, carl=40) as upstream:
        proxy = await world.start(two(upstream))
        await proxy.pull(APP, image(500, seed="1"), "v1")
        for tail in ("manifests/v1", f"blobs/{OTHER.blobs[1].digest}"):
            assert (await proxy.ask(f"/v2/lab/secret/{tail}")).status == 403
        # Not by another repository's name either.
        assert (await proxy.ask(f"{APP}/blobs/{OTHER.blobs[1].digest}")).status == 404


# --- what is told of it ---------------------------------------------------------


async def test_the_page_and_the_command_tell_what_is_left_and_who_spent_it(
    world: World, tmp_path: Any
) -> None:
    async with shared_hub(anna=40, bert=30, carl=12) as upstream:
        proxy = await world.start(two(upstream, expose="all"))
        for number in range(6):
            assert (await proxy.ask(f"{APP}/manifests/v{number}")).status == 200
        url = f"http://{proxy.entrepot.admin_address}"
        async with proxy.client.get(f"{url}/quota") as response:
            told = (await response.json())["upstreams"]["lab"]
        assert (told["limit"], told["remaining"], told["reserve"]) == (300, 76, 30)
        assert [one["name"] for one in told["credentials"]] == ["an…a", "be…t", "ca…l"]
        assert [one["remaining"] for one in told["credentials"]] == [36, 29, 11]
        assert told["credentials"][0]["window_s"] == 21600
        assert told["credentials"][0]["counted_by"] == "account"
        assert told["images"] == [{"image": "lab/app", "pulls": 6}]
        assert told["clients"] == [{"client": "127.0.0.0/24", "pulls": 6}]
        assert (told["saving"], told["forecast"]["lasts"]) == (False, False)
        assert await proxy.metric("entrepot_upstream_quota_reserve", upstream="lab") == 30
        runs_out_s = await proxy.metric("entrepot_upstream_quota_runs_out_seconds")
        assert 0 < runs_out_s < 21600
        assert "anna" not in json.dumps(told)
        async with proxy.client.get(f"{url}/quota?top=0") as response:
            assert response.status == 400
        shown = await asyncio.to_thread(
            CliRunner().invoke, app, ["quota", "--admin", url, "--config", str(tmp_path / "none")]
        )
        assert shown.exit_code == 0, shown.output
        assert "lab: 76 of 300 pulls left, runs out at " in shown.output
        assert "     6  lab/app" in shown.output
        as_json = await asyncio.to_thread(
            CliRunner().invoke, app, ["quota", "--admin", url, "--json"]
        )
        assert json.loads(as_json.output)["upstreams"]["lab"]["remaining"] == 76


async def test_the_doctor_and_explain_name_the_logins(world: World, tmp_path: Any) -> None:
    async with shared_hub(anna=40) as upstream:
        settings = {"presets": False, "default_upstream": "lab", "data_dir": str(tmp_path)}
        good = load(None, {}, {**settings, "upstreams": two(upstream)})
        assert {one.state for one in await examine(good)} == {"ok"}
        assert upstream.auth is not None
        upstream.auth.users["bert"] = "rotated"
        (trouble,) = [one for one in await examine(good) if one.state == "fail"]
        assert "refuses the login be…t" in trouble.what
        proxy = await world.start(two(upstream))
        url = f"http://{proxy.entrepot.admin_address}/explain?image=lab/app:v1"
        async with proxy.client.get(url) as response:
            told = await response.json()
        assert told["upstream"]["credentials"] == "users anna, bert, carl"


async def test_upstreams_that_count_nothing_are_not_told_of(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OLD, "v1")
    proxy = await world.start(lab(upstream), savings_clients=False)
    url = f"http://{proxy.entrepot.admin_address}"
    await proxy.pull(APP, OLD, "v1")
    async with proxy.client.get(f"{url}/quota") as response:
        assert await response.json() == {"upstreams": {}}
    shown = await asyncio.to_thread(CliRunner().invoke, app, ["quota", "--admin", url])
    assert shown.output == "no upstream has spoken of a quota\n"
    upstream.quirks.quota = 50
    upstream.add("app", NEW, "v2")
    await proxy.pull(APP, NEW, "v2")
    async with proxy.client.get(f"{url}/quota") as response:
        told = (await response.json())["upstreams"]["lab"]
    assert (told["credentials"][0]["name"], told["clients"]) == ("anonymous", None)


async def test_an_index_and_its_image_cost_two_pulls_of_one_repository(
    world: World, upstream: FakeRegistry
) -> None:
    whole = index(OLD, image(500, architecture="arm64"))
    upstream.add("app", whole, "v1")
    upstream.quirks.quota = 100
    proxy = await world.start(lab(upstream))
    assert (await proxy.ask(f"{APP}/manifests/v1")).status == 200
    assert (await proxy.ask(f"{APP}/manifests/{OLD.digest}")).status == 200
    assert await proxy.metric("entrepot_upstream_quota_pulls_total", outcome="counted") == 2
