"""Bytes straight from the upstream to one client, kept nowhere.

For what can't or should not be spooled: no room on the disk, too many flights,
a range far ahead of a fill in progress. The promises hold here too: breaks are
resumed, and the last 256 KiB of a whole blob wait for its digest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.cache.content import Stream
from proxy.cache.flights import Source
from proxy.cache.sources import Reader
from proxy.cache.spool import WITHHELD_BYTES
from proxy.errors import DigestMismatch, EntrepotError
from proxy.oci.digest import Digest
from proxy.ports import Observe


def stream(digest: Digest, source: Source, size: int, observe: Observe) -> Stream:
    """A blob of `size` bytes as a stream from one source."""

    @asynccontextmanager
    async def opened(start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        refused: dict[Source, EntrepotError] = {}
        whole = (start, end) == (0, size)
        reader = Reader(
            digest,
            [source],
            observe=observe,
            refused=refused,
            refuse=refused.__setitem__,
            start=start,
            end=None if end == size else end,
            size=size,
        )
        async with reader:
            chunks = reader.chunks()
            yield _verified(digest, chunks) if whole else chunks

    return Stream(size, "pass", opened)


async def _verified(digest: Digest, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, the last 256 KiB only once all of them match the digest."""
    hasher = digest.hasher()
    withheld: deque[bytes] = deque()
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
