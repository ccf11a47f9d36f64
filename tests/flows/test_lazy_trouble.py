"""Ranges of a cold blob when something is off: with the upstream, the manifest, the
clients or the disk.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os

import pytest

from proxy.cache import lanes, pump
from proxy.cache.flights import Flight
from proxy.cache.spool import Spool
from proxy.storage.disk import DiskBlobs
from proxy.storage.room import Room
from tests.flows.conftest import Running, World
from tests.flows.layers import MIB, add_layer, file_of, path_of, pull_layer, until_landed
from tests.flows.test_lazy_pulls import ask_range
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import OCI_CONFIG, OCI_LAYER, Content, Image, document, pseudo_random
from tests.support.waiting import until

SIZE = 40 * MIB


def room_of(proxy: Running) -> Room:
    assert proxy.entrepot.status is not None
    local = proxy.entrepot.status._cache.blobs._local
    assert isinstance(local, DiskBlobs)
    return local.room


def flights_of(proxy: Running) -> list[Flight]:
    assert proxy.entrepot.status is not None
    return proxy.entrepot.status._cache.flights.all()


def flight_of(proxy: Running) -> Flight:
    (flight,) = flights_of(proxy)
    return flight


async def until_gone(proxy: Running) -> None:
    """Until no reader of the one fill is left."""
    flight = flight_of(proxy)
    await until(
        lambda: not (flight.followers or flight.arriving or len(flight.demands)), "all have left"
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill of which only ranges were wanted ends soon after its readers."""
    monkeypatch.setattr(lanes, "_LINGER_S", 0.02)


async def test_the_whole_is_asked_for_while_the_first_range_waits_for_its_head(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    go = asyncio.Event()
    upstream.inject(Fault(delay=go), kind="blob", method="GET")
    ranged = asyncio.create_task(ask_range(proxy, blob, 20 * MIB, 21 * MIB))
    await upstream.wait_requests(1, kind="blob", method="GET")
    whole = asyncio.create_task(pull_layer(proxy, blob))
    flight = flight_of(proxy)
    await until(lambda: flight.whole, "all of it is wanted")
    go.set()
    await asyncio.gather(ranged, whole)
    await until_landed(proxy)
    assert file_of(world, blob).read_bytes() == blob.body
    # A stretch as short as that is not gone around.
    assert upstream.bytes_sent(kind="blob", method="GET") <= SIZE + MIB


async def test_a_range_behind_the_end_fetches_next_to_nothing(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    for start in (SIZE, SIZE + 5, 10 * SIZE):
        answer = await proxy.ask(path_of(blob), Range=f"bytes={start}-")
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert upstream.bytes_sent(kind="blob", method="GET") <= 1


@pytest.mark.parametrize("said", [100, 20 * MIB, 10 * SIZE])
async def test_a_manifest_that_lies_about_the_size_changes_no_answer(
    world: World, upstream: FakeRegistry, said: int
) -> None:
    blob = Content.of(OCI_LAYER, pseudo_random("lied about", SIZE))
    config = Content.of(OCI_CONFIG, b"{}")
    told = {**blob.descriptor(), "size": said}
    described = {"schemaVersion": 2, "config": config.descriptor(), "layers": [told]}
    manifest = Content.of("application/vnd.oci.image.manifest.v1+json", document(described))
    upstream.add("app", Image(manifests=(manifest,), blobs=(config, blob)), "v1")
    proxy = await world.start({"lab": upstream})
    answer = await proxy.ask("/v2/lab/app/manifests/v1")
    assert json.loads(answer.body)["layers"][0]["size"] == said
    await ask_range(proxy, blob, 30 * MIB, 30 * MIB + 500)
    behind = await proxy.ask(path_of(blob), Range=f"bytes={SIZE + 7}-{SIZE + 9}")
    assert behind.status == 416
    await ask_range(proxy, blob, SIZE - 100, SIZE)
    await pull_layer(proxy, blob)


async def test_behind_what_is_believed_to_be_the_size_there_is_no_such_range(
    world: World, upstream: FakeRegistry
) -> None:
    """The first question is for bytes that only the manifest knows of."""
    blob = Content.of(OCI_LAYER, pseudo_random("lied about", 10 * MIB))
    told = {**blob.descriptor(), "size": 10 * SIZE}
    config = Content.of(OCI_CONFIG, b"{}")
    described = {"schemaVersion": 2, "config": config.descriptor(), "layers": [told]}
    manifest = Content.of("application/vnd.oci.image.manifest.v1+json", document(described))
    upstream.add("app", Image(manifests=(manifest,), blobs=(config, blob)), "v1")
    proxy = await world.start({"lab": upstream})
    await proxy.ask("/v2/lab/app/manifests/v1")
    answer = await proxy.ask(path_of(blob), Range=f"bytes={20 * MIB}-{21 * MIB}")
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{blob.size}"
    await pull_layer(proxy, blob)


async def test_another_validator_than_ours_brings_the_whole(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    answer = await proxy.ask(path_of(blob), Range="bytes=9000000-9000009", If_Range='"other"')
    assert (answer.status, answer.cut) == (200, False)
    assert answer.body == blob.body


async def test_overlapping_and_unordered_parts_are_all_right(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    asked = [(9 * MIB, 11 * MIB), (10 * MIB, 10 * MIB + 5), (8 * MIB, 12 * MIB), (0, 9), (3, 5)]
    header = "bytes=" + ",".join(f"{a}-{b - 1}" for a, b in asked) + ",-20"
    answer = await proxy.ask(path_of(blob), Range=header)
    assert answer.status == 206
    for start, end in [*asked, (SIZE - 20, SIZE)]:
        head = f"Content-Range: bytes {start}-{end - 1}/{SIZE}\r\n\r\n".encode()
        assert head + blob.body[start:end] in answer.body
    assert upstream.bytes_sent(kind="blob", method="GET") == 4 * MIB + 9 + 20


@pytest.mark.usefixtures("impatient")
async def test_the_books_are_right_when_ranges_are_left_resumed_and_completed(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    room = room_of(proxy)
    for at in (3, 30, 17):
        await ask_range(proxy, blob, at * MIB, at * MIB + 300_000)
        await until_landed(proxy)
        taken = sum(p.stat().st_blocks * 512 for p in (world.root / "data/spool").iterdir())
        assert (room.reserved, room.used) == (0, 0)
        assert 300_000 <= room.left <= taken
    await pull_layer(proxy, blob)
    await until_landed(proxy)
    assert (room.reserved, room.left, room.used) == (0, 0, SIZE)


@pytest.mark.usefixtures("impatient")
async def test_clients_that_vanish_leave_nothing_behind(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    held = asyncio.Event()
    fault = Fault(stall_at=100, stall=held)
    upstream.inject(fault, kind="blob", method="GET", times=None)
    files = len(os.listdir("/proc/self/fd"))

    headers = [f"bytes={at * MIB}-" for at in range(20, 30)]
    headers += [f"bytes={9 * MIB}-{10 * MIB}", "bytes=0-9,99-199,5000000-5000999"]
    asked = [asyncio.create_task(proxy.ask(path_of(blob), Range=header)) for header in headers]
    await until(
        lambda: sum(flight.followers for flight in flights_of(proxy)) >= len(asked), "all follow"
    )
    # One asks for three parts, the first of which comes before it stalls.
    demands = flight_of(proxy).demands
    await until(lambda: len(demands) == len(asked) + 1, "all that can come has come")
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await until_gone(proxy)
    held.set()
    await until_landed(proxy)
    assert room_of(proxy).reserved == 0
    upstream.heal()
    await pull_layer(proxy, blob)
    await until_landed(proxy)
    await proxy.client.close()
    await upstream.stop()
    # The blob itself stays open, and the upstream's socket is closed.
    await until(lambda: len(os.listdir("/proc/self/fd")) <= files, "no more files are open")


async def test_an_upstream_that_forgets_ranges_is_not_asked_once_for_each_hole(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    for at in (8, 16, 24, 32):
        await ask_range(proxy, blob, at * MIB, at * MIB + 3 * MIB // 2)
    before = upstream.count(kind="blob", method="GET")
    upstream.inject(Fault(ignore_range=True), kind="blob", method="GET", times=None)
    await pull_layer(proxy, blob)
    assert upstream.count(kind="blob", method="GET") == before + 1


@pytest.mark.usefixtures("impatient")
async def test_an_upstream_that_tells_another_size_later_is_not_believed(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    lie = f"bytes {2 * MIB}-{3 * MIB - 1}/{SIZE - 1}"
    upstream.inject(Fault(content_range=lie), kind="blob", method="GET")
    first = await proxy.ask(path_of(blob), Range=f"bytes={2 * MIB}-{3 * MIB - 1}")
    assert (first.status, first.body) == (206, blob.body[2 * MIB : 3 * MIB])
    await until_landed(proxy)
    # What is left has the wrong size: it is given up, and the rest is right.
    await ask_range(proxy, blob, 20 * MIB, 21 * MIB)
    await pull_layer(proxy, blob)


# So few bytes have all been received when the disk fails: the window has ended.
@pytest.mark.parametrize("length", [500, MIB])
@pytest.mark.usefixtures("impatient")
async def test_a_disk_that_fails_in_a_window_cuts_the_reader_and_nobody_later(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 0, 2)
    with monkeypatch.context() as broken:

        def full(*_args: object) -> None:
            raise OSError(errno.ENOSPC, "the disk is full")

        broken.setattr(Spool, "write_blocking", full)
        answer = await proxy.ask(path_of(blob), Range=f"bytes={9 * MIB}-{9 * MIB + length - 1}")
        assert answer.cut
        assert blob.body[9 * MIB :].startswith(answer.body)
        await until_landed(proxy)
    assert room_of(proxy).reserved == 0
    await ask_range(proxy, blob, 9 * MIB, 10 * MIB)
    await pull_layer(proxy, blob)


async def test_a_disk_that_fails_while_nobody_reads_ends_the_fill(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lingers only for readers whose bytes it could write."""
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    monkeypatch.setattr(pump, "VOUCH_S", 0.02)
    with monkeypatch.context() as broken:

        def fail(*_args: object) -> None:
            raise OSError(errno.EIO, "the disk is broken")

        broken.setattr(Spool, "journal_tail_blocking", fail)
        await ask_range(proxy, blob, 0, 500)
        await until_landed(proxy)
    assert room_of(proxy).reserved == 0
    await ask_range(proxy, blob, 0, 500)


async def test_a_stop_while_ranges_are_fetched_does_not_wait_for_them(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 0, 500_000)
    upstream.inject(Fault(stall_at=1000), kind="blob", method="GET", times=None)
    asked = [
        asyncio.create_task(proxy.ask(path_of(blob), Range=f"bytes={at * MIB}-"))
        for at in (9, 20, 30)
    ]
    await upstream.wait_requests(4, kind="blob", method="GET")
    async with asyncio.timeout(20):
        await world.stack.aclose()
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    upstream.heal()
    proxy = await world.start({"lab": upstream})
    sent = upstream.bytes_sent(kind="blob", method="GET")
    await ask_range(proxy, blob, 0, 500_000)
    assert upstream.bytes_sent(kind="blob", method="GET") == sent
    await pull_layer(proxy, blob)
