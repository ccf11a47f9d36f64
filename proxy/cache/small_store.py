"""Small verified content by key: memory, then the local tier, then the durable store.

What is written here is in the durable store when `put` returns, if that store
answers soon; else its marker sees to it later. A store that can't be read holds
nothing: everything here can still be had upstream.
"""

from __future__ import annotations

import asyncio

from proxy.cache.fleet import Fleet
from proxy.cache.local import LocalBlobs
from proxy.cache.lru import Lru
from proxy.cache.standing import Life
from proxy.errors import StorageUnavailable, TransferBroken
from proxy.events import StorageFailed
from proxy.ports import BlobKey, Observe

_STORED_SOON_S = 2.0


class SmallStore:
    """Whole contents of at most `size_max` bytes."""

    def __init__(
        self,
        *,
        local: LocalBlobs,
        memory: Lru[BlobKey, bytes],
        fleet: Fleet,
        observe: Observe,
        size_max: int,
    ) -> None:
        self._local = local
        self._memory = memory
        self._fleet = fleet
        self._observe = observe
        self._size_max = size_max

    async def get(self, key: BlobKey) -> bytes | None:
        """The content, verified when it comes from afar."""
        data = self._memory.get(key)
        if data is not None:
            return data
        data = await self._from_disk(key)
        if data is None:
            data = await self._from_durable(key)
        if data is not None:
            self._memory.put(key, data)
        return data

    def life(self, key: BlobKey, data: bytes) -> Life | None:
        """For how long `get` answers these very bytes from memory; None if not now."""
        return self._memory.life(key) if self._memory.peek(key) is data else None

    async def put(self, key: BlobKey, data: bytes) -> bool:
        """Keep verified content; False if it is in memory only."""
        self._memory.put(key, data)
        if not await self._to_disk(key, data):
            return False
        if self._fleet.uploader is not None:
            stored = asyncio.ensure_future(await self._fleet.uploader.add(key))
            await asyncio.wait([stored], timeout=_STORED_SOON_S)
        return True

    async def _from_disk(self, key: BlobKey) -> bytes | None:
        try:
            data = await self._local.read(key, self._size_max)
            if data is None or key.digest.matches(data):
                return data
            await self._local.delete(key)
            reason = "wrong bytes on the disk"
        except StorageUnavailable as error:
            reason = str(error)
        self._observe(StorageFailed(operation="blob read", reason=reason))
        return None

    async def _to_disk(self, key: BlobKey, data: bytes) -> bool:
        try:
            await self._local.put_bytes(key, data)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="manifest write", reason=str(error)))
            return False
        return True

    async def _from_durable(self, key: BlobKey) -> bytes | None:
        if self._fleet.durable is None:
            return None
        try:
            async with self._fleet.durable.open(key) as body:
                if body is None or (body.size or 0) > self._size_max:
                    return None
                data = b"".join([chunk async for chunk in body.chunks])
        except (StorageUnavailable, TransferBroken) as error:
            self._observe(StorageFailed(operation="blob read", reason=str(error)))
            return None
        if not key.digest.matches(data):
            self._observe(StorageFailed(operation="blob read", reason="wrong bytes in the store"))
            return None
        await self._to_disk(key, data)
        return data
