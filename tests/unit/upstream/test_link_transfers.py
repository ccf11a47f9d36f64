"""Transfers over real sockets: held back, they stop the sender and count as no stall."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.cache.traffic import Urgency, working_as
from proxy.errors import TransferBroken
from proxy.upstream.bodies import BlobChunks
from proxy.upstream.direct import DirectBody
from proxy.upstream.link.pacer import Limits, Link
from proxy.upstream.link.report import LinkReport
from proxy.upstream.link.timetable import Hours, Timetable
from tests.support.asking import Asking, asking
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, image
from tests.support.waiting import until

REPO = "library/big"
LARGE, SMALL = 12_000_000, 2_000_000
SLOW = 20_000
DAILY = frozenset(range(7))


class Clock:
    """Hours with a cap until it is told otherwise: each midnight they are over."""

    def __init__(self) -> None:
        self.now = 12 * 3600.0

    def __call__(self) -> float:
        return self.now

    def limits(self, rate: int) -> Limits:
        return Limits(Timetable(None, (Hours(DAILY, 60, 1440, rate),)))


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry:
        yield registry


@contextlib.asynccontextmanager
async def linked(registry: FakeRegistry, link: Link, **settings: object) -> AsyncIterator[Asking]:
    async with asking(registry, link=link.of("up"), **settings) as ask:
        yield ask
    link.close()


@pytest.mark.parametrize(("size", "kind"), [(LARGE, DirectBody), (SMALL, BlobChunks)])
async def test_a_transfer_that_is_held_back_stops_its_sender_and_is_no_stall(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, size: int, kind: type
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    blob = registry.add(REPO, image(size), "v1").layers[0]
    clock = Clock()
    link = Link(clock.limits(SLOW), clock=clock)
    async with (
        linked(registry, link, stall_s=0.3) as ask,
        ask.upstream.open_blob(REPO, blob.digest) as body,
    ):
        assert isinstance(body.chunks, kind)
        got = bytearray(await anext(body.chunks))
        reading = asyncio.ensure_future(anext(body.chunks))
        # Longer than `stall_s`, on purpose; at this rate a piece takes as long.
        await asyncio.sleep(1)
        assert LinkReport(link).document()["rate_bytes_s"] == SLOW
        if kind is DirectBody:
            assert not body.chunks._transport.is_reading()
        clock.now += 12 * 3600
        link._look_at = 0.0
        got += await reading
        async for chunk in body.chunks:
            got += chunk
        assert got == blob.body
    # It was read in one go, and from the sender's socket no more than fits on the way.
    assert registry.count(kind="blob", method="GET") == 1


async def test_in_the_kernel_waits_no_more_than_a_cap_allows(registry: FakeRegistry) -> None:
    blob = registry.add(REPO, image(LARGE), "v1").layers[0]
    link = Link(Limits(Timetable(1_000_000)))
    async with (
        linked(registry, link) as ask,
        ask.upstream.open_blob(REPO, blob.digest) as body,
    ):
        await anext(body.chunks)
        await anext(body.chunks)
        connection = body.chunks._transport.get_extra_info("socket")
        # Linux doubles what it is asked for, for its own needs.
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 150_000


async def test_who_leaves_while_it_is_held_back_leaves_nothing_behind(
    registry: FakeRegistry,
) -> None:
    blob = registry.add(REPO, image(LARGE), "v1").layers[0]
    link = Link(Limits(Timetable(100_000)))
    async with linked(registry, link) as ask:
        pull = asyncio.ensure_future(ask.blob(REPO, blob.digest))
        await until(lambda: LinkReport(link).waiting("waiting") == 1, "it waits")
        pull.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pull
        assert not link.pacing.transfers()
        assert link.pacing.next_due_in(0.0) is None
        # Nor does one that is waiting for a place.
        full = Link(Limits(fetches_max=1))
    async with linked(registry, full) as ask:
        async with ask.upstream.open_blob(REPO, blob.digest) as body:
            await anext(body.chunks)
            pull = asyncio.ensure_future(ask.blob(REPO, blob.digest))
            await until(lambda: LinkReport(full).waiting("waiting") == 1, "it waits")
            assert registry.count(kind="blob", method="GET") == 2
            pull.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pull
        assert not full.pacing.transfers()


async def test_who_waits_for_a_place_begins_when_there_is_one(registry: FakeRegistry) -> None:
    blobs: list[Content] = [
        registry.add(REPO, image(SMALL, seed=str(number)), f"v{number}").layers[0]
        for number in range(4)
    ]
    link = Link(Limits(fetches_max=2))
    running = most = 0

    async def fetch(ask: Asking, blob: Content) -> None:
        nonlocal running, most
        async with ask.upstream.open_blob(REPO, blob.digest) as body:
            running += 1
            most = max(most, running)
            assert b"".join([chunk async for chunk in body.chunks]) == blob.body
            running -= 1

    async with linked(registry, link) as ask:
        await asyncio.gather(*(fetch(ask, blob) for blob in blobs))
    assert most == 2


async def test_a_transfer_that_breaks_while_it_is_held_back_says_so_later(
    registry: FakeRegistry,
) -> None:
    blob = registry.add(REPO, image(LARGE), "v1").layers[0]
    registry.inject(Fault(reset_at=LARGE // 2), kind="blob", method="GET")
    link = Link()
    with working_as(Urgency.WARM):
        async with linked(registry, link) as ask:
            part = bytearray()

            async def read() -> None:
                async with ask.upstream.open_blob(REPO, blob.digest) as body:
                    part.extend(await anext(body.chunks))
                    with working_as(Urgency.WAITING):
                        link.of("up").asks()
                    async for chunk in body.chunks:
                        part.extend(chunk)

            with pytest.raises(TransferBroken):
                await read()
            assert blob.body.startswith(bytes(part))


def test_without_caps_a_connection_more_is_welcome_for_who_waits_only() -> None:
    link = Link(Limits(fetches_max=3), {"capped": Limits(Timetable(1000))})
    assert link.of("up").has_room()
    assert not link.of("capped").has_room()
    with working_as(Urgency.WARM):
        assert not link.of("up").has_room()
