"""`warm`: images brought before anybody asks for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from proxy import cli
from tests.flows.conftest import DEADLINE_S, Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, Image, artifact, image, index
from tests.support.waiting import until

AMD64 = image(300_000, 2_000_000, seed="amd")
ARM64 = image(500, 400_000, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)

Line = dict[str, Any]


async def warmed(proxy: Running, *images: str, **more: Any) -> tuple[list[Line], Line]:
    """All lines of a warm-up, and the last one."""
    url = f"http://{proxy.entrepot.admin_address}/warm"
    body = {"images": list(images), "platforms": ["linux/amd64"], **more}
    async with asyncio.timeout(DEADLINE_S):
        async with proxy.client.post(url, json=body) as response:
            assert response.status == 200, await response.text()
            lines = [json.loads(line) async for line in response.content]
    return lines, lines[-1]


def ended(lines: Iterable[Line]) -> dict[str, Line]:
    """By image, how it ended."""
    return {one["image"]: one for one in lines if one.get("state") in {"complete", "incomplete"}}


def asked(upstream: FakeRegistry, kind: Literal["blob", "manifest"], *images: Image) -> list[int]:
    """How often each blob, or manifest, of these was asked for by GET."""
    parts = [part for one in images for part in (one.blobs if kind == "blob" else one.manifests)]
    seen = [one.reference for one in upstream.requests(kind=kind, method="GET")]
    return [seen.count(str(one.digest)) for one in parts]


def of(content: Content) -> dict[str, Any]:
    """For `inject`: the requests for these bytes."""
    return {"kind": "blob", "match": lambda seen: seen.reference == str(content.digest)}


async def test_what_was_warmed_is_served_with_the_upstream_gone(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    lines, last = await warmed(proxy, "lab/app:v1")
    assert (last["done"], last["complete"], last["images"]) == (True, True, 1)
    assert last["fetched_bytes"] == sum(one.size for one in AMD64.blobs)
    assert ended(lines)["lab/app:v1"]["pieces"] == 1 + 1 + len(AMD64.blobs)
    labels = {"trigger": "asked", "outcome": "complete"}
    assert await proxy.metric("entrepot_warm_images_total", **labels) == 1
    fetched = await proxy.metric("entrepot_warm_fetched_bytes_total", trigger="asked")
    assert fetched == last["fetched_bytes"]
    await upstream.stop()
    answer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert (answer.status, answer.sha256) == (200, str(BOTH.digest))
    await proxy.pull("/v2/lab/app", AMD64, str(AMD64.digest))


async def test_only_the_chosen_platforms_are_fetched_and_the_index_stays_what_it_is(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    await warmed(proxy, "lab/app:v1", platforms=["linux/arm64"])
    assert set(asked(upstream, "blob", ARM64)) == {1}
    assert set(asked(upstream, "blob", AMD64)) == {0}
    assert asked(upstream, "manifest", AMD64) == [0]
    _, last = await warmed(proxy, "lab/app:v1", platforms=["all"])
    assert last["complete"] is True
    assert set(asked(upstream, "blob", ARM64, AMD64)) == {1}


async def test_a_platform_that_an_image_does_not_have_is_told(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    upstream.add("plain", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    lines, last = await warmed(proxy, "lab/app:v1", "lab/plain:v1", platforms=["linux/s390x"])
    assert ended(lines)["lab/app:v1"]["reason"] == "has nothing for linux/s390x"
    # An image that is no index does not say what it is for.
    assert ended(lines)["lab/plain:v1"]["state"] == "complete"
    assert (last["complete"], last["complete_images"]) == (False, 1)
    lines, last = await warmed(proxy, "lab/app:v1", platforms=["linux/amd64", "linux/s390x"])
    assert last["complete"] is True
    assert ended(lines)["lab/app:v1"]["absent_platforms"] == ["linux/s390x"]


async def test_signatures_and_attestations_come_along_unless_they_are_not_wanted(
    world: World, upstream: FakeRegistry
) -> None:
    sbom, signature = artifact(AMD64), image(700, seed="signature")
    upstream.add("app", AMD64, "v1")
    upstream.add("app", sbom)
    upstream.add("app", signature, f"sha256-{AMD64.digest.hex}.sig")
    upstream.add("other", image(600, seed="other"), "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await warmed(proxy, "lab/app:v1", referrers=False)
    assert set(asked(upstream, "blob", sbom, signature)) == {0}
    _, last = await warmed(proxy, "lab/app:v1")
    assert last["complete"] is True
    assert set(asked(upstream, "blob", sbom, signature)) == {1}
    await upstream.stop()
    found = await proxy.ask(f"/v2/lab/app/referrers/{AMD64.digest}")
    assert [one["digest"] for one in json.loads(found.body)["manifests"]] == [str(sbom.digest)]
    await proxy.pull("/v2/lab/app", sbom, str(sbom.digest))
    await proxy.pull("/v2/lab/app", signature, f"sha256-{AMD64.digest.hex}.sig")


async def test_what_is_here_costs_nothing_the_second_time(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream})
    await warmed(proxy, "lab/app:v1")
    lines, last = await warmed(proxy, "lab/app:v1")
    assert (last["complete"], last["fetched_bytes"]) == (True, 0)
    assert set(asked(upstream, "blob", AMD64)) == {1}
    assert {one["state"] for one in lines if "layer" in one} == {"held"}


async def test_one_image_that_fails_stops_no_other_and_is_told(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    upstream.add("broken", ARM64, "v1")
    lost = ARM64.layers[1]
    upstream.inject(Fault(status=404), times=None, **of(lost))
    proxy = await world.start({"lab": upstream})
    names = ("lab/none:v1", "UPPER/x", "nowhere.example:5000/x", "lab/broken:v1", "lab/app:v1")
    lines, last = await warmed(proxy, *names)
    told = ended(lines)
    assert told["lab/app:v1"]["state"] == "complete"
    assert {name for name in names if told[name]["state"] == "incomplete"} == set(names[:4])
    assert all(told[name]["reason"] for name in names[:3])
    (missing,) = told["lab/broken:v1"]["missing"]
    assert (missing["digest"], missing["size"]) == (str(lost.digest), lost.size)
    assert (last["complete"], last["complete_images"], last["images"]) == (False, 1, 5)
    # The rest of the image that lacks a layer was brought.
    assert set(asked(upstream, "blob", ARM64)) == {1}


async def test_a_blob_that_two_images_share_is_fetched_once(
    world: World, upstream: FakeRegistry
) -> None:
    for name in "abc":
        upstream.add(name, AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    _, last = await warmed(proxy, "lab/a:v1", "lab/b:v1", "lab/c:v1")
    assert last["complete_images"] == 3
    assert set(asked(upstream, "blob", AMD64)) == {1}
    await upstream.stop()
    for name in "abc":
        await proxy.pull(f"/v2/lab/{name}", AMD64, "v1")


async def test_a_warm_up_goes_on_over_a_link_that_breaks(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    for at in (200_000, 700_000, 1_500_000):
        upstream.inject(Fault(reset_at=at), **of(AMD64.layers[1]))
    proxy = await world.start({"lab": upstream})
    _, last = await warmed(proxy, "lab/app:v1")
    assert last["complete"] is True


async def test_what_has_no_room_is_told(world: World, upstream: FakeRegistry) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream}, disk_bytes_max=1_048_576)
    lines, last = await warmed(proxy, "lab/app:v1")
    assert last["complete"] is False
    told = ended(lines)["lab/app:v1"]["missing"]
    assert str(AMD64.layers[1].digest) in {one["digest"] for one in told}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"images": []}',
        b'{"images": "a"}',
        b'{"images": ["a"], "x": 1}',
        b'{"images": ["a"], "platforms": ["x"]}',
        b'{"images": ["a"], "referrers": 1}',
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    world: World, upstream: FakeRegistry, body: bytes
) -> None:
    proxy = await world.start({"lab": upstream})
    for page in ("warm", "missing"):
        url = f"http://{proxy.entrepot.admin_address}/{page}"
        async with proxy.client.post(url, data=body) as response:
            assert response.status == 400


async def test_the_command_tells_each_image_and_fails_if_one_is_not_complete(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream})
    (tmp_path / "list").write_text("# ours\nlab/app:v1\n")

    async def run(*arguments: str) -> Any:
        admin = ("--admin", f"http://{proxy.entrepot.admin_address}")
        return await asyncio.to_thread(CliRunner().invoke, cli.app, ["warm", *arguments, *admin])

    done = await run("--file", str(tmp_path / "list"))
    assert done.exit_code == 0, done.output
    assert "lab/app:v1: complete, 2.3 MB, 2.3 MB fetched" in done.output
    assert "1 of 1 image is complete" in done.output
    failed = await run("lab/app:v1", "lab/none:v1")
    assert failed.exit_code == 1
    assert "lab/app:v1: complete, 2.3 MB, was here" in failed.output
    assert "1 of 2 images are complete" in failed.output
    told = await run("lab/app:v1", "--all-platforms", "--no-referrers", "--json")
    assert json.loads(told.stdout.splitlines()[-1])["complete"] is True
    none = await run()
    assert (none.exit_code, "no images" in none.output) == (2, True)
    both = await run("x", "--platform", "linux/amd64", "--all-platforms")
    assert both.exit_code == 2


async def test_an_upstream_that_fails_for_a_while_is_tried_again(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    # More often than a fill tries by itself.
    upstream.inject(Fault(status=503), times=3, **of(AMD64.layers[0]))
    proxy = await world.start({"lab": upstream})
    lines, last = await warmed(proxy, "lab/app:v1")
    assert last["complete"] is True, ended(lines)


async def test_a_registry_that_sends_other_bytes_is_not_asked_for_ever(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    upstream.inject(Fault(flip_at=5), times=None, **of(AMD64.layers[1]))
    proxy = await world.start({"lab": upstream})
    lines, last = await warmed(proxy, "lab/app:v1")
    (missing,) = ended(lines)["lab/app:v1"]["missing"]
    assert (missing["digest"], last["complete"]) == (str(AMD64.layers[1].digest), False)
    assert "other bytes" in missing["reason"]


async def test_the_last_place_for_a_fill_is_left_to_clients(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    upstream.add("client", ARM64, "v1")
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=300_000, stall=held), **of(ARM64.layers[1]))
    proxy = await world.start({"lab": upstream}, flights_max=1)
    pull = asyncio.create_task(proxy.ask(f"/v2/lab/client/blobs/{ARM64.layers[1].digest}"))
    await upstream.wait_requests(1, kind="blob", method="GET")
    warm = asyncio.create_task(warmed(proxy, "lab/app:v1"))
    # Its manifest is fetched; for its blobs there is no place yet.
    await upstream.wait_requests(1, kind="manifest", method="GET")
    async with asyncio.timeout(DEADLINE_S):
        url = f"http://{proxy.entrepot.admin_address}/warm"
        async with proxy.client.get(url) as response:
            assert (await response.json())["running"] == 1
    assert set(asked(upstream, "blob", AMD64)) == {0}
    held.set()
    assert (await pull).body == ARM64.layers[1].body
    _, last = await warm
    assert last["complete"] is True


async def test_the_most_fetches_at_once_is_for_all_warm_ups_together(
    world: World, upstream: FakeRegistry
) -> None:
    images = [image(200_000, 200_000, seed=str(number)) for number in range(3)]
    for number, one in enumerate(images):
        upstream.add(f"app{number}", one, "v1")
    held = asyncio.Event()
    upstream.inject(Fault(delay=held), kind="blob", times=None)
    proxy = await world.start({"lab": upstream}, warm={"fetches_max": 2})
    tasks = [asyncio.create_task(warmed(proxy, f"lab/app{number}:v1")) for number in range(3)]
    await upstream.wait_requests(2, kind="blob", method="GET")
    await until(lambda: upstream.count(kind="manifest", method="GET") >= 3, "all are resolved")
    assert upstream.count(kind="blob", method="GET") == 2
    held.set()
    for task in tasks:
        _, last = await task
        assert last["complete"] is True


async def test_offline_nothing_is_dialled_and_what_is_not_here_is_told_at_once(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    upstream.add("app", ARM64, "v2")
    first = await world.start({"lab": upstream})
    await warmed(first, "lab/app:v1")
    await world.stack.aclose()
    asked_before = len(upstream.seen)
    proxy = await world.start({"lab": upstream}, offline=True)
    lines, last = await warmed(proxy, "lab/app:v1", "lab/app:v2")
    told = ended(lines)
    assert told["lab/app:v1"]["state"] == "complete"
    assert told["lab/app:v2"]["state"] == "incomplete"
    # In the words that a pull gets.
    assert "lab/app:v2 is not here, and lab is offline" in told["lab/app:v2"]["reason"]
    assert "`entrepot export lab/app:v2 -o bundle.tar`" in told["lab/app:v2"]["reason"]
    assert last["seconds"] < 20
    assert len(upstream.seen) == asked_before


async def test_signatures_that_cannot_be_told_make_an_image_incomplete_but_it_is_brought(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    upstream.inject(Fault(status=500), kind="referrers", times=1)
    proxy = await world.start({"lab": upstream})
    lines, last = await warmed(proxy, "lab/app:v1", platforms=["all"])
    told = ended(lines)["lab/app:v1"]
    assert (told["state"], told["missing"], last["complete"]) == ("incomplete", [], False)
    assert told["reason"]
    assert set(asked(upstream, "blob", ARM64, AMD64)) == {1}
    _, last = await warmed(proxy, "lab/app:v1", platforms=["all"])
    assert last["complete"] is True


async def test_a_blob_that_many_wait_for_takes_one_place(
    world: World, upstream: FakeRegistry
) -> None:
    shared, own = image(300_000, seed="shared"), image(200_000, seed="own")
    for name in ("a", "b", "c"):
        upstream.add(name, shared, "v1")
    upstream.add("own", own, "v1")
    held = asyncio.Event()
    for blob in shared.blobs[1:]:
        upstream.inject(Fault(stall_at=100_000, stall=held), **of(blob))
    proxy = await world.start({"lab": upstream}, warm={"fetches_max": 2})
    waiting = [asyncio.create_task(warmed(proxy, f"lab/{name}:v1")) for name in ("a", "b", "c")]
    await until(lambda: asked(upstream, "blob", shared)[1], "the shared layer is asked for")
    _, last = await warmed(proxy, "lab/own:v1")
    assert last["complete"] is True
    assert not any(task.done() for task in waiting)
    held.set()
    for task in waiting:
        _, last = await task
        assert last["complete"] is True
