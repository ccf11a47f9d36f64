"""The disk is small: what was used least makes room, no pull is refused, no reader hurt."""

from __future__ import annotations

import asyncio
import contextlib
import os

from tests.flows.conftest import World
from tests.flows.layers import (
    MIB,
    add_layer,
    add_layers,
    file_of,
    path_of,
    pull_layer,
    raw_get,
    read_until_closed,
    until_landed,
)
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.waiting import until

SIZE = 3_000_000


def kept_bytes(world: World) -> int:
    return sum(p.stat().st_size for p in (world.root / "data/blobs").rglob("*") if p.is_file())


async def test_eviction_makes_room_and_no_pull_is_refused(
    world: World, upstream: FakeRegistry
) -> None:
    blobs = add_layers(upstream, 12)
    proxy = await world.start({"lab": upstream}, disk_bytes_max=10 * MIB)
    for blob in blobs:
        await pull_layer(proxy, blob)
        await until_landed(proxy)
        assert kept_bytes(world) <= 10 * MIB
        assert file_of(world, blob).exists()
    assert await proxy.metric("entrepot_evicted_blobs_total") == 12 - 3
    assert (await proxy.status())["disk"]["bytes"] == kept_bytes(world)
    # And many at once, more than fit together: some are passed through.
    await asyncio.gather(*(pull_layer(proxy, blob) for blob in blobs))
    await until_landed(proxy)
    assert kept_bytes(world) <= 10 * MIB
    assert (await proxy.status())["disk"]["reserved_bytes"] == 0


async def test_the_least_recently_used_blob_goes_first(
    world: World, upstream: FakeRegistry
) -> None:
    a, b, c, d, e = add_layers(upstream, 5)
    proxy = await world.start({"lab": upstream}, disk_bytes_max=10 * MIB)
    for blob in (a, b, c):
        await pull_layer(proxy, blob)
    await until_landed(proxy)
    for age_s, blob in ((10, a), (9000, b), (300, c)):
        status = file_of(world, blob).stat()
        os.utime(file_of(world, blob), (status.st_atime - age_s, status.st_mtime))
    await pull_layer(proxy, d)
    await until_landed(proxy)
    assert [file_of(world, blob).exists() for blob in (a, b, c, d)] == [True, False, True, True]
    await pull_layer(proxy, e)
    await until_landed(proxy)
    assert [file_of(world, blob).exists() for blob in (a, c, d, e)] == [True, False, True, True]


async def test_a_use_is_noted_and_saves_a_blob(world: World, upstream: FakeRegistry) -> None:
    a, b, c = add_layers(upstream, 3)
    proxy = await world.start({"lab": upstream}, disk_bytes_max=7 * MIB)
    for blob in (a, b):
        await pull_layer(proxy, blob)
        await until_landed(proxy)
        status = file_of(world, blob).stat()
        os.utime(file_of(world, blob), (status.st_atime - 1000, status.st_mtime))
    before = file_of(world, a).stat().st_atime
    await pull_layer(proxy, a)
    await until(lambda: file_of(world, a).stat().st_atime != before, "its use is noted")
    await pull_layer(proxy, c)
    await until_landed(proxy)
    assert [file_of(world, blob).exists() for blob in (a, b, c)] == [True, False, True]


async def test_a_blob_that_is_being_read_is_not_evicted_and_its_reader_not_hurt(
    world: World, upstream: FakeRegistry
) -> None:
    others = add_layers(upstream, 5)
    # More than fits into the buffers of a connection: then it would be read already.
    read = add_layer(upstream, 24 * MIB, "read")
    proxy = await world.start({"lab": upstream}, disk_bytes_max=31 * MIB)
    await pull_layer(proxy, read, "read")
    await until_landed(proxy)
    slow = await raw_get(proxy, path_of(read, "read"), receive_bytes=64 * 1024)
    with contextlib.closing(slow):
        received = await asyncio.get_running_loop().sock_recv(slow, 1000)
        status = file_of(world, read).stat()
        os.utime(file_of(world, read), (status.st_atime - 9000, status.st_mtime))
        for blob in others:
            await pull_layer(proxy, blob)
            await until_landed(proxy)
        assert file_of(world, read).exists()
        # Even gone from the folder, it is read to its end.
        file_of(world, read).unlink()
        while len(received.partition(b"\r\n\r\n")[2]) < read.size:
            received += await asyncio.get_running_loop().sock_recv(slow, 1 << 20)
    assert received.partition(b"\r\n\r\n")[2] == read.body


async def test_a_blob_larger_than_the_budget_is_passed_through_and_evicts_nothing(
    world: World, upstream: FakeRegistry
) -> None:
    (small,) = add_layers(upstream, 1, size=500_000)
    huge = add_layer(upstream, 5 * MIB, "huge")
    proxy = await world.start({"lab": upstream}, disk_bytes_max=4 * MIB)
    await pull_layer(proxy, small)
    await until_landed(proxy)
    for _ in range(2):
        await pull_layer(proxy, huge, "huge")
    tail = await proxy.ask(path_of(huge, "huge"), Range="bytes=-777")
    assert (tail.status, tail.body) == (206, huge.body[-777:])
    assert not file_of(world, huge).exists()
    assert file_of(world, small).exists()
    assert (await proxy.status())["disk"]["reserved_bytes"] == 0


async def test_spools_that_were_left_count_as_used_and_are_the_first_to_go(
    world: World, upstream: FakeRegistry
) -> None:
    left = add_layer(upstream, 9 * MIB, "left")
    upstream.inject(Fault(end_at=8 * MIB + 500_000), kind="blob", method="GET")
    upstream.inject(Fault(status=404), kind="blob", method="GET")
    proxy = await world.start({"lab": upstream}, disk_bytes_max=10 * MIB, negative_s=0)
    assert (await proxy.ask(path_of(left, "left"))).cut
    await until_landed(proxy)
    spools = list((world.root / "data" / "spool").iterdir())
    assert len(spools) == 2
    (blob,) = add_layers(upstream, 1)
    # It is young: somebody may come back for it. So the newcomer is passed through.
    await pull_layer(proxy, blob)
    assert not file_of(world, blob).exists()
    for path in spools:
        os.utime(path, (1, 1))
    await pull_layer(proxy, blob)
    await until_landed(proxy)
    assert file_of(world, blob).exists()
    assert list((world.root / "data" / "spool").iterdir()) == []


async def test_a_left_spool_needs_no_second_room_to_be_resumed(
    world: World, upstream: FakeRegistry
) -> None:
    left = add_layer(upstream, 9 * MIB, "left")
    upstream.inject(Fault(end_at=8 * MIB + 500_000), kind="blob", method="GET")
    upstream.inject(Fault(status=404), kind="blob", method="GET")
    proxy = await world.start({"lab": upstream}, disk_bytes_max=10 * MIB, negative_s=0)
    assert (await proxy.ask(path_of(left, "left"))).cut
    await until_landed(proxy)
    await pull_layer(proxy, left, "left")
    await until_landed(proxy)
    assert file_of(world, left).exists()
    assert upstream.requests(kind="blob")[-1].headers["Range"].startswith("bytes=8")


async def test_readers_of_a_cut_connection_leave_no_descriptor_behind(
    world: World, upstream: FakeRegistry
) -> None:
    blobs = add_layers(upstream, 20, size=400_000)
    proxy = await world.start({"lab": upstream})
    for blob in blobs:
        await pull_layer(proxy, blob)
    await until_landed(proxy)
    assert proxy.entrepot.status is not None
    storage = proxy.entrepot.status._backing.local
    storage.blobs.close()  # So that each request below has to open its file.
    before = len(os.listdir("/proc/self/fd"))
    for blob in blobs * 3:
        connection = await raw_get(proxy, path_of(blob))
        await asyncio.sleep(0)
        connection.close()
        storage.blobs.close()
    other = await raw_get(proxy, "/v2/")
    with contextlib.closing(other), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await read_until_closed(other)

    def closed() -> bool:
        storage.blobs.close()
        return len(os.listdir("/proc/self/fd")) <= before + 1

    await until(closed, "no file is left open", deadline_s=5)
