"""The disk hangs, and only who needs it waits: requests answered from memory go on by the
hundred, a cold pull streams until its bound of unsynced bytes, and when the disk comes
back every byte is right.

The proxy is a process of its own on a real file system over a disk that hangs when told
to. Nothing is measured in seconds: while the disk is held, requests are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.flows.conftest import Running
from tests.flows.layers import MIB, add_layer, path_of, until_landed, until_written
from tests.flows.test_crash import Process
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, Image, image
from tests.support.private_ca import PrivateCa, issue
from tests.support.slow_disk import NoSlowDisk, SlowDisk, forget_cached
from tests.support.waiting import until

LARGE = 24 * MIB
SMALL = 10_000
ROUNDS = 50
# Shorter than a disk here can hang (`fuse_file.LIMIT_S`).
PATIENCE_S = 60.0
UNBOUNDED = aiohttp.ClientTimeout(total=None)
# How much of a fill may be unsynced (`cache.pump`), and the batches under way then.
UNSYNCED_MAX = (64 + 16) * MIB


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[SlowDisk]:
    slow = SlowDisk(size=320 * MIB, overlay=getattr(request, "param", "") == "overlay")
    try:
        slow.__enter__()
    except NoSlowDisk as error:
        pytest.skip(f"a disk that hangs can't be made here: {error}")
    with contextlib.ExitStack() as stack:
        stack.push(slow)
        yield slow


@pytest.fixture
def authority(request: pytest.FixtureRequest, tmp_path: Path) -> PrivateCa | None:
    """Pulls go over TLS if it is asked for with a parameter that is true."""
    return issue(tmp_path / "authority") if getattr(request, "param", False) else None


@pytest.fixture
async def process(
    tmp_path: Path, disk: SlowDisk, upstream: FakeRegistry, authority: PrivateCa | None
) -> AsyncIterator[Process]:
    files = {}
    if authority is not None:
        files = {"tls_cert_file": str(authority.cert), "tls_key_file": str(authority.key)}
    process = Process(tmp_path / "replica", upstream, settings=files)
    process.data_dir.symlink_to(disk.folder)
    try:
        await process.up()
        yield process
    finally:
        try:
            # Or it could not be killed.
            await asyncio.to_thread(disk.release)
        finally:
            await process.crash()


@pytest.fixture
async def proxy(process: Process, authority: PrivateCa | None) -> AsyncIterator[Running]:
    trusted = None if authority is None else str(authority.ca)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=trusted))
    async with aiohttp.ClientSession(auto_decompress=False, connector=connector) as client:
        yield Running(process, client, "http" if authority is None else "https")


async def until_held(disk: SlowDisk) -> None:
    await until(lambda: disk.held, "a call hangs", deadline_s=PATIENCE_S)


async def warm(proxy: Running, upstream: FakeRegistry) -> Image:
    """An image with a large layer, pulled, kept and in memory as far as it belongs there."""
    img = upstream.add("app", image(SMALL, LARGE), "v1")
    for _ in range(2):
        for path in (f"/v2/lab/app/manifests/{img.digest}", *map(path_of, img.blobs)):
            assert (await proxy.ask(path)).status == 200
        await until_landed(proxy)
    return img


async def others_go_on(proxy: Running, img: Image, process: Process, disk: SlowDisk) -> None:
    """So many requests one after the other, of each kind, while the disk still hangs."""
    small = img.layers[0]
    try:
        for _ in range(ROUNDS):
            assert disk.held > 0
            answer = await proxy.ask(f"/v2/lab/app/manifests/{img.digest}")
            assert answer.sha256 == str(img.digest)
            assert (await proxy.ask(path_of(small))).body == small.body
            async with proxy.client.get(f"{process.admin}/livez") as response:
                assert response.status == 200
        assert disk.held > 0
    except (AssertionError, TimeoutError) as error:
        error.add_note(threads_of(process))
        raise


def threads_of(process: Process) -> str:
    """What each thread of the proxy waits for in the kernel; the first is the loop's."""
    said: list[str] = []
    for task in sorted(
        Path(f"/proc/{process.pid}/task").iterdir(), key=lambda path: int(path.name)
    ):
        try:
            state = (task / "status").read_text().split("State:")[1].splitlines()[0].strip()
            said.append(f"{(task / 'comm').read_text().strip()}: {state}")
            said.append((task / "stack").read_text())
        except OSError as error:
            said.append(f"{task.name}: {error}")
    return "\n".join(said)


async def pulled(proxy: Running, blob: Content, start: int, end: int) -> None:
    """Bytes `[start, end)`, right; however long they take."""
    headers = {"Range": f"bytes={start}-{end - 1}"} if end - start < blob.size else {}
    async with proxy.client.get(
        proxy.url + path_of(blob), headers=headers, timeout=UNBOUNDED
    ) as response:
        assert response.status == (206 if headers else 200)
        assert await response.read() == blob.body[start:end]


def kept(process: Process, blob: Content) -> Path:
    return process.data_dir / "blobs/public/sha256" / blob.digest.hex[:2] / blob.digest.hex


NOTHING = pytest.param((0, LARGE), id="nothing in the page cache")
FIRST_PART = pytest.param((10 * MIB, LARGE - 10 * MIB), id="the first part in it")
# Between any two bytes that a quick look might ask for, and so large that there is
# a whole page in it even if the kernel made it as large as it can.
HOLE = pytest.param((17 * MIB + MIB // 2, 3 * MIB + MIB // 2), id="a hole in the middle")


@pytest.mark.parametrize("gone", [NOTHING, FIRST_PART, HOLE])
@pytest.mark.parametrize("disk", ["", "overlay"], indirect=True)
async def test_a_disk_that_hangs_on_reading_stops_only_who_reads(
    gone: tuple[int, int],
    disk: SlowDisk,
    process: Process,
    proxy: Running,
    upstream: FakeRegistry,
) -> None:
    await only_who_reads_waits(gone, disk, process, proxy, upstream)


@pytest.mark.parametrize("gone", [NOTHING, HOLE])
@pytest.mark.parametrize("authority", [pytest.param(True, id="tls")], indirect=True)
async def test_a_disk_that_hangs_on_reading_stops_only_who_reads_over_tls(
    gone: tuple[int, int],
    disk: SlowDisk,
    process: Process,
    proxy: Running,
    upstream: FakeRegistry,
) -> None:
    assert proxy.url.startswith("https://")
    await only_who_reads_waits(gone, disk, process, proxy, upstream)


async def only_who_reads_waits(
    gone: tuple[int, int],
    disk: SlowDisk,
    process: Process,
    proxy: Running,
    upstream: FakeRegistry,
) -> None:
    """With `gone` (where, how many bytes) of the large layer not in the page cache."""
    img = await warm(proxy, upstream)
    large = img.layers[1]
    forget_cached(kept(process, large), *gone)
    with disk.hanging("read"):
        pull = asyncio.create_task(pulled(proxy, large, 0, LARGE))
        await until_held(disk)
        await others_go_on(proxy, img, process, disk)
        assert not pull.done()
    async with asyncio.timeout(PATIENCE_S):
        await pull


async def test_many_hanging_readers_leave_threads_for_the_others(
    disk: SlowDisk, process: Process, proxy: Running, upstream: FakeRegistry
) -> None:
    """More of them than a small machine has threads for its pool; what nobody knows yet is
    looked for by one.
    """
    img = await warm(proxy, upstream)
    large = img.layers[1]
    forget_cached(kept(process, large), 0, LARGE)
    with disk.hanging("read"):
        pulls = [
            asyncio.create_task(pulled(proxy, large, at * MIB // 2, at * MIB // 2 + MIB))
            for at in range(40)
        ]
        await until_held(disk)
        await others_go_on(proxy, img, process, disk)
        for number in range(ROUNDS):
            assert (await proxy.ask(f"/v2/lab/app/manifests/unknown-{number}")).status == 404
        assert disk.held > 0
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*pulls)


async def test_a_disk_that_hangs_on_writing_stops_no_stream_before_its_bound(
    disk: SlowDisk, process: Process, proxy: Running, upstream: FakeRegistry
) -> None:
    size = 160 * MIB
    img = await warm(proxy, upstream)
    # Its file is there before the disk hangs: making one needs the disk.
    cold = add_layer(upstream, size, "cold")
    begin = asyncio.Event()
    upstream.inject(Fault(stall_at=2 * MIB, stall=begin), kind="blob", method="GET")
    before = memory_bytes(process)
    received, hasher = 0, hashlib.sha256()

    async def pull() -> None:
        nonlocal received
        url = proxy.url + path_of(cold, "cold")
        async with proxy.client.get(url, timeout=UNBOUNDED) as response:
            async for chunk in response.content.iter_any():
                hasher.update(chunk)
                received += len(chunk)

    pulling = asyncio.create_task(pull())
    await until_written(proxy, 1 * MIB)
    with disk.hanging("write"):
        begin.set()
        # Its bytes come although not one of them is on the disk,
        await until(lambda: received >= 32 * MIB, "32 MiB have come", deadline_s=PATIENCE_S)
        await until_held(disk)
        await others_go_on(proxy, img, process, disk)
        # but no more of them than may be lost, and the rest stays with the upstream.
        (flight,) = (await proxy.status())["flights"]
        assert flight["written"] <= UNSYNCED_MAX
        assert memory_bytes(process) - before < 64 * MIB
    async with asyncio.timeout(PATIENCE_S):
        await pulling
    assert (received, "sha256:" + hasher.hexdigest()) == (size, str(cold.digest))
    await until_landed(proxy)
    assert hashlib.sha256(kept(process, cold).read_bytes()).hexdigest() == cold.digest.hex


def memory_bytes(process: Process) -> int:
    """What is resident of the proxy itself, without pages of files."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024
