"""Bytes straight from the upstream to one client, kept nowhere.

For what can't or should not be spooled: no room on the disk, too many flights,
a range far ahead of a fill in progress. The promises hold here too: breaks are
resumed, a small blob is verified before its head is sent, and the last 256 KiB
of a larger whole one wait for its digest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from proxy.cache.content import Bytes, Stream
from proxy.cache.fleet import Fleet, FleetSupplies
from proxy.cache.flights import Source
from proxy.cache.sources import Reader
from proxy.cache.spool import WITHHELD_BYTES
from proxy.cache.supplies import UpstreamSupplies
from proxy.errors import DigestMismatch, EntrepotError
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Chunk, Coordination, Observe


class Passthrough:
    """Makes streams; the durable store and other replicas come before the upstream."""

    def __init__(self, fleet: Fleet, coordination: Coordination, observe: Observe) -> None:
        self._fleet = fleet
        self._coordination = coordination
        self._observe = observe

    async def small(self, key: BlobKey, source: Source, size: int) -> Bytes:
        """A blob of `size` bytes, whole and verified.

        Raises `DigestMismatch`, `UnknownBlob`, `AccessDenied`, `UpstreamUnavailable`.
        """
        async with self.stream(key, source, size).open(0, size) as chunks:
            return Bytes(b"".join([chunk async for chunk in chunks]), "pass")

    def stream(self, key: BlobKey, source: Source, size: int) -> Stream:
        """A blob of `size` bytes, for one client."""

        @asynccontextmanager
        async def opened(start: int, end: int) -> AsyncIterator[AsyncIterator[Chunk]]:
            whole = (start, end) == (0, size)
            reader = Reader(
                key.digest,
                self._supplies(key, source),
                observe=self._observe,
                start=start,
                end=None if end == size else end,
                size=size,
                # It ends with its client.
                wanted=lambda: True,
            )
            async with reader, aclosing(reader.chunks()) as chunks:
                if not whole:
                    yield chunks
                    return
                async with aclosing(_verified(key.digest, chunks)) as verified:
                    yield verified

        return Stream(size, "pass", opened)

    def _supplies(self, key: BlobKey, source: Source) -> FleetSupplies:
        refused: dict[Source, EntrepotError] = {}
        upstreams = UpstreamSupplies(key.digest, [source], refused, refused.__setitem__)
        return FleetSupplies(
            key, upstreams, fleet=self._fleet, coordination=self._coordination, claims=False
        )


async def _verified(digest: Digest, chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """The same bytes, the last 256 KiB only once all of them match the digest."""
    hasher = digest.hasher()
    withheld: deque[Chunk] = deque()
    held = 0
    async for chunk in chunks:
        hasher.update(chunk)
        withheld.append(chunk)
        held += len(chunk)
        while held - len(withheld[0]) >= WITHHELD_BYTES:
            out = withheld.popleft()
            held -= len(out)
            yield out
    if hasher.hexdigest() != digest.hex:
        raise DigestMismatch(f"the upstream sent other bytes than {digest}")
    for out in withheld:
        yield out
