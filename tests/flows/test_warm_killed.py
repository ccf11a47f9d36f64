"""A warm-up that ends early, by its reader leaving or its process being killed, is
repeated, and the result is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.cache.flights import Flight
from proxy.cache.traffic import Urgency
from proxy.oci.digest import Digest
from tests.flows.conftest import DEADLINE_S, Running, World
from tests.support.distribution import installed
from tests.support.entrepot import Entrepot
from tests.support.fake_registry import FakeRegistry, Fault, Seen
from tests.support.images import artifact, image, index
from tests.support.waiting import until

AMD64 = image(300_000, 900_000, 200_000, seed="amd")
ARM64 = image(500, 400_000, seed="arm", architecture="arm64")
BOTH = index(AMD64, ARM64)
SBOM = artifact(AMD64)
OTHER = image(250_000, 700_000, seed="other")
NAMES = ["lab/app:v1", "lab/other:v1"]
WISH = {"images": NAMES, "platforms": ["all"]}
POINTS = 20


def fill(upstream: FakeRegistry) -> FakeRegistry:
    upstream.add("app", BOTH, "v1")
    upstream.add("app", SBOM)
    upstream.add("other", OTHER, "v1")
    return upstream


def stall_at_request(upstream: FakeRegistry, number: int) -> asyncio.Event:
    """The request of that number, counted from now, is answered half, and no more.

    Set once it has come.
    """
    come, counter = asyncio.Event(), iter(range(1, 1_000_000))

    def is_it(seen: Seen) -> bool:
        if next(counter) != number:
            return False
        come.set()
        return True

    # A manifest's answer has no half that is of use: it never begins.
    def blob(seen: Seen) -> bool:
        return seen.kind == "blob" and is_it(seen)

    def other(seen: Seen) -> bool:
        return seen.kind != "blob" and is_it(seen)

    upstream.inject(Fault(stall_at=100), match=blob)
    upstream.inject(Fault(delay=asyncio.Event()), match=other)
    return come


async def post(proxy: Running, page: str) -> dict[str, Any]:
    """The last line."""
    url = f"http://{proxy.entrepot.admin_address}/{page}"
    async with asyncio.timeout(DEADLINE_S):
        async with proxy.client.post(url, json=WISH) as response:
            lines = [line async for line in response.content]
    return dict(json.loads(lines[-1]))


async def gone(task: asyncio.Task[dict[str, Any]]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def all_is_here(proxy: Running) -> None:
    """Each byte of each image, whatever becomes of the upstream."""
    for repository, one, references in (
        ("app", BOTH, ("v1",)),
        ("app", SBOM, ()),
        ("other", OTHER, ("v1",)),
    ):
        await proxy.pull(f"/v2/lab/{repository}", one, *references)


@pytest.mark.parametrize("points", [range(start, POINTS + 1, 4) for start in range(1, 5)])
async def test_a_warm_up_killed_at_any_point_is_repeated_and_right(
    world: World, points: range
) -> None:
    """Killed: another process finds the disk as it was at that moment."""
    for point in points:
        async with FakeRegistry() as upstream:
            come = stall_at_request(fill(upstream), point)
            place = world.root / f"point {point}"
            first = await world.start({"lab": upstream}, data_dir=str(place))
            task = asyncio.create_task(post(first, "warm"))
            async with asyncio.timeout(DEADLINE_S):
                await come.wait()
            left = world.root / f"left {point}"
            shutil.copytree(place, left, copy_function=copied)
            await gone(task)
            await world.stack.aclose()

            upstream.heal()
            proxy = await world.start({"lab": upstream}, data_dir=str(left))
            last = await post(proxy, "warm")
            assert (last["complete"], last["complete_images"]) == (True, 2), point
            assert (await post(proxy, "missing"))["complete"] is True
            await upstream.stop()
            await all_is_here(proxy)
            await world.stack.aclose()


def copied(source: str, target: str) -> None:
    """A file that is moved away meanwhile is where it was moved to, or nowhere."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source, target)


class Process(Entrepot):
    """As `Running` wants it; started and stopped off the loop, since the upstream
    lives there.
    """

    def __init__(self, folder: Path, upstream: FakeRegistry) -> None:
        super().__init__(
            folder,
            upstreams={"lab": {"url": upstream.url}},
            presets=False,
            default_upstream="lab",
            disk_free_bytes_min=0,
            drain_s=0.2,
        )
        self.admin_address = f"127.0.0.1:{self.admin_port}"


@pytest.fixture
async def process(tmp_path: Path, upstream: FakeRegistry) -> AsyncIterator[Process]:
    one = Process(tmp_path / "replica", fill(upstream))
    try:
        await asyncio.to_thread(one.start)
        yield one
    finally:
        await asyncio.to_thread(one.kill)


async def test_a_process_that_is_killed_again_and_again_gets_there(
    upstream: FakeRegistry, process: Process
) -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        proxy = Running(process, client)  # type: ignore[arg-type]
        for point in (7, 5, 3):
            come = stall_at_request(upstream, point)
            task = asyncio.create_task(post(proxy, "warm"))
            async with asyncio.timeout(DEADLINE_S):
                await come.wait()
            await asyncio.to_thread(process.kill)
            await gone(task)
            upstream.heal()
            await asyncio.to_thread(process.start)
        last = await post(proxy, "warm")
        assert (last["complete"], last["complete_images"]) == (True, 2)
        assert (await post(proxy, "missing"))["complete"] is True


async def test_a_warm_up_ends_when_its_reader_leaves_and_what_it_brought_stays(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("other", OTHER, "v1")
    layer = OTHER.layers[1]
    held = asyncio.Event()
    upstream.inject(
        Fault(stall_at=1000, stall=held), match=lambda seen: seen.reference == str(layer.digest)
    )
    proxy = await world.start({"lab": upstream})
    url = f"http://{proxy.entrepot.admin_address}/warm"
    async with asyncio.timeout(DEADLINE_S):
        async with proxy.client.post(url, json={"images": ["lab/other:v1"]}) as response:
            async for line in response.content:
                told = json.loads(line)
                if told.get("state") == "fetching" and told["layer"]["digest"] == str(layer.digest):
                    break
        await until(lambda: idle(proxy), "the warm-up has ended")
    # What was on its way is brought to its end, and there is nothing more to do.
    held.set()
    await proxy.settled()
    await proxy.pull("/v2/lab/other", OTHER, "v1")
    blobs = [one.reference for one in upstream.requests(kind="blob", method="GET")]
    assert sorted(blobs) == sorted(str(one.digest) for one in OTHER.blobs)


async def idle(proxy: Running) -> bool:
    async with proxy.client.get(f"http://{proxy.entrepot.admin_address}/warm") as response:
        return int((await response.json())["running"]) == 0


async def test_what_a_warm_up_brings_is_urgent_as_soon_as_a_client_waits_for_it(
    world: World, upstream: FakeRegistry
) -> None:
    upstream.add("other", OTHER, "v1")
    layer, held = OTHER.layers[1], asyncio.Event()
    upstream.inject(
        Fault(stall_at=400_000, stall=held), match=lambda seen: seen.reference == str(layer.digest)
    )
    proxy = await world.start({"lab": upstream})
    warm = asyncio.create_task(post_one(proxy, "lab/other:v1"))
    async with asyncio.timeout(DEADLINE_S):
        flight = await flight_of(proxy, layer.digest)
        assert flight.traffic.urgency is Urgency.WARM
        pull = asyncio.create_task(proxy.pull("/v2/lab/other", OTHER, "v1"))
        await until(lambda: flight.traffic.urgency is Urgency.WAITING, "it is urgent")
        held.set()
        assert (await warm)["complete"] is True
        await pull
    assert upstream.count(kind="blob", method="GET") == len(OTHER.blobs)


async def flight_of(proxy: Running, digest: Digest) -> Flight:
    """That of a blob, once there is one."""
    assert proxy.entrepot.status is not None
    flights = proxy.entrepot.status._cache.flights
    found = await until(
        lambda: [one for one in flights.all() if one.key.digest == digest], "it is fetched"
    )
    return found[0]


async def post_one(proxy: Running, image: str) -> dict[str, Any]:
    url = f"http://{proxy.entrepot.admin_address}/warm"
    async with proxy.client.post(url, json={"images": [image]}) as response:
        lines = [line async for line in response.content]
    return dict(json.loads(lines[-1]))


async def test_the_command_may_be_interrupted(world: World, upstream: FakeRegistry) -> None:
    upstream.add("other", OTHER, "v1")
    come = stall_at_request(upstream, 6)
    proxy = await world.start({"lab": upstream})
    process = await asyncio.create_subprocess_exec(
        *(installed(), "warm", "lab/other:v1"),
        *("--admin", f"http://{proxy.entrepot.admin_address}", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert process.stdout is not None
            # It listens to what is told by now, so it is well past its start.
            await process.stdout.readline()
            await come.wait()
            process.send_signal(signal.SIGINT)
            _, said = await process.communicate()
            assert (process.returncode, b"what was brought stays" in said) == (130, True), said
            await until(lambda: idle(proxy), "the warm-up has ended")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    upstream.heal()
