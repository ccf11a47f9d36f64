"""Local disk as the store: the folder, its lock, blobs, records, and their upkeep."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Self

from proxy.ports import Observe
from proxy.storage.data_dir import DataDir
from proxy.storage.disk import DiskBlobs
from proxy.storage.records import DiskRecords

# An interrupted fill is worth resuming for this long.
_SPOOL_KEPT_S = 7 * 86400.0
_CLEAR_UP_S = 3600.0


class LocalStorage:
    """Opened with `async with`; entering raises `StartupError`."""

    def __init__(
        self, root: Path, *, bytes_max: int | None, free_bytes_min: int, observe: Observe
    ) -> None:
        self._data_dir = DataDir(root)
        self.blobs = DiskBlobs(
            root, bytes_max=bytes_max, free_bytes_min=free_bytes_min, observe=observe
        )
        self.records = DiskRecords(root)
        self._upkeep: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._data_dir.open_blocking)
        room = self.blobs.room
        # From here on: a process that ends at once must not leave a number it does not have.
        room.counted = await asyncio.to_thread(room.load_blocking)
        self._upkeep = asyncio.create_task(self._keep_up())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._upkeep
        self.blobs.close()
        if self.blobs.room.counted:
            # Otherwise the next start counts; nothing else depends on it.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.blobs.room.save_blocking)
        self._data_dir.close()

    async def _keep_up(self) -> None:
        """Count if need be, then clear up now and then; serving never waits for it."""
        room = self.blobs.room
        if not room.counted:
            before = room.used
            total = await asyncio.to_thread(room.count_blocking)
            # What came while we counted may be in both; it errs on the full side.
            room.used = total + room.used - before
            room.counted = True
        while True:
            # What can't be removed now may be removable later.
            with contextlib.suppress(OSError):
                freed = await asyncio.to_thread(room.remove_idle_spools_blocking, _SPOOL_KEPT_S)
                room.add_left(-freed)
            await asyncio.sleep(_CLEAR_UP_S)
