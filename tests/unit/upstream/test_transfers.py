"""Bodies of blobs: where they begin, and every way in which they break."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import BadUpstreamAnswer, TransferBroken, UpstreamUnavailable
from proxy.oci.names import Repository, Tag
from tests.support.asking import asking
from tests.support.fake_registry import FakeRegistry, Fault, Quirks
from tests.support.images import image

REPO = Repository.parse("library/app")
SIZE = 300_000
LAYER = image(SIZE).layers[0]


@pytest.fixture
async def up():
    async with FakeRegistry() as registry:
        registry.add(REPO, image(SIZE), "latest")
        yield registry


@pytest.fixture
async def ask(up):
    async with asking(up, stall_s=0.3) as made:
        yield made


async def collect(ask, start=0, end=None):
    """What came before it broke, and how."""
    got = bytearray()
    async with ask.upstream.open_blob(REPO, LAYER.digest, start=start, end=end) as body:
        try:
            async for chunk in body.chunks:
                got += chunk
        except UpstreamUnavailable as error:
            return bytes(got), error
    return bytes(got), None


async def test_a_whole_blob_is_asked_for_without_a_range(up, ask):
    assert await ask.blob(REPO, LAYER.digest) == LAYER.body
    seen = up.requests(kind="blob")[0]
    assert "Range" not in seen.headers
    assert seen.headers["Accept-Encoding"] == "identity"
    assert seen.headers["User-Agent"].startswith("entrepot/")


async def test_a_part_says_how_large_the_whole_is(ask):
    async with ask.upstream.open_blob(REPO, LAYER.digest, start=5, end=7) as body:
        assert (body.size, body.offset) == (SIZE, 5)
        assert [chunk async for chunk in body.chunks] == [LAYER.body[5:7]]


async def test_an_upstream_that_ignores_ranges_gives_the_whole_from_zero(up, ask):
    up.inject(Fault(ignore_range=True), kind="blob")
    async with ask.upstream.open_blob(REPO, LAYER.digest, start=100) as body:
        assert (body.size, body.offset) == (SIZE, 0)
        assert b"".join([chunk async for chunk in body.chunks]) == LAYER.body


@pytest.mark.parametrize("at", [0, 1, 100_000])
@pytest.mark.parametrize("how", ["end_at", "reset_at", "stall_at"])
async def test_what_came_before_a_break_is_good(up, ask, how, at):
    up.inject(Fault(**{how: at}), kind="blob")
    got, error = await collect(ask)
    assert type(error) is TransferBroken
    assert LAYER.body.startswith(got)
    if how != "reset_at":
        assert len(got) == at


async def test_a_break_can_be_resumed_from_there(up, ask):
    up.inject(Fault(end_at=100_000), kind="blob")
    got, _ = await collect(ask)
    rest, error = await collect(ask, start=len(got))
    assert error is None
    assert got + rest == LAYER.body


async def test_a_break_is_no_failure_of_the_upstream(up, ask):
    up.inject(Fault(end_at=10), kind="blob", times=5)
    for _ in range(5):
        await collect(ask)
    assert ask.upstream.health().state == "ok"


async def test_a_slow_transfer_is_not_a_stalled_one(up):
    async with asking(up, stall_s=0.5, head_s=0.5) as ask:
        up.inject(Fault(rate_bytes_s=SIZE / 0.8), kind="blob")
        assert await collect(ask) == (LAYER.body, None)


async def test_a_slow_reader_is_not_a_stalled_upstream(up):
    big = image(8_000_000, seed="big")
    up.add(REPO, big)
    async with asking(up, stall_s=0.2) as ask:
        async with ask.upstream.open_blob(REPO, big.layers[0].digest) as body:
            chunks = aiter(body.chunks)
            got = bytes(await anext(chunks))
            # Longer than `stall_s`, on purpose: the silence is our own.
            await asyncio.sleep(0.5)
            async for chunk in chunks:
                got += chunk
        assert got == big.layers[0].body


async def test_a_chunked_body_that_ends_early_is_broken_where_the_range_told_its_length(up, ask):
    up.inject(Fault(chunked=True, end_at=100), kind="blob")
    got, error = await collect(ask, start=10)
    assert type(error) is TransferBroken
    assert got == LAYER.body[10:110]


async def test_a_chunked_body_has_no_size(up, ask):
    up.inject(Fault(chunked=True), kind="blob")
    async with ask.upstream.open_blob(REPO, LAYER.digest) as body:
        assert (body.size, body.offset) == (None, 0)
        assert b"".join([chunk async for chunk in body.chunks]) == LAYER.body


async def test_a_range_that_stops_short_is_broken_not_whole(up, ask):
    up.inject(Fault(content_range=f"bytes 10-19/{SIZE}", length=10), kind="blob")
    got, error = await collect(ask, start=10)
    assert got == LAYER.body[10:20]
    assert type(error) is TransferBroken


@pytest.mark.parametrize(
    "fault",
    [
        Fault(content_range=f"bytes 0-{SIZE - 1}/{SIZE}"),
        Fault(content_range=f"bytes 11-{SIZE - 1}/{SIZE}"),
        Fault(content_range=f"bytes 11-{SIZE - 1}/{SIZE}", length=SIZE - 11),
        Fault(content_range=f"bytes 10-{SIZE}/{SIZE}", length=SIZE - 9),
        Fault(content_range="bytes 10-9/*"),
        Fault(content_range="bytes 10-100/*"),
        Fault(content_range="pages 10-20/30"),
        Fault(headers={"Content-Range": ""}),
        Fault(headers={"Content-Encoding": "gzip"}),
        Fault(html=True),
        Fault(content_type="text/html; charset=utf-8"),
        Fault(status=416),
        Fault(status=400),
        Fault(status=204),
        Fault(status=304),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_is_refused_before_its_body(up, ask, fault):
    up.inject(fault, kind="blob")
    with pytest.raises(BadUpstreamAnswer):
        async with ask.upstream.open_blob(REPO, LAYER.digest, start=10):
            pytest.fail("it was let in")


async def test_more_of_a_range_than_was_asked_is_refused(up, ask):
    up.inject(Fault(content_range=f"bytes 10-29/{SIZE}", length=20), kind="blob")
    with pytest.raises(BadUpstreamAnswer):
        async with ask.upstream.open_blob(REPO, LAYER.digest, start=10, end=20):
            pytest.fail("it was let in")


async def test_a_part_that_was_not_asked_for_is_refused(up, ask):
    up.inject(Fault(status=206, body=b"x"), kind="blob")
    with pytest.raises(BadUpstreamAnswer):
        async with ask.upstream.open_blob(REPO, LAYER.digest):
            pytest.fail("it was let in")


async def test_a_chunked_range_longer_than_announced_is_refused(up, ask):
    up.inject(Fault(content_range=f"bytes 10-19/{SIZE}", chunked=True, length=25), kind="blob")
    got, error = await collect(ask, start=10, end=20)
    assert type(error) is BadUpstreamAnswer
    assert len(got) <= 20


async def test_a_config_may_come_as_json(up, ask):
    up.inject(Fault(content_type="application/json"), kind="blob")
    assert await ask.blob(REPO, LAYER.digest) == LAYER.body


async def test_leaving_early_closes_the_connection_without_draining(up):
    big = image(30_000_000, seed="big")
    up.add(REPO, big)
    async with asking(up) as ask:
        async with ask.upstream.open_blob(REPO, big.layers[0].digest) as body:
            await anext(aiter(body.chunks))
        assert await ask.upstream.resolve(REPO, Tag.parse("latest"))
    assert up.bytes_sent(kind="blob") < 20_000_000


async def test_a_reader_that_is_cancelled_frees_its_place(up):
    async with asking(up, connections_max=3, head_s=5) as ask:
        never = asyncio.Event()
        up.inject(Fault(stall_at=1, stall=never), kind="blob", times=2)
        for _ in range(2):
            before = up.count(kind="blob")
            reading = asyncio.create_task(ask.blob(REPO, LAYER.digest))
            await up.wait_requests(before + 1, kind="blob")
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        assert await ask.blob(REPO, LAYER.digest) == LAYER.body


async def test_manifests_do_not_queue_behind_layers(up):
    async with asking(up, connections_max=3, head_s=0.5, stall_s=30) as ask:
        release = asyncio.Event()
        up.inject(Fault(stall_at=10, stall=release), kind="blob", times=None)
        held = asyncio.create_task(ask.blob(REPO, LAYER.digest))
        await up.wait_requests(1, kind="blob")
        with pytest.raises(UpstreamUnavailable, match="busy"):
            await ask.blob(REPO, LAYER.digest)
        assert await ask.upstream.resolve(REPO, Tag.parse("latest"))
        assert await ask.upstream.get_manifest(REPO, Tag.parse("latest"))
        assert ask.upstream.health().state == "ok"
        release.set()
        assert await held == LAYER.body


async def test_bodies_may_be_read_while_quirks_move_them(up, ask):
    up.quirks = Quirks(blobs_at_cdn=True)
    up.inject(Fault(end_at=50), kind="blob")
    got, error = await collect(ask)
    assert (got, type(error)) == (LAYER.body[:50], TransferBroken)
