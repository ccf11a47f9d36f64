"""The proxy as a process that is killed in the middle of fills: what it had on disk
is used, the rest is fetched, and every byte is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from proxy.cache import journal
from proxy.cache.journal import EXTENT_BYTES
from tests.flows.conftest import Answer, Running
from tests.flows.layers import (
    MIB,
    add_layer,
    path_of,
    pull_layer,
    until_landed,
    until_written,
)
from tests.support.distribution import installed
from tests.support.entrepot import Entrepot
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, image
from tests.support.waiting import until

SIZE = 40 * MIB
# On extent boundaries of the journal, around them, and far from them.
POINTS = (
    1,
    5 * MIB,
    8 * MIB,
    8 * MIB + 1,
    13_000_000,
    16 * MIB - 1,
    20_000_000,
    24 * MIB,
    33_333_333,
    SIZE - 1,
)


class Process(Entrepot):
    """As `Running` wants it; started and stopped off the loop, since the upstream
    lives there.
    """

    def __init__(
        self,
        folder: Path,
        upstream: FakeRegistry,
        *,
        settings: Mapping[str, object] | None = None,
        **lab: object,
    ) -> None:
        """`lab`: further settings of the upstream, or others."""
        super().__init__(
            folder,
            upstreams={"lab": {"url": upstream.url, **lab}},
            presets=False,
            default_upstream="lab",
            disk_free_bytes_min=0,
            drain_s=0.2,
            blob_connections_max=1,
            **(settings or {}),
        )
        self.admin_address = f"127.0.0.1:{self.admin_port}"

    async def up(self) -> None:
        await asyncio.to_thread(self.start)

    async def crash(self) -> None:
        await asyncio.to_thread(self.kill)

    def journaled(self) -> int:
        """How far the journal of the one spool vouches."""
        said = [
            journal.read(path.with_name(path.name.removesuffix(journal.SUFFIX)))
            for path in (self.data_dir / "spool").glob("*.journal")
        ]
        return max((extent.end for one in said if one for extent in one.extents), default=0)


@pytest.fixture
async def process(tmp_path: Path, upstream: FakeRegistry) -> AsyncIterator[Process]:
    one = Process(tmp_path / "replica", upstream)
    try:
        await one.up()
        yield one
    finally:
        await one.crash()


@pytest.fixture
async def proxy(process: Process) -> AsyncIterator[Running]:
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        yield Running(process, client)


def last_start(upstream: FakeRegistry) -> int:
    asked = upstream.requests(kind="blob", method="GET")[-1].headers.get("Range", "bytes=0-")
    return int(asked.removeprefix("bytes=").partition("-")[0])


async def lost(pull: asyncio.Task[Answer]) -> None:
    """The client of a fill that is killed sees a cut body or a lost connection."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        assert (await pull).cut


async def test_a_fill_that_is_killed_anywhere_goes_on_after_a_restart(
    upstream: FakeRegistry, process: Process, proxy: Running
) -> None:
    layers = [upstream.add("app", image(SIZE, seed=f"point {at}"), "v1").layers[0] for at in POINTS]
    for at, blob in zip(POINTS, layers, strict=True):
        sent_before = upstream.bytes_sent(kind="blob")
        upstream.inject(Fault(stall_at=at), kind="blob", method="GET")
        pull = asyncio.create_task(proxy.ask(path_of(blob)))
        await until_written(proxy, at)
        whole = at // EXTENT_BYTES * EXTENT_BYTES
        await until(lambda whole=whole: process.journaled() >= whole, "its extents are journaled")
        await process.crash()
        await lost(pull)
        await process.up()
        await pull_layer(proxy, blob)
        resumed_at = last_start(upstream)
        assert at - EXTENT_BYTES < resumed_at <= at
        fetched = upstream.bytes_sent(kind="blob") - sent_before
        assert fetched == SIZE + at - resumed_at
        # Or the next point would look at this fill's end instead of its own.
        await until_landed(proxy)


async def test_a_kill_at_full_speed_never_yields_wrong_bytes(
    upstream: FakeRegistry, process: Process, proxy: Running
) -> None:
    upstream.inject(Fault(rate_bytes_s=100_000_000), kind="blob", times=None)
    for number in range(3):
        blob = upstream.add("app", image(SIZE, seed=f"speed {number}"), "v1").layers[0]
        pulls = [asyncio.create_task(proxy.ask(path_of(blob))) for _ in range(3)]
        await until_written(proxy, (number + 1) * 9_000_000)
        await process.crash()
        await asyncio.gather(*map(lost, pulls))
        await process.up()
        await pull_layer(proxy, blob)
        await pull_layer(proxy, blob)


async def test_a_fill_that_is_terminated_loses_nothing_it_had(
    upstream: FakeRegistry, process: Process, proxy: Running
) -> None:
    blob = add_layer(upstream, SIZE)
    at = 21_234_567
    upstream.inject(Fault(stall_at=at), kind="blob", method="GET")
    pull = asyncio.create_task(proxy.ask(path_of(blob)))
    await until_written(proxy, at)
    assert await asyncio.to_thread(process.stop) == 0
    await lost(pull)
    await process.up()
    await pull_layer(proxy, blob)
    assert last_start(upstream) == at
    assert upstream.bytes_sent(kind="blob", method="GET") == SIZE


async def test_what_was_pulled_is_served_after_a_kill_without_the_upstream(
    upstream: FakeRegistry, process: Process, proxy: Running
) -> None:
    img = upstream.add("app", image(1000, 700_000, 9_000_000), "v1")
    blobs: list[Content] = list(img.blobs)
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    for blob in blobs:
        await pull_layer(proxy, blob)
    # Clients have the last byte before it is on the disk for good.
    await until_landed(proxy)
    await process.crash()
    await upstream.stop()
    await process.up()
    answer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert (answer.status, answer.body) == (200, img.manifest.body)
    for blob in blobs:
        await pull_layer(proxy, blob)


async def test_a_second_process_on_the_same_folder_is_refused_with_a_plain_line(
    process: Process,
) -> None:
    command = [installed(), "serve", "--config", str(process.config)]
    second = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 1
    assert f"data_dir {process.data_dir} is in use by another entrepot" in second.stderr
    assert "Traceback" not in second.stderr + second.stdout
    assert process.running


async def test_many_stalled_followers_cost_no_memory(
    upstream: FakeRegistry, process: Process, proxy: Running
) -> None:
    blob = add_layer(upstream, SIZE)
    await pull_layer(proxy, add_layer(upstream, 2 * MIB, "warm-up"), "warm-up")
    before = resident_bytes(process)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(200):
            client = await stack.enter_async_context(aiohttp.ClientSession(read_bufsize=1024))
            # Its head only; the body waits in the kernel and in the spool.
            await stack.enter_async_context(client.get(proxy.url + path_of(blob)))
        await pull_layer(proxy, blob)
        grown = resident_bytes(process) - before
    assert grown < 40 * MIB
    assert upstream.bytes_sent(kind="blob", method="GET") == SIZE + 2 * MIB


def resident_bytes(process: Process) -> int:
    status = Path(f"/proc/{process._process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


async def test_a_kill_while_ranges_are_fetched_never_yields_wrong_bytes(
    upstream: FakeRegistry, process: Process, proxy: Running
) -> None:
    blob = upstream.add("app", image(SIZE, seed="ranges"), "v1").layers[0]

    async def ranged(start: int, count: int) -> Answer:
        answer = await proxy.ask(path_of(blob), Range=f"bytes={start}-{start + count - 1}")
        assert (answer.status, answer.cut) == (206, False)
        assert answer.body == blob.body[start : start + count]
        return answer

    for at in (3, 30, 17):
        await ranged(at * MIB + 11, 900_000)
    upstream.inject(Fault(stall_at=500_000), kind="blob", method="GET")
    open_ended = asyncio.create_task(proxy.ask(path_of(blob), Range=f"bytes={20 * MIB}-"))
    await upstream.wait_requests(4, kind="blob", method="GET")
    await process.crash()
    await lost(open_ended)
    await process.up()
    for at in (30, 3, 20):
        await ranged(at * MIB, MIB)
    await pull_layer(proxy, blob)
    await until_landed(proxy)
    await upstream.stop()
    await pull_layer(proxy, blob)
