"""What each lazy or parallel puller asks of a blob, in its order: right bytes and headers,
at little more than that from the upstream, and from it nothing for the same once more.

Requests as the clients' sources make them: stargz-snapshotter `fs/remote`, SOCI
`fs/remote`, nydus `storage/src/backend/registry.rs`, containers/image and
containers/storage for zstd:chunked, containerd's `fetcher.go`, overlaybd's refills.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

from proxy.cache.extents import Extents
from tests.flows.conftest import DEADLINE_S, Answer, Running, World
from tests.flows.layers import MIB, add_layer, path_of, until_landed
from tests.flows.test_ranges import parts_of
from tests.support.fake_registry import FakeRegistry
from tests.support.images import Content

SIZE = 64 * MIB
# Of a header field; what aiohttp, nginx and Apache take by themselves.
COMMON_HEADER_BYTES_MAX = 8192

# Upstream bytes over what was asked for, at most.
EXACT = 1.0
# Parts of one request that are close come in one go, with what lies between them.
MERGED = 1 + 1 / 16
# Once a stream to the end asked for much, what lies before it is brought, too.
STREAMED = 1.10
# Of a connection that is closed early some bytes are lost: of open ranges a few, where the
# machine stops for so long that the next one comes late.
OPEN_AT_ONCE = 1.15

# Of closed ones nothing is, while windows keep being begun: where the machine stops for a
# second, what brings the rest asks for more than a piece, and reads some of theirs again.
CLOSED_AT_ONCE = 1.5

Span = tuple[int, int]
"""First byte and exclusive end."""


def range_of(*spans: Span) -> str:
    """The Range header."""
    return "bytes=" + ",".join(f"{start}-{end - 1}" for start, end in spans)


@dataclass(slots=True)
class Puller:
    """A client that looks at every answer. `asked`: the bytes that it read, each once."""

    proxy: Running
    blob: Content
    asked: Extents = field(default_factory=Extents)

    async def head(self) -> None:
        """For the size."""
        answer = await self.proxy.ask(path_of(self.blob), "HEAD")
        assert (answer.status, answer.body) == (200, b"")
        self._described(answer, self.blob.size)

    async def get(self, *spans: Span) -> None:
        """These ranges in one request; several come as as many parts, in this order."""
        header = range_of(*spans)
        answer = await self.proxy.ask(path_of(self.blob), Range=header, Accept_Encoding="identity")
        assert (answer.status, answer.cut) == (206, False), answer.body[:300]
        self._described(answer, len(answer.body))
        if len(spans) == 1:
            ((start, end),) = spans
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{self.blob.size}"
            assert answer.body == self.blob.body[start:end]
        else:
            assert "Content-Range" not in answer.headers
            assert parts_of(answer) == [(a, b, self.blob.body[a:b]) for a, b in spans]
        for span in spans:
            self.asked.add(*span)

    async def get_open(self, start: int, *, leave_after: int | None = None) -> None:
        """`bytes=start-`, to the end or left after so many bytes."""
        end = self.blob.size if leave_after is None else min(self.blob.size, start + leave_after)
        headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
        async with (
            asyncio.timeout(DEADLINE_S),
            self.proxy.client.get(self.proxy.url + path_of(self.blob), headers=headers) as response,
        ):
            assert response.status == 206
            last = self.blob.size - 1
            assert response.headers["Content-Range"] == f"bytes {start}-{last}/{self.blob.size}"
            self._described(response, self.blob.size - start)
            assert await response.content.readexactly(end - start) == self.blob.body[start:end]
            if end < self.blob.size:
                response.close()
        self.asked.add(start, end)

    def _described(self, answer: Answer | aiohttp.ClientResponse, length: int) -> None:
        assert answer.headers["Content-Length"] == str(length)
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["Docker-Content-Digest"] == str(self.blob.digest)
        assert answer.headers["ETag"] == f'"{self.blob.digest}"'
        assert "Content-Encoding" not in answer.headers


async def stargz(puller: Puller) -> None:
    """The probe, the size, the table of contents; files as they are opened: runs of chunks,
    neighbours merged, several runs in one request; the probe after a pause; a prefetch.
    """
    dice, chunk = random.Random("stargz"), 50_000
    await puller.get((0, 2))
    await puller.head()
    await puller.get((SIZE // chunk * chunk, SIZE))
    places = list(range(160, SIZE // chunk - 40, 30))
    dice.shuffle(places)
    for first in range(0, len(places), 6):
        runs = sorted((at, at + dice.randint(1, 8)) for at in places[first : first + 6])
        await puller.get(*((start * chunk, end * chunk) for start, end in runs))
    await puller.get((0, 2))
    await puller.get((0, 100 * chunk))


async def soci(puller: Puller) -> None:
    """The probe, the size, spans of 4 MiB: one by itself, two in one request."""
    span = 4 * MIB
    await puller.get((0, 2))
    await puller.head()
    await puller.get((9 * span, 10 * span))
    await puller.get((3 * span, 4 * span), (12 * span, 13 * span))


async def soci_parallel(puller: Puller) -> None:
    """The probe, the size, then the whole layer in closed ranges, several at once."""
    await puller.get((0, 2))
    await puller.head()
    await by_four(puller, lambda at: puller.get((at, at + 8 * MIB)), step=8 * MIB)


async def nydus(puller: Puller) -> None:
    """The size, reads of 1 MiB here and there."""
    await puller.head()
    for at in (0, 40, 7, 41, 22, 55, 60, 30):
        await puller.get((at * MIB, (at + 1) * MIB))


async def nydus_streaming(puller: Puller) -> None:
    """The size, reads of 1 MiB, then a stream from some byte to the end."""
    await puller.head()
    for at in (0, 40):
        await puller.get((at * MIB, (at + 1) * MIB))
    await puller.get_open(2 * MIB)


async def zstd_chunked(puller: Puller) -> None:
    """The table of contents together with what describes the tar, near the end; then the
    files that are missing, up to 1,024 in one header, gaps below 1 KiB merged.
    """
    dice = random.Random("zstd:chunked")
    toc = SIZE - 700_000
    await puller.get((toc, toc + 400_000), (toc + 400_500, SIZE - 72))
    places = [number * 50_000 + dice.randrange(30_000) for number in range(1100)]
    files = [(start, start + dice.randint(500, 15_000)) for start in places]
    assert len(range_of(*files[:1024])) > COMMON_HEADER_BYTES_MAX
    await puller.get(*files[:1024])
    await puller.get(*files[1024:])


async def containerd(puller: Puller) -> None:
    """The whole layer by requests that are open to its end, several at once, each left as
    soon as the buffer is full.
    """
    buffer = 8 * MIB
    await by_four(puller, lambda at: puller.get_open(at, leave_after=buffer), step=buffer)


async def overlaybd(puller: Puller) -> None:
    """Refills of 256 KiB at random."""
    refill = 256 * 1024
    for number in random.Random("overlaybd").sample(range(SIZE // refill), 48):
        await puller.get((number * refill, (number + 1) * refill))


async def by_four(puller: Puller, ask: Callable[[int], Awaitable[None]], *, step: int) -> None:
    """Four workers, each of which takes the next stretch of the blob."""
    places = iter(range(0, puller.blob.size, step))

    async def worker() -> None:
        for at in places:
            await ask(at)

    await asyncio.gather(*(worker() for _ in range(4)))


@pytest.mark.parametrize(
    ("pattern", "limit"),
    [
        (stargz, EXACT),
        (soci, EXACT),
        (nydus, EXACT),
        (zstd_chunked, MERGED),
        (overlaybd, EXACT),
        (nydus_streaming, STREAMED),
        (containerd, OPEN_AT_ONCE),
        (soci_parallel, CLOSED_AT_ONCE),
    ],
)
async def test_a_puller_gets_what_it_asks_for_little_more_is_fetched_and_nothing_twice(
    world: World,
    upstream: FakeRegistry,
    pattern: Callable[[Puller], Awaitable[None]],
    limit: float,
) -> None:
    blob = add_layer(upstream, SIZE)
    proxy = await world.start({"lab": upstream})
    assert (await proxy.ask("/v2/lab/app/manifests/v1")).status == 200
    cold = Puller(proxy, blob)
    await pattern(cold)
    assert cold.asked.total >= 8 * MIB
    if cold.asked.total >= SIZE // 4:
        await until_landed(proxy)  # then the rest is brought, too
    fetched = upstream.bytes_sent(kind="blob", method="GET")
    assert fetched <= limit * cold.asked.total
    assert fetched >= cold.asked.total
    gets = upstream.count(kind="blob", method="GET")
    await pattern(Puller(proxy, blob))
    await world.stack.aclose()
    proxy = await world.start({"lab": upstream})
    await pattern(Puller(proxy, blob))
    assert upstream.count(kind="blob", method="GET") == gets
    assert upstream.bytes_sent(kind="blob", method="GET") == fetched
