"""What pulls through a running proxy enter in its ledger."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import cli
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Image, image, index

LAYER = 400_000
AMD64, ARM64 = image(1000, LAYER, seed="amd"), image(500, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)
SUBNET = "127.0.0.0/24"


async def saved(proxy: Running, **query: str) -> dict[str, Any]:
    """The page, once all that was served has been handed on."""
    proxy.entrepot.telemetry.render()
    url = f"http://{proxy.entrepot.admin_address}/savings"
    async with proxy.client.get(url, params=query) as response:
        assert response.status == 200, await response.text()
        return dict(await response.json())


def size(*images: Image) -> int:
    """Bytes of all that a pull of these takes, each thing once."""
    things = {one.digest: one for image in images for one in (*image.manifests, *image.blobs)}
    return sum(one.size for one in things.values())


def by_name(listed: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in listed}


async def pull_by_digest(proxy: Running, tag: str, *, index: Image, chosen: Image) -> None:
    """As containerd does it: HEAD by tag, then all by digest."""
    head = await proxy.ask(f"/v2/lab/app/manifests/{tag}", "HEAD")
    assert head.headers["Docker-Content-Digest"] == str(index.digest)
    for digest in (index.digest, chosen.digest):
        assert (await proxy.ask(f"/v2/lab/app/manifests/{digest}")).status == 200
    for blob in chosen.blobs:
        assert (await proxy.ask(f"/v2/lab/app/blobs/{blob.digest}")).status == 200
    await proxy.settled()


async def test_the_first_pull_costs_and_the_next_ones_are_saved(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    everything = size(AMD64) + BOTH.manifest.size
    for _ in range(4):
        await proxy.ask("/v2/lab/app/manifests/v1")
        await proxy.pull("/v2/lab/app", AMD64)
    told = await saved(proxy)
    total = told["total"]
    assert (total["pulls"], total["pulls_saved"]) == (4, 3)
    assert total["served_bytes"] == 4 * everything
    assert total["fetched_bytes"] == everything
    assert total["saved_bytes"] == 3 * everything
    seconds = await proxy.metric("entrepot_saved_seconds_total")
    assert total["saved_s"] == pytest.approx(seconds, abs=0.01)
    for table, name in (("upstreams", "lab"), ("images", "lab/app:v1"), ("clients", SUBNET)):
        (one,) = told[table]
        assert one == {"name": name, **total}
    assert sum(step["pulls"] for step in told["series"]) == 4
    # What was counted is what the upstream saw of pulls: a GET of what a tag names.
    asked = upstream.requests(kind="manifest", method="GET")
    assert [one.reference for one in asked] == ["v1", str(AMD64.digest)]
    assert await proxy.metric("entrepot_pulls_total", upstream="lab") == 4
    assert await proxy.metric("entrepot_saved_pulls_total", upstream="lab") == 3
    assert await proxy.metric("entrepot_saved_bytes", upstream="lab") == 3 * everything


async def test_a_pull_by_digests_is_one_of_the_tag_that_was_looked_up_before(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", BOTH, "v1")
    upstream.add("app", BOTH, "latest")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    for _ in range(3):
        await pull_by_digest(proxy, "v1", index=BOTH, chosen=AMD64)
    await pull_by_digest(proxy, "latest", index=BOTH, chosen=ARM64)
    # By a digest that no tag led to: Kubernetes with a pinned image.
    upstream.add("app", ARM64, "other")
    other = image(2000, seed="pinned")
    upstream.add("pinned", other, "hidden")
    for _ in range(2):
        await proxy.pull("/v2/lab/pinned", other)
    told = by_name((await saved(proxy))["images"])
    assert {name: (one["pulls"], one["pulls_saved"]) for name, one in told.items()} == {
        "lab/app:v1": (3, 2),
        "lab/app:latest": (1, 1),
        f"lab/pinned@{other.digest}": (2, 1),
    }
    assert told["lab/app:v1"]["fetched_bytes"] == size(AMD64) + BOTH.manifest.size
    assert told["lab/app:latest"]["fetched_bytes"] == size(ARM64)


async def test_what_the_fast_lane_answers_is_counted_for_each_of_its_clients(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    for _ in range(50):
        assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    told = await saved(proxy, hours="1")
    assert (told["total"]["pulls"], told["total"]["pulls_saved"]) == (50, 49)
    assert told["total"]["served_bytes"] == 50 * AMD64.manifest.size
    assert by_name(told["clients"])[SUBNET]["pulls"] == 50
    assert await proxy.metric("entrepot_pulls_total") == 50


async def test_it_goes_on_after_a_restart_and_over_a_torn_file(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", AMD64, "v1")
    file = tmp_path / "data" / "savings.json"
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", AMD64, "v1")
    await world.stack.aclose()
    written = file.read_bytes()
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    await proxy.pull("/v2/lab/app", AMD64, "v1")
    told = await saved(proxy, ever="1")
    # By tag and by digest.
    assert (told["total"]["pulls"], told["total"]["fetched_bytes"]) == (4, size(AMD64))
    await world.stack.aclose()
    file.write_bytes(written[: len(written) // 2])
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    assert (await saved(proxy, ever="1"))["total"]["pulls"] == 0
    await proxy.pull("/v2/lab/app", AMD64, "v1")
    assert (await saved(proxy, ever="1"))["total"]["pulls"] == 2


async def test_nobody_looks_at_clients_when_told_so(world: World, upstream: FakeRegistry) -> None:
    upstream.add("app", AMD64, "v1")
    proxy = await world.start({"lab": upstream}, savings_clients=False)
    await proxy.pull("/v2/lab/app", AMD64, "v1")
    told = await saved(proxy)
    assert told["clients"] is None
    assert told["total"]["pulls"] == 2


async def test_a_question_that_makes_no_sense_is_refused(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await world.start({"lab": upstream})
    url = f"http://{proxy.entrepot.admin_address}/savings"
    for query in ("days=31", "days=0", "hours=x", "hours=1&days=1", "top=-1", "days=%C2%B2"):
        async with proxy.client.get(f"{url}?{query}") as response:
            assert response.status == 400, query


async def test_errors_save_nothing(world: World, upstream: FakeRegistry) -> None:
    proxy = await world.start({"lab": upstream})
    assert (await proxy.ask("/v2/lab/app/manifests/none")).status == 404
    assert (await proxy.ask("/v2/")).status == 200
    told = await saved(proxy)
    assert told["total"] == dict.fromkeys(told["total"], 0)
    assert (told["images"], told["clients"]) == ([], [])


async def test_the_command_adds_up_replicas_and_draws(
    world: World, upstream: FakeRegistry, tmp_path: Path
) -> None:
    upstream.add("app", BOTH, "v1")
    replicas = [
        await world.start({"lab": upstream}, tag_fresh_s=3600, data_dir=str(tmp_path / name))
        for name in ("one", "two")
    ]
    for proxy in replicas:
        for _ in range(2):
            await proxy.pull("/v2/lab/app", AMD64, "v1")
        proxy.entrepot.telemetry.render()
    admins = [f"--admin=http://{proxy.entrepot.admin_address}" for proxy in replicas]

    async def command(*arguments: str) -> Any:
        result = await asyncio.to_thread(
            CliRunner().invoke, cli.app, ["savings", *arguments], env={"ENTREPOT_CONFIG": ""}
        )
        assert result.exit_code == 0, result.output
        return result.output

    told = json.loads(await command(*admins, "--json"))
    assert (told["total"]["pulls"], told["total"]["pulls_saved"]) == (4, 2)
    assert told["total"]["fetched_bytes"] == 2 * (size(AMD64) + BOTH.manifest.size)
    assert [one["name"] for one in told["images"]] == ["lab/app:v1"]
    for by, name in (("upstream", "lab"), ("image", "lab/app:v1"), ("client", SUBNET)):
        drawn = await command(*admins, "--by", by, "--hours", "1")
        assert "2 of 4 cost the upstream none (50 %)" in drawn
        assert drawn.splitlines()[-1].endswith(f"  {name}")
    assert "since" in await command(admins[0], "--ever")
    wrong = CliRunner().invoke(cli.app, ["savings", "--days=1", "--ever", admins[0]])
    assert wrong.exit_code == 2
    gone = await asyncio.to_thread(
        CliRunner().invoke, cli.app, ["savings", "--admin=http://127.0.0.1:1"]
    )
    assert gone.exit_code == 1
