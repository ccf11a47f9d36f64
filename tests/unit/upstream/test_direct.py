"""Large bodies straight from the socket: right, bounded, and used again only when free."""

from __future__ import annotations

import asyncio
import random
import ssl
from pathlib import Path

import pytest

from proxy.errors import TransferBroken
from proxy.upstream.direct import DirectBody
from tests.support.asking import asking
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import image
from tests.support.private_ca import PrivateCa, issue

REPO = "library/big"
SIZE = 40_000_000


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> PrivateCa:
    return issue(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=["plain", "TLS"])
async def served(request, ca: PrivateCa):
    """A registry with one large layer, and what a client of it needs to know."""
    tls, more = None, {}
    if request.param == "TLS":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(ca.cert, ca.key)
        more = {"ca_file": str(Path(ca.ca))}
    async with FakeRegistry(tls=tls) as registry:
        big = registry.add(REPO, image(SIZE), "v1")
        yield registry, big.layers[0], more


async def test_what_a_reader_holds_is_never_written_over(served) -> None:
    registry, blob, more = served
    async with (
        asking(registry, **more) as ask,
        ask.upstream.open_blob(REPO, blob.digest) as body,
    ):
        assert isinstance(body.chunks, DirectBody)
        views = [view async for view in body.chunks]
        assert b"".join(views) == blob.body


async def test_what_nobody_holds_is_used_again(served) -> None:
    registry, blob, more = served
    dice = random.Random(5)
    held: list[tuple[int, memoryview]] = []
    async with (
        asking(registry, **more) as ask,
        ask.upstream.open_blob(REPO, blob.digest) as body,
    ):
        offset = 0
        async for view in body.chunks:
            # A writer that is behind by a random number of pieces.
            held.append((offset, view))
            offset += len(view)
            while len(held) > dice.randrange(12):
                start, oldest = held.pop(0)
                assert oldest == blob.body[start : start + len(oldest)]
        assert offset == SIZE
        assert len(body.chunks._blocks) <= 24


async def test_a_reader_that_rests_is_not_run_over(served) -> None:
    registry, blob, more = served
    async with (
        asking(registry, stall_s=0.2, **more) as ask,
        ask.upstream.open_blob(REPO, blob.digest) as body,
    ):
        got = bytes(await anext(body.chunks))
        # Longer than `stall_s`, on purpose: the silence is our own.
        await asyncio.sleep(0.5)
        assert body.chunks._waiting_bytes <= 4 * 1024 * 1024
        async for view in body.chunks:
            got += view
        assert got == blob.body


@pytest.mark.parametrize(
    "fault",
    [
        Fault(reset_at=SIZE // 2),
        Fault(end_at=SIZE // 2),
        Fault(stall_at=SIZE // 2),
        Fault(end_at=SIZE - 1),
    ],
    ids=["reset", "ended", "stalled", "one byte short"],
)
async def test_a_transfer_that_breaks_gives_what_came_and_says_so(served, fault: Fault) -> None:
    registry, blob, more = served
    registry.inject(fault, kind="blob", method="GET")
    got = bytearray()
    async with (
        asking(registry, stall_s=0.3, **more) as ask,
        ask.upstream.open_blob(REPO, blob.digest) as body,
    ):

        async def read() -> None:
            nonlocal got
            async for view in body.chunks:
                got += view

        with pytest.raises(TransferBroken):
            await read()
    assert len(got) < SIZE
    assert got == blob.body[: len(got)]
    # And the next transfer is none the worse for it.
    async with asking(registry, **more) as ask:
        assert await ask.blob(REPO, blob.digest) == blob.body


async def test_who_leaves_in_the_middle_leaves_nothing_behind(served) -> None:
    registry, blob, more = served
    async with asking(registry, **more) as ask:
        for _ in range(3):
            async with ask.upstream.open_blob(REPO, blob.digest, start=1_000_000) as body:
                assert isinstance(body.chunks, DirectBody)
                await anext(body.chunks)
        assert await ask.blob(REPO, blob.digest) == blob.body


async def test_a_small_or_unmeasured_body_goes_the_ordinary_way(served) -> None:
    registry, blob, more = served
    async with asking(registry, **more) as ask:
        async with ask.upstream.open_blob(REPO, blob.digest, start=0, end=1_000_000) as body:
            assert not isinstance(body.chunks, DirectBody)
        registry.inject(Fault(chunked=True), kind="blob", method="GET")
        async with ask.upstream.open_blob(REPO, blob.digest) as body:
            assert not isinstance(body.chunks, DirectBody)
            assert b"".join([piece async for piece in body.chunks]) == blob.body
