"""Ranges of a large cold blob: what lazy and parallel pullers ask for is brought first,
once, and kept; the rest only when much was asked for.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.flows.conftest import Answer, Running, World
from tests.flows.layers import MIB, add_layer, path_of, pull_layer, until_landed
from tests.flows.test_ranges import parts_of
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content

SIZE = 40 * MIB


async def ask_range(proxy: Running, blob: Content, start: int, end: int) -> Answer:
    """Those bytes, right."""
    answer = await proxy.ask(path_of(blob), Range=f"bytes={start}-{end - 1}")
    assert (answer.status, answer.cut) == (206, False)
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{blob.size}"
    assert answer.body == blob.body[start:end]
    return answer


async def test_scattered_chunks_cost_the_upstream_these_chunks_once(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    chunks = [(at * MIB + 12_345, at * MIB + 62_345) for at in (30, 2, 17, 5, 39)]
    for _ in range(2):
        for start, end in chunks:
            await ask_range(proxy, blob, start, end)
    assert upstream.bytes_sent(kind="blob", method="GET") == 5 * 50_000
    # What lies between known chunks is all that is asked for.
    await ask_range(proxy, blob, 2 * MIB, 3 * MIB)
    assert upstream.bytes_sent(kind="blob", method="GET") == 4 * 50_000 + MIB


async def test_readers_of_the_same_chunks_at_once_share_them(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    chunks = [(at * MIB, at * MIB + 100_000) for at in range(0, 40, 8)]
    await asyncio.gather(
        *(ask_range(proxy, blob, start, end) for start, end in chunks for _ in range(8))
    )
    assert upstream.bytes_sent(kind="blob", method="GET") == 5 * 100_000


async def test_a_probe_of_two_bytes_brings_two_bytes(world: World, upstream: FakeRegistry) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 0, 2)
    assert upstream.bytes_sent(kind="blob", method="GET") == 2


async def test_parts_of_a_multi_range_are_fetched_and_nothing_else(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    # The last two are close: they come in one go.
    asked = [(20 * MIB, 20 * MIB + 50_000), (7, 9), (5 * MIB, 6 * MIB), (6 * MIB + 9, 6 * MIB + 99)]
    header = "bytes=" + ",".join(f"{a}-{b - 1}" for a, b in asked)
    answer = await proxy.ask(path_of(blob), Range=header)
    assert parts_of(answer) == [(a, b, blob.body[a:b]) for a, b in asked]
    assert upstream.bytes_sent(kind="blob", method="GET") == 50_000 + 2 + MIB + 99
    assert upstream.count(kind="blob", method="GET") == 3


async def test_who_hangs_up_on_an_open_range_does_not_drag_in_the_tail(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    async with proxy.client.get(
        proxy.url + path_of(blob), headers={"Range": f"bytes={10 * MIB}-"}
    ) as response:
        assert response.status == 206
        assert int(response.headers["Content-Length"]) == SIZE - 10 * MIB
        head = await response.content.readexactly(300_000)
        assert head == blob.body[10 * MIB : 10 * MIB + 300_000]
        # Now it is known that the client reads no further.
        response.close()
    answer = await ask_range(proxy, blob, 35 * MIB, 35 * MIB + 10)
    assert answer.status == 206
    # What the client's own buffers took counts as read.
    assert upstream.bytes_sent(kind="blob", method="GET") <= 16 * MIB


async def test_an_open_range_reaches_the_last_byte_and_the_rest_follows(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    start = 3 * MIB + 17
    answer = await proxy.ask(path_of(blob), Range=f"bytes={start}-")
    assert (answer.status, answer.cut) == (206, False)
    assert answer.body == blob.body[start:]
    await until_landed(proxy)
    await pull_layer(proxy, blob)
    # All but the beginning came ahead; nothing came twice.
    assert upstream.bytes_sent(kind="blob", method="GET") == SIZE


async def test_a_quarter_asked_for_brings_the_rest(world: World, upstream: FakeRegistry) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    for number in range(5):
        await ask_range(proxy, blob, number * 8 * MIB, number * 8 * MIB + 2 * MIB)
    await until_landed(proxy)
    assert upstream.bytes_sent(kind="blob", method="GET") == SIZE
    await upstream.stop()
    await pull_layer(proxy, blob)


async def test_the_whole_goes_around_what_ranges_brought(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 10 * MIB, 14 * MIB)
    await ask_range(proxy, blob, 38 * MIB, 40 * MIB)
    await pull_layer(proxy, blob)
    await until_landed(proxy)
    assert upstream.bytes_sent(kind="blob", method="GET") == SIZE


async def test_ranges_are_kept_over_a_restart(world: World, upstream: FakeRegistry) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    chunks = [(at * MIB, at * MIB + 300_000) for at in (1, 20, 33)]
    for start, end in chunks:
        await ask_range(proxy, blob, start, end)
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream})
    for start, end in chunks:
        await ask_range(proxy, blob, start, end)
    assert upstream.bytes_sent(kind="blob", method="GET") == 3 * 300_000
    # And only that is taken on the disk.
    taken = sum(path.stat().st_blocks * 512 for path in (world.root / "data/spool").iterdir())
    assert taken < 4 * MIB
    await pull_layer(proxy, blob)


async def test_damage_to_a_kept_range_costs_a_fetch_and_nothing_else(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 20 * MIB, 21 * MIB)
    await ask_range(proxy, blob, 30 * MIB, 31 * MIB)
    await world.stack.aclose()
    (spool,) = (p for p in (world.root / "data/spool").iterdir() if p.suffix != ".journal")
    with spool.open("r+b") as file:
        file.seek(20 * MIB + 500)
        file.write(bytes(byte ^ 1 for byte in blob.body[20 * MIB + 500 : 20 * MIB + 510]))
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 20 * MIB, 21 * MIB)
    await ask_range(proxy, blob, 30 * MIB, 31 * MIB)
    assert upstream.bytes_sent(kind="blob", method="GET") == 3 * MIB


async def test_wrong_bytes_in_a_range_are_never_kept_as_verified(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    upstream.inject(Fault(flip_at=1000), kind="blob", method="GET")
    lied = await proxy.ask(path_of(blob), Range=f"bytes={20 * MIB}-{24 * MIB - 1}")
    # No proxy can know it yet: only the whole has a digest.
    assert lied.status == 206
    whole = await proxy.ask(path_of(blob))
    assert whole.cut
    assert len(whole.body) <= SIZE - 256 * 1024
    await until_landed(proxy)
    await pull_layer(proxy, blob)
    await ask_range(proxy, blob, 20 * MIB, 24 * MIB)


async def test_an_upstream_without_ranges_sends_the_whole_once(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(ignore_range=True), kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 30 * MIB, 31 * MIB)
    await ask_range(proxy, blob, 0, 2)
    await until_landed(proxy)
    await pull_layer(proxy, blob)
    whole = [seen for seen in upstream.requests(kind="blob", method="GET") if seen.sent == SIZE]
    assert len(whole) == 1


@pytest.mark.parametrize("at", [0, 500_000])
async def test_a_range_that_breaks_is_fetched_on(
    world: World, upstream: FakeRegistry, at: int
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    upstream.inject(Fault(reset_at=at), kind="blob", method="GET", times=2)
    await ask_range(proxy, blob, 20 * MIB, 21 * MIB)
    upstream.inject(Fault(reset_at=at), kind="blob", method="GET", times=2)
    await ask_range(proxy, blob, 25 * MIB, 26 * MIB)


async def test_a_range_that_can_not_be_had_is_cut_and_can_be_had_later(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 0, 2)
    upstream.inject(Fault(status=404), kind="blob", method="GET")
    refused = await proxy.ask(path_of(blob), Range=f"bytes={20 * MIB}-{21 * MIB}")
    assert refused.cut or refused.status in {404, 503}
    await until_landed(proxy)
    await ask_range(proxy, blob, 20 * MIB, 21 * MIB)


async def test_random_ranges_and_wholes_at_once_are_all_right(
    world: World, upstream: FakeRegistry
) -> None:
    dice = random.Random(7)
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})

    async def one(number: int) -> None:
        if number % 10 == 0:
            await pull_layer(proxy, blob)
            return
        start = dice.randrange(SIZE)
        await ask_range(proxy, blob, start, min(SIZE, start + dice.randrange(1, 6 * MIB)))

    await asyncio.gather(*(one(number) for number in range(1, 41)))
    await until_landed(proxy)
    await pull_layer(proxy, blob)
    # Who brings the whole may read again what was brought ahead of it, once.
    assert upstream.bytes_sent(kind="blob", method="GET") <= 2 * SIZE
