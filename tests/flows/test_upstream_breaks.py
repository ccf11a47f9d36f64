"""The upstream breaks in the middle of a blob: the fill goes on from there, and
clients notice nothing, or are cut; never a clean end of a body that is not whole.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.flows.conftest import World
from tests.flows.layers import MIB, add_layer, path_of, pull_layer
from tests.support.fake_registry import FakeRegistry, Fault

SIZE = 3_000_000
LARGE = 20 * MIB
# At full speed, what was sent just before a break is lost with the connection;
# at this speed it has been read by then, but for a piece or so.
RATE = 15_000_000
SLACK = 600_000


def range_starts(upstream: FakeRegistry) -> list[int | None]:
    """Where the GETs of blobs began; None for those without a Range."""
    asked = [seen.headers.get("Range") for seen in upstream.requests(kind="blob", method="GET")]
    return [None if a is None else int(a.removeprefix("bytes=").partition("-")[0]) for a in asked]


def assert_resumed_half_way(upstream: FakeRegistry, *, times: int = 1) -> None:
    first, *others = range_starts(upstream)
    assert first is None
    assert len(others) == times
    for start in others:
        assert start is not None
        assert SIZE // 2 - SLACK <= start <= SIZE // 2


@pytest.mark.parametrize("broken_at", [0, SIZE // 2, SIZE * 99 // 100])
@pytest.mark.parametrize("how", ["reset_at", "end_at"])
async def test_a_broken_transfer_is_resumed_and_the_client_gets_every_byte(
    world: World, upstream: FakeRegistry, broken_at: int, how: str
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(**{how: broken_at}, rate_bytes_s=RATE), kind="blob", method="GET")
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, blob)
    first, second = range_starts(upstream)
    assert first is None
    lost = broken_at - (second or 0)
    assert 0 <= lost <= SLACK
    assert upstream.bytes_sent(kind="blob") == SIZE + lost


async def test_a_transfer_that_breaks_again_and_again_still_comes_to_its_end(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(end_at=400_000, rate_bytes_s=RATE), kind="blob", method="GET", times=7)
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, blob)
    # A connection may break before any of its bytes were read (then: from the start).
    starts = [start or 0 for start in range_starts(upstream)]
    assert len(starts) == 8
    assert starts == sorted(starts)
    assert upstream.bytes_sent(kind="blob") <= SIZE + 2 * SLACK


async def test_a_stalled_transfer_is_given_up_and_resumed(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(stall_at=SIZE // 2), kind="blob")
    proxy = await world.start({"lab": {"url": upstream.url, "stall_s": 0.3}})
    await pull_layer(proxy, blob)
    assert_resumed_half_way(upstream)


async def test_a_resume_that_ignores_the_range_is_skipped_over(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(end_at=SIZE // 2, rate_bytes_s=RATE), kind="blob")
    upstream.inject(Fault(ignore_range=True), kind="blob")
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, blob)
    assert_resumed_half_way(upstream)


@pytest.mark.parametrize(("start", "end"), [(0, 10), (10, 99), (SIZE - 300, SIZE)])
async def test_a_range_is_cut_out_of_an_answer_that_ignores_it(
    world: World, upstream: FakeRegistry, start: int, end: int
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(ignore_range=True), kind="blob", method="GET", times=None)
    # Without room each range is asked for by itself.
    proxy = await world.start({"lab": upstream}, disk_free_bytes_min=2**62)
    answer = await proxy.ask(path_of(blob), Range=f"bytes={start}-{end - 1}")
    assert (answer.status, answer.cut) == (206, False)
    assert answer.body == blob.body[start:end]


@pytest.mark.parametrize(
    "content_range",
    [
        f"bytes {SIZE // 2 + 1}-{SIZE - 1}/{SIZE}",
        f"bytes 0-{SIZE // 2 - 1}/{SIZE}",
        f"bytes {SIZE // 2}-{SIZE}/{SIZE}",
        "bytes */3000000",
        "nonsense",
    ],
)
async def test_a_resume_with_a_wrong_content_range_is_not_believed(
    world: World, upstream: FakeRegistry, content_range: str
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(end_at=SIZE // 2, rate_bytes_s=RATE), kind="blob")
    upstream.inject(Fault(content_range=content_range), kind="blob")
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, blob)
    assert_resumed_half_way(upstream, times=2)


async def test_another_length_on_resume_is_not_believed(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(end_at=SIZE // 2, rate_bytes_s=RATE), kind="blob")
    upstream.inject(Fault(content_range=f"bytes {SIZE // 2}-{SIZE - 1}/{SIZE + 100}"), kind="blob")
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, blob)
    assert_resumed_half_way(upstream, times=2)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_an_error_on_resume_is_tried_again(
    world: World, upstream: FakeRegistry, status: int
) -> None:
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(end_at=SIZE // 2, rate_bytes_s=RATE), kind="blob")
    headers = {"Retry-After": "0"} if status == 429 else {}
    upstream.inject(Fault(status=status, headers=headers), kind="blob")
    proxy = await world.start({"lab": upstream})
    await pull_layer(proxy, blob)
    assert_resumed_half_way(upstream, times=2)


async def test_a_dead_upstream_cuts_every_client_and_the_next_one_resumes_from_the_spool(
    world: World, upstream: FakeRegistry
) -> None:
    blob = add_layer(upstream, LARGE)
    upstream.inject(Fault(end_at=17 * MIB), kind="blob", method="GET")
    # A refusal ends the fill at once; patience with silence has its own test.
    upstream.inject(Fault(status=404), kind="blob", method="GET", times=None)
    proxy = await world.start({"lab": upstream}, negative_s=0)
    answers = await asyncio.gather(*(proxy.ask(path_of(blob)) for _ in range(8)))
    for answer in answers:
        assert (answer.status, answer.cut) == (200, True)
        assert blob.body.startswith(answer.body)
    (had,) = {len(answer.body) for answer in answers}
    assert had > 12 * MIB
    upstream.heal()
    await pull_layer(proxy, blob)
    assert range_starts(upstream)[-1] == had


async def test_patience_ends_when_nothing_comes_any_more(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.sources._DELAYS_WITHIN_S", (0.01, 0.01))
    monkeypatch.setattr("proxy.cache.sources._PATIENCE_S", 0)
    blob = add_layer(upstream, SIZE)
    upstream.inject(Fault(end_at=SIZE // 2, rate_bytes_s=RATE), kind="blob")
    upstream.inject(Fault(hang_up=True), kind="blob", times=None)
    proxy = await world.start({"lab": upstream})
    answer = await proxy.ask(path_of(blob))
    assert (answer.status, answer.cut) == (200, True)
    assert blob.body.startswith(answer.body)


async def test_a_spool_of_a_wrong_length_does_not_spoil_later_pulls(
    world: World, upstream: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.sources._DELAYS_WITHIN_S", (0.01,))
    monkeypatch.setattr("proxy.cache.sources._PATIENCE_S", 0)
    blob = add_layer(upstream, LARGE)
    # It declares more than there is, and never delivers it.
    lie = Fault(body=blob.body + bytes(100), end_at=LARGE)
    upstream.inject(lie, kind="blob", method="GET")
    proxy = await world.start({"lab": upstream})
    answer = await proxy.ask(path_of(blob))
    assert answer.cut
    assert len(answer.body) < LARGE
    await pull_layer(proxy, blob)
