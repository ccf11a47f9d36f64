"""One blob for several repositories and clients: fetched once, shown only where it
belongs, and passed through where it can't be kept.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from proxy.cache.local import OpenFile
from proxy.ports import BlobKey
from tests.flows.conftest import World
from tests.flows.layers import (
    MIB,
    add_layer,
    add_stalled_layer,
    path_of,
    pull_layer,
    until_landed,
    until_written,
)
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, image

SIZE = 3_000_000
LARGE = 24 * MIB
HALF = SIZE // 2


async def test_a_follower_from_another_repository_is_vouched_for_by_one_head(
    world: World, upstream: FakeRegistry
) -> None:
    blob, held = add_stalled_layer(upstream, SIZE, at=HALF)
    add_layer(upstream, SIZE, "fork")
    proxy = await world.start({"lab": upstream})
    first = asyncio.create_task(proxy.ask(path_of(blob)))
    await upstream.wait_requests(1, kind="blob")
    await until_written(proxy, 1)
    others = [asyncio.create_task(proxy.ask(path_of(blob, "fork"))) for _ in range(5)]
    await upstream.wait_requests(1, kind="blob", method="HEAD")
    held.set()
    for answer in await asyncio.gather(first, *others):
        assert (answer.status, answer.body) == (200, blob.body)
    assert upstream.count(kind="blob", method="GET") == 1
    (asked,) = upstream.requests(kind="blob", method="HEAD")
    assert asked.repository == "fork"


async def test_a_refusal_binds_only_the_repository_that_was_refused(
    world: World, upstream: FakeRegistry
) -> None:
    blob, held = add_stalled_layer(upstream, SIZE, at=HALF)
    add_layer(upstream, 10, "other")
    proxy = await world.start({"lab": upstream})
    first = asyncio.create_task(proxy.ask(path_of(blob)))
    await until_written(proxy, 1)
    refused = await proxy.ask(path_of(blob, "other"))
    assert (refused.status, blob.body[:50] in refused.body) == (404, False)
    held.set()
    answer = await first
    assert (answer.status, answer.cut, answer.body) == (200, False, blob.body)
    # Held by now, it is still not the other repository's.
    assert (await proxy.ask(path_of(blob, "other"))).status == 404


async def test_a_refused_first_comer_leaves_the_fill_to_the_others(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    add_layer(upstream, 10, "other")
    late = asyncio.Event()
    upstream.inject(Fault(delay=late), kind="blob", method="GET")
    proxy = await world.start({"lab": upstream})
    first = asyncio.create_task(proxy.ask(path_of(blob, "other")))
    await upstream.wait_requests(1, kind="blob")
    second = asyncio.create_task(proxy.ask(path_of(blob)))
    await upstream.wait_requests(1, kind="blob", method="HEAD")
    late.set()
    assert (await first).status == 404
    answer = await second
    assert (answer.status, answer.body) == (200, blob.body)


async def test_a_held_blob_is_not_downloaded_again_for_another_repository(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    add_layer(upstream, SIZE, "fork")
    proxy = await world.start({"lab": upstream})
    for repository in ("app", "fork", "fork"):
        answer = await proxy.ask(path_of(blob, repository))
        assert (answer.status, answer.body) == (200, blob.body)
    assert upstream.count(kind="blob", method="GET") == 1
    assert upstream.count(kind="blob", method="HEAD") == 1


async def test_clients_that_arrive_while_a_fill_lands_never_cause_a_second_fetch(
    world: World, upstream: FakeRegistry
) -> None:
    sizes = [300_000 + number for number in range(40)]
    blobs = upstream.add("app", image(*sizes), "v1").layers
    proxy = await world.start({"lab": upstream})

    async def pull(blob: Content, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        answer = await proxy.ask(path_of(blob))
        assert (answer.status, answer.cut) == (200, False)

    # Arrivals spread over the few milliseconds that a fill takes.
    for blob in blobs:
        await asyncio.gather(*(pull(blob, number * 0.0004) for number in range(25)))
    assert upstream.count(kind="blob") == len(blobs)


async def test_a_look_at_the_disk_just_before_a_fill_lands_causes_no_second_fetch(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, held = add_stalled_layer(upstream, SIZE, at=HALF)
    proxy = await world.start({"lab": upstream})
    first = asyncio.create_task(pull_layer(proxy, blob))
    await until_written(proxy, HALF)
    assert proxy.entrepot.status is not None
    files = proxy.entrepot.status._backing.local.blobs._files
    looked, go, really = threading.Event(), threading.Event(), files.open

    def look_slowly(key: BlobKey) -> OpenFile | None:
        found = really(key)
        looked.set()
        go.wait(10)
        return found

    monkeypatch.setattr(files, "open", look_slowly)
    second = asyncio.create_task(pull_layer(proxy, blob))
    await asyncio.to_thread(looked.wait, 10)
    monkeypatch.setattr(files, "open", really)
    held.set()
    await first
    await until_landed(proxy)
    go.set()
    await second
    assert upstream.count(kind="blob") == 1


async def test_a_range_far_ahead_of_the_fill_does_not_wait_for_it(
    world: World, upstream: FakeRegistry
) -> None:
    blob, held = add_stalled_layer(upstream, LARGE, at=1_000_000)
    proxy = await world.start({"lab": upstream})
    async with proxy.client.get(proxy.url + path_of(blob)) as whole:
        await whole.content.readexactly(1000)
        tail = await proxy.ask(path_of(blob), Range="bytes=-1000")
        assert (tail.status, tail.body) == (206, blob.body[-1000:])
        held.set()
        assert await whole.content.read() == blob.body[1000:]
    assert upstream.bytes_sent(kind="blob") == LARGE + 1000


async def test_a_head_of_a_cold_blob_downloads_nothing(
    world: World, upstream: FakeRegistry
) -> None:
    blobs = upstream.add("app", image(SIZE, 0, 100), "v1").layers
    proxy = await world.start({"lab": upstream})
    for blob in blobs:
        answer = await proxy.ask(path_of(blob), "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["Content-Length"]) == blob.size
        assert answer.headers["Docker-Content-Digest"] == str(blob.digest)
    assert upstream.count(kind="blob", method="GET") == 0
    await until_landed(proxy)


async def test_with_all_flights_taken_a_blob_is_passed_through_unkept(
    world: World, upstream: FakeRegistry
) -> None:
    blob, held = add_stalled_layer(upstream, SIZE, at=HALF)
    more = upstream.add("more", image(SIZE, 1000, seed="more"), "v1").layers
    proxy = await world.start({"lab": upstream}, flights_max=1)
    first = asyncio.create_task(proxy.ask(path_of(blob)))
    await until_written(proxy, 1)
    for _ in range(2):
        for one in more:
            answer = await proxy.ask(path_of(one, "more"))
            assert (answer.status, answer.cut, answer.body) == (200, False, one.body)
    # Each time anew: it was kept nowhere.
    fetched = [s for s in upstream.requests(kind="blob", method="GET") if s.repository == "more"]
    assert len(fetched) == 4
    held.set()
    assert (await first).body == blob.body
    # A missing one is missing, not cut.
    missing = "/v2/lab/more/blobs/sha256:" + "0" * 64
    assert (await proxy.ask(missing)).status == 404
