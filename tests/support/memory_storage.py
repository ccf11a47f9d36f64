"""The storage ports in memory: what `tests/conformance/test_storage.py` says the real
ones do. `failing` makes every call raise `StorageUnavailable` until it is false again.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from proxy.errors import StorageUnavailable
from proxy.ports import BlobKey, Body, Record, StoredBlob

_PIECE_BYTES = 64 * 1024


def _check(failing: bool) -> None:
    if failing:
        raise StorageUnavailable("the store is away")


@dataclass(slots=True)
class MemoryBlobs:
    """`ports.Blobs`."""

    failing: bool = False
    kept: dict[BlobKey, bytes] = field(default_factory=dict)

    async def stat(self, key: BlobKey) -> int | None:
        _check(self.failing)
        data = self.kept.get(key)
        return None if data is None else len(data)

    @asynccontextmanager
    async def open(
        self, key: BlobKey, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Body | None]:
        _check(self.failing)
        data = self.kept.get(key)
        yield None if data is None else Body(len(data), start, _pieces(data[start:end]))

    async def put(self, key: BlobKey, source: Path) -> None:
        _check(self.failing)
        self.kept[key] = source.read_bytes()

    async def delete(self, key: BlobKey) -> None:
        _check(self.failing)
        self.kept.pop(key, None)

    async def list(self, group: str) -> AsyncIterator[BlobKey]:
        _check(self.failing)
        for key in list(self.kept):
            if key.group == group:
                yield key

    async def inventory(self, group: str) -> AsyncIterator[StoredBlob]:
        async for key in self.list(group):
            yield StoredBlob(key, len(self.kept[key]), 0.0)


@dataclass(slots=True)
class MemoryRecords:
    """`ports.Records`."""

    failing: bool = False
    kept: dict[str, Record] = field(default_factory=dict)
    _versions: itertools.count[int] = field(default_factory=itertools.count)

    async def get(self, key: str) -> Record | None:
        _check(self.failing)
        return self.kept.get(key)

    async def latest(self, key: str) -> Record | None:
        return await self.get(key)

    async def put(
        self, key: str, value: bytes, *, expect: Record | Literal["any"] | None = "any"
    ) -> bool:
        _check(self.failing)
        if expect != "any" and self.kept.get(key) != expect:
            return False
        self.kept[key] = Record(value, str(next(self._versions)))
        return True

    async def delete(self, key: str) -> None:
        _check(self.failing)
        self.kept.pop(key, None)

    async def list(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        _check(self.failing)
        for key in sorted(self.kept):
            if key.startswith(prefix + "/") and key > after:
                yield key


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]
