"""Ranges of a cold blob: how many windows are fetched at once, and what becomes of them
when those leave whom they are for.
"""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise
from typing import Literal

import pytest

from proxy.cache import lanes, main_lane
from proxy.cache.demand import WINDOW_BYTES_MAX, WINDOW_BYTES_MIN
from proxy.cache.spool import Spool
from tests.flows.conftest import DEADLINE_S, Running, World
from tests.flows.layers import MIB, add_layer, add_layers, path_of, pull_layer, raw_get, receive
from tests.flows.test_lazy_clients import Puller, range_of
from tests.flows.test_lazy_pulls import SIZE, ask_range
from tests.flows.test_lazy_trouble import flight_of
from tests.flows.test_ranges import parts_of
from tests.support.fake_answers import Seen
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content
from tests.support.waiting import until


class Held(asyncio.Event):
    """For faults: tells how many answers wait for it. One whose client leaves does not."""

    waiting = 0

    async def wait(self) -> Literal[True]:
        self.waiting += 1
        try:
            return await super().wait()
        finally:
            self.waiting -= 1


def hold(
    upstream: FakeRegistry, blob: Content, *, stall_at: int | None = None, behind: int = 0
) -> Held:
    """Hold the heads of all answers with bytes of it from `behind` on, or their bodies from
    their byte `stall_at` on.
    """
    held = Held()
    fault = Fault(delay=held) if stall_at is None else Fault(stall_at=stall_at, stall=held)
    upstream.inject(
        fault,
        kind="blob",
        method="GET",
        times=None,
        match=lambda seen: seen.reference == str(blob.digest) and span_of(seen)[0] >= behind,
    )
    return held


async def ask_on(proxy: Running, blob: Content, start: int, *, read_bytes: int) -> socket.socket:
    """A client that asks for all from `start` on, and stops reading after so many bytes."""
    connection = await raw_get(
        proxy, path_of(blob), receive_bytes=16 * 1024, headers=f"Range: bytes={start}-\r\n"
    )
    await receive(connection, read_bytes)
    return connection


def span_of(seen: Seen) -> tuple[int, int]:
    """First byte and exclusive end of what a request asks for."""
    first, _, last = seen.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1 if last else 10 * SIZE


def under_way(upstream: FakeRegistry) -> bool:
    """Whether some byte that it was asked for is not sent yet."""
    seen = upstream.requests(kind="blob", method="GET")
    return any(one.sent < span_of(one)[1] - span_of(one)[0] for one in seen)


def asked_for(upstream: FakeRegistry, blob: Content) -> set[str]:
    """The ranges of it that the upstream was asked for."""
    seen = upstream.requests(kind="blob", method="GET")
    return {one.headers.get("Range", "") for one in seen if one.reference == str(blob.digest)}


@pytest.mark.parametrize(("connections", "at_once"), [(8, 4), (32, 16), (128, 32)])
async def test_a_thousand_parts_are_not_a_thousand_round_trips_in_a_row(
    world: World, upstream: FakeRegistry, connections: int, at_once: int
) -> None:
    """As many at once as the upstream has to spare, and no more."""
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": {"url": upstream.url, "connections_max": connections}})
    await ask_range(proxy, blob, 0, 2)
    held = hold(upstream, blob)
    spans = [(number * 30_000 + 9, number * 30_000 + 29) for number in range(1000)]
    asking = asyncio.create_task(proxy.ask(path_of(blob), Range=range_of(*spans)))
    await until(lambda: held.waiting >= at_once, "they are at the upstream")
    # One that comes later is a reason to look again, and changes nothing.
    later = asyncio.create_task(ask_range(proxy, blob, SIZE - 9, SIZE))
    flight = flight_of(proxy)
    await until(lambda: len(flight.demands) == 1001, "it is asked for, too")
    # A main lane of another blob finds its connection.
    (other,) = add_layers(upstream, 1)
    await pull_layer(proxy, other)
    assert (held.waiting, len(asked_for(upstream, blob))) == (at_once, 1 + at_once)
    held.set()
    answer = await asking
    assert parts_of(answer) == [(a, b, blob.body[a:b]) for a, b in spans]
    await later
    assert len(asked_for(upstream, blob)) == 1 + 1000 + 1
    sent = upstream.bytes_sent(kind="blob", method="GET")
    assert sent == 2 + 1000 * 20 + 9 + other.size


async def test_large_windows_that_stall_are_in_the_way_of_large_ones_only(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, 80 * MIB)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 0, 2)
    held = hold(upstream, blob, behind=10 * MIB)
    large = [
        asyncio.create_task(ask_range(proxy, blob, at * MIB, (at + 2) * MIB))
        for at in range(10, 60, 10)
    ]
    flight = flight_of(proxy)
    await until(lambda: len(flight.demands) == len(large), "all are asked for")
    await until(lambda: held.waiting == 4, "four are at the upstream")
    await asyncio.gather(
        *(ask_range(proxy, blob, at, at + 100) for at in range(5000, 2 * MIB, MIB))
    )
    await ask_range(proxy, blob, 5 * MIB, 6 * MIB - 1)
    assert held.waiting == 4
    held.set()
    await asyncio.gather(*large)


async def test_close_neighbours_come_in_one_request_and_little_is_fetched_besides(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    await ask_range(proxy, blob, 0, 2)
    spans = [(at, at + 40_000) for at in range(MIB, 9 * MIB, 43_000)]
    answer = await proxy.ask(path_of(blob), Range=range_of(*spans))
    assert parts_of(answer) == [(a, b, blob.body[a:b]) for a, b in spans]
    assert upstream.count(kind="blob", method="GET") == 1 + 2
    needed = sum(end - start for start, end in spans)
    assert upstream.bytes_sent(kind="blob", method="GET") <= 1.1 * needed


async def test_what_comes_for_who_does_not_read_on_stays_near_what_he_read(
    world: World, upstream: FakeRegistry
) -> None:
    blob, start = add_layer(upstream, 80 * MIB), 10 * MIB
    proxy = await world.start({"lab": upstream})
    connection = await ask_on(proxy, blob, start, read_bytes=3 * MIB)
    flight = flight_of(proxy)
    spool, (demand,) = flight.content, flight.demands._all
    assert isinstance(spool, Spool)

    def enough() -> bool:
        return demand.gap(spool.extents) is None and not under_way(upstream)

    await until(enough, "enough lies ahead")
    sent = upstream.bytes_sent(kind="blob", method="GET")
    # What the kernel took for him counts as read. From half of the last window on there
    # is another.
    assert sent <= demand.at - start + WINDOW_BYTES_MAX * 3 // 2
    assert sent <= 32 * MIB
    connection.close()
    await until(lambda: len(flight.demands) == 0, "he has left")
    await ask_range(proxy, blob, 0, 10)
    assert upstream.bytes_sent(kind="blob", method="GET") == sent + 10


@pytest.mark.parametrize(("came", "windows"), [(0, 1), (WINDOW_BYTES_MIN, 2)])
async def test_windows_that_stall_end_with_their_last_reader(
    world: World, upstream: FakeRegistry, came: int, windows: int
) -> None:
    """The first window of all does; so do those after it."""
    blob, start = add_layer(upstream, 80 * MIB), 10 * MIB
    proxy = await world.start({"lab": upstream})
    held = hold(upstream, blob, stall_at=100_000, behind=start + came)
    readers = [await ask_on(proxy, blob, start, read_bytes=came + 50_000) for _ in range(2)]
    flight = flight_of(proxy)
    await until(
        lambda: len(flight.demands) == 2 and held.waiting == windows, "both wait", deadline_s=10
    )
    readers[0].close()
    await until(lambda: len(flight.demands) == 1, "one has left")
    # By the time that this has come, whether they go on is settled.
    await ask_range(proxy, blob, 0, 10)
    assert held.waiting == windows
    readers[1].close()
    await until(lambda: held.waiting == 0, "the upstream sees connections end", deadline_s=10)
    assert upstream.bytes_sent(kind="blob", method="GET") == came + windows * 100_000 + 10
    assert upstream.count(kind="blob", method="GET") == (came > 0) + windows + 1
    # Nobody waits for what they would have brought.
    upstream.heal()
    await ask_range(proxy, blob, start + came, start + came + 200_000)


async def test_open_ranges_one_after_the_other_are_fetched_once_and_little_beyond_the_last(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As containerd does it, that hangs up after each chunk."""
    monkeypatch.setattr(lanes, "_GRACE_S", DEADLINE_S)  # This machine may stop for longer.
    blob = add_layer(upstream, 160 * MIB)
    proxy = await world.start({"lab": upstream})
    puller, chunk = Puller(proxy, blob), 8 * MIB
    for number in range(4):
        await puller.get_open(number * chunk, leave_after=chunk)
    await until(lambda: flight_of(proxy).followers == 0, "the last one is noticed to have left")
    asked = [span_of(seen) for seen in upstream.requests(kind="blob", method="GET")]
    asked.sort()
    assert all(end == start for (_, end), (start, _) in pairwise(asked))
    # It took what lies in buffers, too; then two windows are begun anew.
    assert 4 * chunk <= asked[-1][1] <= 4 * chunk + 7 * WINDOW_BYTES_MIN
    assert len(asked) <= 16


async def test_while_ranges_are_read_further_on_the_rest_is_asked_for_in_pieces(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of it has to be cut, or fetched again, when windows are begun ahead of it."""
    monkeypatch.setattr(main_lane, "_LATELY_S", DEADLINE_S)  # This machine may take a while.
    blob = add_layer(upstream, 64 * MIB)
    held = hold(upstream, blob, stall_at=100, behind=40 * MIB)
    proxy = await world.start({"lab": upstream})
    ahead = asyncio.create_task(ask_range(proxy, blob, 40 * MIB, 42 * MIB))
    await until(lambda: held.waiting == 2, "both windows have begun")
    whole = asyncio.create_task(pull_layer(proxy, blob))
    await until(lambda: upstream.count(kind="blob", method="GET") == 7, "all before it is, too")
    held.set()
    await asyncio.gather(ahead, whole)
    asked = sorted(span_of(seen) for seen in upstream.requests(kind="blob", method="GET"))
    assert asked[:5] == [(at * MIB, (at + 8) * MIB) for at in range(0, 40, 8)]
    assert asked[5:-1] == [(40 * MIB, 41 * MIB), (41 * MIB, 42 * MIB)]
    # Nobody reads further on any more.
    assert asked[-1] == (42 * MIB, 10 * SIZE)
    assert upstream.bytes_sent(kind="blob", method="GET") == blob.size


async def test_who_gives_up_on_a_stalled_range_and_asks_again_gets_a_new_connection(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_STILL_S", 0.0)
    blob = add_layer(upstream, 64 * MIB)
    proxy = await world.start({"lab": {"url": upstream.url, "stall_s": 2 * DEADLINE_S}})
    await ask_range(proxy, blob, 0, 2)
    held = hold(upstream, blob, stall_at=1000, behind=16 * MIB)
    stalled = await ask_on(proxy, blob, 20 * MIB, read_bytes=100)
    await until(lambda: held.waiting == 2, "what it reads stalls, and what comes next")
    upstream.heal()
    stalled.close()
    # Sooner than what stalls is given up.
    await ask_range(proxy, blob, 20 * MIB, 21 * MIB)
