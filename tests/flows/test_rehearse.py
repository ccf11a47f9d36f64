"""A rehearsal: the network denied for a while, what fails listed, and then all as before."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.flows.conftest import DEADLINE_S, Running, World
from tests.support.fake_registry import FakeRegistry
from tests.support.images import image, index
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
ARM, AMD = image(3000, architecture="arm64"), image(3000)
BOTH = index(AMD, ARM)
OTHER = image(10, seed="other")
APP = "/v2/lab/app"


class Rehearsal:
    """The lines of one, as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def line(self, key: str) -> dict[str, Any]:
        """The next that has `key`; beats are passed over."""
        async with asyncio.timeout(DEADLINE_S):
            async for text in self._response.content:
                one = json.loads(text)
                if key in one:
                    return dict(one)
        raise AssertionError(f"it ended without {key}")


@asynccontextmanager
async def rehearsing(proxy: Running, **wish: Any) -> AsyncIterator[Rehearsal]:
    url = f"http://{proxy.entrepot.admin_address}/rehearse"
    async with proxy.client.post(url, json=wish) as response:
        assert response.status == 200, await response.text()
        rehearsal = Rehearsal(response)
        await rehearsal.line("upstreams")
        yield rehearsal


async def end(proxy: Running) -> bool:
    url = f"http://{proxy.entrepot.admin_address}/rehearse/end"
    async with proxy.client.post(url) as response:
        return bool((await response.json())["ended"])


async def pulled_by_amd64(world: World, upstream: FakeRegistry) -> Running:
    """A proxy that has what one platform needs."""
    upstream.add("app", BOTH, "v1")
    upstream.add("other", OTHER, "v1")
    proxy = await world.start({"lab": upstream}, tag_fresh_s=3600)
    for reference in ("v1", AMD.digest):
        assert (await proxy.ask(f"{APP}/manifests/{reference}")).status == 200
    for blob in AMD.blobs:
        assert (await proxy.ask(f"{APP}/blobs/{blob.digest}")).status == 200
    await proxy.settled()
    upstream.seen.clear()
    return proxy


async def test_what_would_have_failed_is_told_as_it_does_and_in_the_end(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await pulled_by_amd64(world, upstream)
    async with rehearsing(proxy, for_s=600) as rehearsal:
        for reference in ("v1", AMD.digest):
            answer = await proxy.ask(f"{APP}/manifests/{reference}")
            assert (answer.status, answer.headers.get("Warning")) == (200, None)
        for _ in range(3):
            assert (await proxy.ask(f"{APP}/manifests/{ARM.digest}")).status == 404
        missed = (await rehearsal.line("missed"))["missed"]
        assert missed == {
            "image": "lab/app:v1",
            "platform": "linux/arm64",
            "kind": "manifest",
            "client": "127.0.0.1",
        }
        assert (await proxy.ask("/v2/lab/other/manifests/v1")).status == 404
        assert (await rehearsal.line("missed"))["missed"]["image"] == "lab/other:v1"
        assert upstream.seen == []
        assert await end(proxy)
        told = await rehearsal.line("done")
    assert (told["failed"], told["served"], told["early"]) == (4, 2, True)
    assert [(one["image"], one["platform"], one["count"]) for one in told["missing"]] == [
        ("lab/app:v1", "linux/arm64", 3),
        ("lab/other:v1", None, 1),
    ]
    assert told["missing"][0]["clients"] == ["127.0.0.1"]
    # And now it is all as before.
    assert (await proxy.ask(f"{APP}/manifests/{ARM.digest}")).status == 200
    assert (await proxy.ask("/v2/lab/other/manifests/v1")).status == 200
    assert not await end(proxy)


async def test_it_ends_by_itself(world: World, upstream: FakeRegistry) -> None:
    proxy = await pulled_by_amd64(world, upstream)
    async with rehearsing(proxy, for_s=1) as rehearsal:
        told = await rehearsal.line("done")
    assert (told["early"], told["failed"]) == (False, 0)
    assert (await proxy.ask("/v2/lab/other/manifests/v1")).status == 200


async def until_over(proxy: Running) -> None:
    async def over() -> bool:
        return bool((await proxy.status())["upstreams"]["lab"]["state"] != "offline")

    await until(over, "the upstream is asked again")


async def test_it_ends_when_nobody_listens_any_more(world: World, upstream: FakeRegistry) -> None:
    proxy = await pulled_by_amd64(world, upstream)
    async with rehearsing(proxy, for_s=86400):
        assert (await proxy.ask("/v2/lab/other/manifests/v1")).status == 404
    await until_over(proxy)
    assert (await proxy.ask("/v2/lab/other/manifests/v1")).status == 200


async def test_a_proxy_can_be_stopped_meanwhile(world: World, upstream: FakeRegistry) -> None:
    proxy = await pulled_by_amd64(world, upstream)
    url = f"http://{proxy.entrepot.admin_address}/rehearse"
    async with (
        aiohttp.ClientSession() as client,
        client.post(url, json={"for_s": 86400}) as response,
    ):
        await Rehearsal(response).line("upstreams")
        async with asyncio.timeout(DEADLINE_S):
            await world.stack.aclose()


async def test_only_the_upstreams_that_are_named_are_denied(world: World) -> None:
    async with FakeRegistry() as one, FakeRegistry() as other:
        for registry in (one, other):
            registry.add("app", OTHER, "v1")
        proxy = await world.start({"one": one, "other": other})
        async with rehearsing(proxy, for_s=600, upstreams=["one"]):
            assert (await proxy.ask("/v2/one/app/manifests/v1")).status == 404
            assert (await proxy.ask("/v2/other/app/manifests/v1")).status == 200


async def test_a_fast_answer_from_before_does_not_hide_what_is_missing(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await pulled_by_amd64(world, upstream)
    for _ in range(3):
        assert (await proxy.ask(f"{APP}/manifests/v1")).status == 200
    for path in (world.root / "data" / "blobs").rglob("*"):
        if path.name in {one.digest.hex for one in AMD.blobs}:
            path.unlink()
    assert proxy.entrepot.status is not None
    proxy.entrepot.status._cache.memory.clear()
    async with rehearsing(proxy, for_s=600):
        assert (await proxy.ask(f"{APP}/manifests/v1")).status == 404
    assert upstream.seen == []


async def test_an_upstream_that_is_offline_anyway_stays_so(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("app", OTHER, "v1")
    proxy = await world.start({"lab": upstream}, offline=True)
    async with rehearsing(proxy, for_s=1) as rehearsal:
        await rehearsal.line("done")
    assert (await proxy.ask(f"{APP}/manifests/v1")).status == 404
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"upstreams": ["nobody"]}, 404),
        ({"upstreams": "lab"}, 400),
        ({"for_s": 0}, 400),
        ({"for_s": 1e9}, 400),
        ({"for_s": True}, 400),
        ({"for": 5}, 400),
        ([], 400),
    ],
)
async def test_a_wish_that_cant_be_met_is_refused_and_denies_nothing(
    world: World, upstream: FakeRegistry, wish: Any, status: int
) -> None:
    upstream.add("app", OTHER, "v1")
    proxy = await world.start({"lab": upstream})
    url = f"http://{proxy.entrepot.admin_address}/rehearse"
    async with proxy.client.post(url, json=wish) as response:
        assert response.status == status
    assert (await proxy.ask(f"{APP}/manifests/v1")).status == 200


async def test_there_is_one_at_a_time(world: World, upstream: FakeRegistry) -> None:
    proxy = await world.start({"lab": upstream})
    async with rehearsing(proxy, for_s=600):
        url = f"http://{proxy.entrepot.admin_address}/rehearse"
        async with proxy.client.post(url, json={}) as response:
            assert response.status == 409


@asynccontextmanager
async def command(proxy: Running, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`entrepot rehearse` as a process, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "rehearse"),
        *("--admin", f"http://{proxy.entrepot.admin_address}", *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(2 * DEADLINE_S):
        return (await process.stdout.readline()).decode()


async def test_the_command_ends_with_ctrl_c_and_its_code_tells_that_something_was_missing(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await pulled_by_amd64(world, upstream)
    async with command(proxy, "--for", "10m", "--upstream", "lab") as process:
        assert await _line(process) == "offline for 10 min: lab\n"
        assert (await proxy.ask("/v2/lab/other/manifests/v1")).status == 404
        assert await _line(process) == "missing: lab/other:v1, asked for by 127.0.0.1\n"
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(2 * DEADLINE_S):
            out, err = await process.communicate()
    assert process.returncode == 1, err.decode()
    assert "(ended early)" in out.decode()
    assert "     1  lab/other:v1  (127.0.0.1)" in out.decode()
    assert (await proxy.ask("/v2/lab/other/manifests/v1")).status == 200


async def test_the_command_ends_well_if_all_was_there(world: World, upstream: FakeRegistry) -> None:
    proxy = await pulled_by_amd64(world, upstream)
    async with command(proxy, "--for", "1s", "--json") as process:
        async with asyncio.timeout(2 * DEADLINE_S):
            out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["failed"] == 0


async def test_a_killed_command_leaves_no_rehearsal_behind(
    world: World, upstream: FakeRegistry
) -> None:
    proxy = await pulled_by_amd64(world, upstream)
    async with command(proxy, "--for", "1d") as process:
        assert await _line(process) == "offline for 24 h: lab\n"
        process.kill()
    await until_over(proxy)
