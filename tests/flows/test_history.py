"""Every move of a tag is noted, once, and told by `entrepot history`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy.cli import app
from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_s3 import BUCKET, FakeS3
from tests.support.images import image, index
from tests.support.waiting import until

A, B = image(1000, seed="a"), image(1000, 2000, seed="b")
BOTH_A = index(image(1000, 500), image(1000, architecture="arm64"))
BOTH_B = index(image(1000, 700), image(1000, architecture="arm64"))
APP = "/v2/lab/app"
BEGAN = 1_790_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now


async def told(proxy: Running, image: str = "lab/app:v1", **query: Any) -> dict[str, Any]:
    """What the admin page answers."""
    url = f"http://{proxy.entrepot.admin_address}/history"
    async with proxy.client.get(url, params={"image": image, **query}) as response:
        assert response.status == 200, await response.text()
        return dict(await response.json())


async def ask(proxy: Running, status: int = 200) -> None:
    assert (await proxy.ask(f"{APP}/manifests/v1")).status == status


async def test_first_sighting_moves_and_removal_are_told_with_what_changed(
    world: World, upstream: FakeRegistry
) -> None:
    world.clock = clock = Clock()
    proxy = await world.start({"lab": upstream}, negative_s=0)
    upstream.add("app", A, "v1")
    for _ in range(3):
        await ask(proxy)
        clock.now += 1
    clock.now = BEGAN + 100
    upstream.add("app", B, "v1")
    await ask(proxy)
    clock.now = BEGAN + 200
    del upstream.repositories["app"].tags["v1"]
    await ask(proxy, 404)
    clock.now = BEGAN + 300
    upstream.add("app", A, "v1")
    await ask(proxy)
    found = await told(proxy)
    assert (found["image"], found["earlier"]) == ("lab/app:v1", False)
    assert [(one["at"], one["before"], one["after"]) for one in found["moves"]] == [
        (BEGAN, None, str(A.digest)),
        (BEGAN + 100, str(A.digest), str(B.digest)),
        (BEGAN + 200, str(B.digest), None),
        (BEGAN + 300, None, str(A.digest)),
    ]
    assert found["moves"][1]["changed"] == {
        "layers_added": 2,
        "layers_removed": 1,
        "layers_kept": 0,
        "bytes_added": 3000,
        "bytes_removed": 1000,
    }
    newest = await told(proxy, newest="1")
    assert (newest["moves"], newest["earlier"]) == (found["moves"][-1:], True)


async def test_of_an_index_the_layers_of_one_platform_are_compared(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await world.start({"lab": upstream})
    for one in (BOTH_A, BOTH_B):
        upstream.add("app", one, "v1")
        await proxy.pull(APP, one, "v1")
    for platform, changed in (("linux/amd64", 1), ("linux/arm64", 0)):
        (_, move) = (await told(proxy, platform=platform))["moves"]
        assert (move["changed"]["layers_added"], move["changed"]["layers_kept"]) == (changed, 1)


async def test_the_history_survives_a_restart_and_is_kept_as_records(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await world.start({"lab": upstream})
    for one in (A, B):
        upstream.add("app", one, "v1")
        await ask(proxy)
    before = await told(proxy)
    folder: Path = proxy.entrepot.settings.data_dir / "repos/lab/app/_history/v1"
    kept = sorted(folder.iterdir())
    assert len(kept) == 2
    assert json.loads(kept[1].read_bytes())["url"] == upstream.url
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream})
    assert await told(proxy) == before


async def test_a_pull_does_not_fail_for_a_history_that_cant_be_written(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", A, "v1")
    proxy = await world.start({"lab": upstream})
    blocked: Path = proxy.entrepot.settings.data_dir / "repos/lab/app/_history"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")
    await proxy.pull(APP, A, "v1")
    await ask(proxy)
    found = (await told(proxy))["moves"]
    assert [one["after"] for one in found] == [str(A.digest)]


async def test_replicas_with_one_store_have_one_history(
    world: World, upstream: FakeRegistry
) -> None:
    async with FakeS3() as store:
        s3 = {"endpoint": store.url, "bucket": BUCKET, "access_key": "a", "secret_key": "s"}
        fleet = [
            await world.start(
                {"lab": upstream}, storage={"s3": s3}, data_dir=str(world.root / str(number))
            )
            for number in range(3)
        ]
        for one in (A, B):
            upstream.add("app", one, "v1")
            await asyncio.gather(*(ask(proxy) for proxy in fleet))

            # What is written is not waited for.
            async def written(after: str = str(one.digest)) -> bool:
                return bool((await told(fleet[0]))["moves"][-1]["after"] == after)

            await until(written, "the move is written")
        for proxy in fleet:
            found = (await told(proxy))["moves"]
            assert [one["after"] for one in found] == [str(A.digest), str(B.digest)]
        assert any("repos/lab/app/_history/v1/" in key for key in store.objects)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        (f"image=lab/app@{A.digest}", 400),
        ("image=LAB/UPPER:x", 400),
        ("image=elsewhere.lan:5000/app", 404),
        ("image=lab/app:v1&newest=0", 400),
        ("image=lab/app:v1&newest=many", 400),
    ],
)
async def test_what_has_no_history_is_refused(
    world: World, upstream: FakeRegistry, query: str, status: int
) -> None:
    proxy = await world.start({"lab": upstream})
    url = f"http://{proxy.entrepot.admin_address}/history?{query}"
    async with proxy.client.get(url) as response:
        assert response.status == status, await response.text()


async def test_the_command_tells_it_to_people_and_programs(
    world: World, upstream: FakeRegistry
) -> None:
    world.clock = clock = Clock()
    proxy = await world.start({"lab": upstream})
    for one in (A, B):
        upstream.add("app", one, "v1")
        await ask(proxy)
        clock.now += 3600
    admin = ["--admin", f"http://{proxy.entrepot.admin_address}"]
    run = CliRunner().invoke
    done = await asyncio.to_thread(run, app, ["history", "lab/app:v1", *admin])
    assert done.exit_code == 0, done.output
    title, first, second = done.output.splitlines()
    assert title == "lab/app:v1"
    assert first.startswith("2026-09-21T14:13:20Z  sha256:")
    assert first.endswith("first seen")
    assert "2 added (3.0 kB), 1 removed (1.0 kB), 0 kept" in second
    done = await asyncio.to_thread(run, app, ["history", "lab/app:v1", "--json", *admin])
    assert len(json.loads(done.output)["moves"]) == 2
    done = await asyncio.to_thread(run, app, ["history", "lab/app:none", *admin])
    assert done.output.splitlines() == ["lab/app:none", "never seen here"]
    done = await asyncio.to_thread(run, app, ["history", f"lab/app@{A.digest}", *admin])
    assert done.exit_code == 1
