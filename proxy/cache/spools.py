"""Lifetimes of spools: made or found, then kept as a blob, left, or thrown away.

Room on the disk is set aside before a spool exists and given back when it no
longer grows; what an interrupted fill leaves goes on counting as used, until it
is resumed or removed. No decision about sources is made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from proxy.cache import journal
from proxy.cache.local import LocalBlobs
from proxy.cache.spool import Spool
from proxy.errors import NoSpace, StorageUnavailable
from proxy.events import StorageFailed
from proxy.ports import BlobKey, Observe

T = TypeVar("T")


class Spools:
    """Makes and ends them. One flight owns a spool at a time."""

    def __init__(self, local: LocalBlobs, disk: Executor, observe: Observe) -> None:
        self._local = local
        self._disk = disk
        self._observe = observe

    async def find(self, key: BlobKey) -> Spool | None:
        """What an interrupted fill left, as far as it can be believed: its `extents`.

        Raises `NoSpace`, `StorageUnavailable`.
        """
        path = self._local.spool_path(key)
        said = await self._run(lambda: journal.read(path))
        if said is None or said.digest != str(key.digest) or not said.extents:
            return None
        # Its bytes are on the disk already; only what is lacking needs room.
        left = await self._run(lambda: journal.left_bytes(path))
        await self._local.reserve(said.size, left=left)
        spool = Spool(path, key.digest, said.size)
        try:
            good = await self._run(lambda: spool.reopen_blocking(said))
        except OSError as error:
            self._failed("spool read", error)
            good = []
        if not good:
            await self.discard(spool)
            return None
        for start, end in good:
            spool.find(start, end)
        return spool

    async def create(self, key: BlobKey, size: int, *, whole: bool) -> Spool:
        """A new one. Raises `NoSpace` or `StorageUnavailable`, with nothing left behind.

        Without `whole`, room is set aside for all of it, and used as it comes.
        """
        path = self._local.spool_path(key)
        left = await self._run(lambda: journal.left_bytes(path))
        await self._local.reserve(size, left=left)
        spool = Spool(path, key.digest, size)
        try:
            await self._run(lambda: spool.create_blocking(whole=whole))
        except OSError as error:
            await self.discard(spool)
            raise NoSpace(f"no room for {size} bytes: {error.strerror}") from error
        return spool

    async def allocate(self, spool: Spool) -> None:
        """All of the blob will come. Raises `NoSpace`."""
        if spool.allocated:
            return
        try:
            await self._run(spool.allocate_blocking)
        except OSError as error:
            raise NoSpace(f"no room for {spool.size} bytes: {error.strerror}") from error

    async def keep(self, key: BlobKey, spool: Spool) -> bool:
        """Make a verified spool the blob; False if it can't be kept. It is gone afterwards."""
        try:
            await self._run(spool.sync_blocking)
            await self._local.put(key, spool.path)
        except (OSError, StorageUnavailable) as error:
            self._failed("blob write", error)
            return False
        finally:
            await self.discard(spool)
        return True

    async def leave(self, spool: Spool) -> None:
        """End it, keeping on disk what is worth resuming from."""
        if spool.file is None:
            return
        try:
            await self._run(spool.journal_tail_blocking)
        except OSError as error:
            self._failed("spool write", error)
        if not spool.resumable:
            await self.discard(spool)
            return
        spool.close()
        left = await self._run(lambda: journal.left_bytes(spool.path))
        self._local.unreserve(spool.size, left=left)

    async def discard(self, spool: Spool) -> None:
        """End it and remove it. First the readers, then the disk."""
        if not spool.closed:
            spool.close()
            self._local.unreserve(spool.size)
        try:
            await self._run(spool.discard_blocking)
        except OSError as error:
            self._failed("spool delete", error)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    def _failed(self, operation: str, error: Exception) -> None:
        self._observe(StorageFailed(operation=operation, reason=str(error)))
