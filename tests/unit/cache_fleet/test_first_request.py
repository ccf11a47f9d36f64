"""The first request of a fill beside a store: what is asked of the upstream, and when all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from proxy.cache.fleet import Fleet, FleetSupplies
from proxy.cache.flight import Source
from proxy.cache.sources import Reader
from proxy.cache.supplies import UpstreamSupplies
from proxy.coordination.local import LocalCoordination
from proxy.errors import TransferBroken
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import PUBLIC, BlobKey, Body, Chunk
from tests.support.images import image
from tests.support.memory_storage import MemoryBlobs
from tests.support.memory_upstream import MemoryUpstream

REPO = Repository.parse("library/app")
IMAGE = image(900_000)
BLOB = IMAGE.layers[0]
KEY = BlobKey(PUBLIC, BLOB.digest)
TRIAL_END = 200_000


class Asked(MemoryUpstream):
    """Remembers which bytes of blobs it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[int, int | None]] = []
        self.add(REPO, IMAGE, "latest")

    def open_blob(
        self, repository: Repository, digest: Digest, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[Body | None]:
        self.spans.append((start, end))
        return super().open_blob(repository, digest, start=start, end=end)


@dataclass(slots=True)
class Breaking(MemoryBlobs):
    """Breaks off each time, and has nothing the second time."""

    break_at: int = 0

    @asynccontextmanager
    async def open(
        self, key: BlobKey, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Body | None]:
        async with MemoryBlobs.open(self, key, start=start, end=end) as body:
            yield None if body is None else Body(body.size, start, self._broken(key, start))

    async def _broken(self, key: BlobKey, start: int) -> AsyncIterator[Chunk]:
        yield self.kept.pop(key)[start : self.break_at]
        raise TransferBroken("the store went away")


async def fetched(upstream: Asked, store: MemoryBlobs) -> int:
    """Where the first reader of a fill ends; what it read is right."""
    sources = UpstreamSupplies(BLOB.digest, [Source(upstream, REPO)], {}, lambda *_: None)
    supplies = FleetSupplies(
        KEY, sources, fleet=Fleet(durable=store), coordination=LocalCoordination()
    )
    reader = Reader(BLOB.digest, supplies, observe=lambda _event: None, trial_end=TRIAL_END)
    async with reader:
        got = b"".join([bytes(chunk) async for chunk in reader.chunks()])
    await supplies.aclose()
    assert got == BLOB.body[: len(got)]
    return len(got)


async def test_a_store_that_lacks_the_blob_leaves_the_trial_to_the_upstream() -> None:
    upstream = Asked()
    assert await fetched(upstream, MemoryBlobs()) == TRIAL_END
    assert upstream.spans == [(0, TRIAL_END)]


async def test_what_the_store_has_is_read_in_one_go() -> None:
    upstream = Asked()
    assert await fetched(upstream, MemoryBlobs(kept={KEY: BLOB.body})) == BLOB.size
    assert upstream.spans == []


async def test_where_the_store_breaks_off_the_upstream_sends_all_the_rest() -> None:
    for break_at in (TRIAL_END // 2, TRIAL_END, 2 * TRIAL_END):
        upstream = Asked()
        store = Breaking(kept={KEY: BLOB.body}, break_at=break_at)
        assert await fetched(upstream, store) == BLOB.size
        assert upstream.spans == [(break_at, None)]
