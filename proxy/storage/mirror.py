"""Records in S3 with a copy of what this replica has read or written on its own disk.

So a replica goes on serving its own content with S3 *and* the upstream gone, and
a restart costs no reads. Links never change, so the copy answers for them; a tag
may have moved elsewhere, so `latest` asks S3 first. The copy is bounded by
`trim_blocking`, oldest first.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from proxy.cache.single import SingleFlight
from proxy.errors import StorageUnavailable
from proxy.events import StorageFailed
from proxy.ports import Observe, Record, Records
from proxy.storage.owed import OwedRecords
from proxy.storage.records import DiskRecords

MIRRORED_MAX = 200_000


class MirroredRecords:
    """`ports.Records` over a durable store and a local copy."""

    def __init__(
        self, durable: Records, mirror: DiskRecords, owed: OwedRecords, observe: Observe
    ) -> None:
        self._durable = durable
        self._mirror = mirror
        self._owed = owed
        self._reads = SingleFlight()
        self._observe = observe

    async def get(self, key: str) -> Record | None:
        """The local copy, else the durable record. Raises `StorageUnavailable`."""
        record = await self._mirrored(key)
        if record is not None:
            return record
        # A hundred clients that follow one fill ask for the same link.
        return await self._reads.join(key, lambda: self._read(key))

    async def aclose(self) -> None:
        """End the reads that nobody waits for any more."""
        await self._reads.aclose()

    async def _read(self, key: str) -> Record | None:
        return await self._found(key, await self._durable.get(key))

    async def _found(self, key: str, record: Record | None) -> Record | None:
        if record is None or self._owed.outlived(key, record):
            return None
        await self._copy(key, record.value)
        return record

    async def latest(self, key: str) -> Record | None:
        """The durable record; the local copy while the durable store is away."""
        try:
            record = await self._durable.latest(key)
        except StorageUnavailable:
            return await self._mirrored(key)
        return await self._found(key, record)

    async def put(
        self, key: str, value: bytes, *, expect: Record | Literal["any"] | None = "any"
    ) -> bool:
        """Both; the copy also when the durable store fails, which then gets it later.

        Raises `StorageUnavailable`.
        """
        try:
            written = await self._durable.put(key, value, expect=expect)
        except StorageUnavailable:
            await self._copy(key, value)
            await self._owed.add(key)
            raise
        if written:
            await self._copy(key, value)
        return written

    async def delete(self, key: str) -> None:
        """Both; later, when the durable store fails. Raises `StorageUnavailable`."""
        await self._mirror.delete(key)
        try:
            await self._durable.delete(key)
        except StorageUnavailable:
            await self._owed.add_deletion(key)
            raise

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """The durable keys; the copied ones while the durable store is away."""
        last = after
        try:
            async for key in self._durable.list(prefix, after=after):
                last = key
                yield key
        except StorageUnavailable:
            async for key in self._mirror.list(prefix, after=last):
                yield key

    async def _mirrored(self, key: str) -> Record | None:
        try:
            return await self._mirror.get(key)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="mirror read", reason=str(error)))
            return None

    async def _copy(self, key: str, value: bytes) -> None:
        try:
            await self._mirror.put(key, value)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="mirror write", reason=str(error)))


def trim_blocking(root: Path, limit: int = MIRRORED_MAX) -> int:
    """Remove the oldest copies above `limit`; how many went. Memory: one per removed file."""
    count = sum(len(names) for _, _, names in os.walk(root / "repos"))
    excess = count - limit
    if excess <= 0:
        return 0
    oldest = heapq.nsmallest(excess, _times(root / "repos"))
    for _, path in oldest:
        Path(path).unlink(missing_ok=True)
    return len(oldest)


def _times(folder: Path) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            try:
                found.append((os.stat(path).st_mtime, path))
            except FileNotFoundError:
                continue
    return found
