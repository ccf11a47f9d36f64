"""Blobs as files below `data_dir`, under a budget.

Content only ever appears under its final name complete, verified and fsynced.
Nothing in memory grows with the number of blobs: use is a number, last access
is the file's own atime (set by us, so mount options don't matter), and what to
evict is found by sampling.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.cache.local import OpenFile
from proxy.cache.lru import Lru
from proxy.errors import InvalidDigest, NoSpace, TransferBroken
from proxy.events import Evicted
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Body, Observe, StoredBlob
from proxy.storage import files
from proxy.storage.blob_files import BlobFiles, FileTimes
from proxy.storage.room import Room
from proxy.storage.touches import Touches

_OPEN_MAX = 512
_CHUNK_BYTES = 1024 * 1024


class DiskBlobs:
    """`cache.local.LocalBlobs` (and so `ports.Blobs`) on a local disk."""

    def __init__(
        self, root: Path, *, bytes_max: int | None, free_bytes_min: int, observe: Observe
    ) -> None:
        self._root = root
        self._observe = observe
        self._files = BlobFiles(root)
        self.room = Room(root, bytes_max=bytes_max, free_bytes_min=free_bytes_min)
        self._open: Lru[BlobKey, OpenFile] = Lru(_OPEN_MAX, dropped=OpenFile.release)
        self._touches = Touches(self._files.touch)
        # What else must stay; called from a thread.
        self.pinned: Callable[[BlobKey], bool] = lambda _key: False

    def path(self, key: BlobKey) -> Path:
        """Where a blob's file is, if it is here."""
        return self._files.path(key)

    # --- looking, which is no use and moves nothing; both block ------------------------

    def peek_bytes_blocking(self, key: BlobKey, size_max: int) -> bytes | None:
        """The whole blob if there is one of at most `size_max` bytes. Raises
        `StorageUnavailable`.
        """
        return self._files.peek(key, size_max)

    def look_blocking(self, key: BlobKey) -> FileTimes | None:
        """Its size and times, None if it is not here. Raises `StorageUnavailable`."""
        return self._files.look(key)

    # --- reading -----------------------------------------------------------------------

    def peek(self, key: BlobKey) -> OpenFile | None:
        """See `LocalBlobs`."""
        file = self._open.get(key)
        if file is None:
            return None
        self.touch(key)
        return file.hold()

    async def open_file(self, key: BlobKey) -> OpenFile | None:
        """See `LocalBlobs`. Raises `StorageUnavailable`."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._files.open, key))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread goes on; what it opens must not stay open.
            opening.add_done_callback(_let_go)
            raise
        if file is not None:
            self._open.put(key, file.hold())
            self.touch(key)
        return file

    async def read(self, key: BlobKey, size_max: int) -> bytes | None:
        """See `LocalBlobs`. Raises `StorageUnavailable`."""
        data = await asyncio.to_thread(self._files.read, key, size_max)
        if data is not None:
            self.touch(key)
        return data

    async def stat(self, key: BlobKey) -> int | None:
        """See `ports.Blobs`. Raises `StorageUnavailable`."""
        file = self._open.get(key)
        if file is not None:
            return file.size
        return await asyncio.to_thread(self._files.stat, key)

    @asynccontextmanager
    async def open(
        self, key: BlobKey, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Body | None]:
        """See `ports.Blobs`. Raises `StorageUnavailable`."""
        file = self.peek(key) or await self.open_file(key)
        if file is None:
            yield None
            return
        try:
            stop = file.size if end is None else min(end, file.size)
            yield Body(file.size, start, _chunks(file, start, stop))
        finally:
            file.release()

    async def list(self, group: str) -> AsyncIterator[BlobKey]:
        """See `ports.Blobs`."""
        folders = await asyncio.to_thread(self.room.folders, group)
        for folder in folders:
            for name in await asyncio.to_thread(_names, folder):
                with contextlib.suppress(InvalidDigest):
                    yield BlobKey(group, Digest.parse(f"{folder.parent.name}:{name}"))

    async def inventory(self, group: str) -> AsyncIterator[StoredBlob]:
        """See `ports.Blobs`; a folder at a time."""
        async for blob, _ in self.uses(group):
            yield blob

    async def uses(self, group: str) -> AsyncIterator[tuple[StoredBlob, float]]:
        """As `inventory`, with when each was last used, in seconds since the epoch."""
        for folder in await asyncio.to_thread(self.room.folders, group):
            for name, size, stored_at, used_at in await asyncio.to_thread(_details, folder):
                with contextlib.suppress(InvalidDigest):
                    key = BlobKey(group, Digest.parse(f"{folder.parent.name}:{name}"))
                    yield StoredBlob(key, size, stored_at), used_at

    def touch(self, key: BlobKey) -> None:
        """Note a use; written to the file about once a minute."""
        self._touches.note(key)

    async def make_room(self, need: int) -> None:
        """Drop what is most idle until `need` bytes fewer are kept, or nothing helps.

        Raises `StorageUnavailable`.
        """
        try:
            await self._evict(need)
        except OSError as error:
            raise files.translate(error, f"making room in {self._root}") from error

    # --- writing -----------------------------------------------------------------------

    async def put(self, key: BlobKey, source: Path) -> None:
        """See `ports.Blobs`: an fsynced, verified file is moved into place.

        Raises `StorageUnavailable`.
        """
        size = await asyncio.to_thread(self._files.move, key, source)
        self.room.add(size)

    async def put_bytes(self, key: BlobKey, data: bytes) -> None:
        """See `LocalBlobs`. Raises `NoSpace`, `StorageUnavailable`."""
        await self.reserve(len(data))
        try:
            size = await asyncio.to_thread(self._files.write, key, data)
            self.room.add(size)
        finally:
            self.unreserve(len(data))

    async def delete(self, key: BlobKey) -> None:
        """See `ports.Blobs`. Raises `StorageUnavailable`."""
        self._open.pop(key)
        size = await asyncio.to_thread(self._files.delete, key)
        self.room.add(-size)

    async def reserve(self, size: int, *, left: int = 0) -> None:
        """See `LocalBlobs`. Raises `NoSpace`, `StorageUnavailable`."""
        try:
            lacking = self.room.lacking(size - left)
            if lacking > 0 and not self.room.hopeless(lacking):
                await self._evict(lacking)
                lacking = self.room.lacking(size - left)
        except OSError as error:
            raise files.translate(error, f"making room in {self._root}") from error
        if lacking > 0:
            raise NoSpace(f"there is no room for {size} bytes in {self._root}")
        self.room.reserve(size, left=left)

    def unreserve(self, size: int, *, left: int = 0) -> None:
        """See `LocalBlobs`."""
        self.room.reserve(-size, left=-left)

    def spool_path(self, key: BlobKey) -> Path:
        """See `LocalBlobs`."""
        name = f"{key.group}~{key.digest.algorithm}~{key.digest.hex}"
        return self._root / "spool" / name

    async def _evict(self, need: int) -> None:
        dropped = await asyncio.to_thread(self.room.evict_blocking, need, self._in_use)
        for path, size in dropped:
            key = _key_of(path)
            if key is None:
                self.room.add_left(-size)
            else:
                self.room.add(-size)
                self._open.pop(key)
        if dropped:
            self._observe(Evicted(count=len(dropped), size=sum(size for _, size in dropped)))

    def _in_use(self, path: str) -> bool:
        """Whether somebody is reading the file (called from a thread; look-up only)."""
        key = _key_of(path)
        if key is None:
            return False
        file = self._open.peek(key)
        return (file is not None and file.users > 1) or self.pinned(key)

    def close(self) -> None:
        """Let go of open files."""
        self._open.clear()


def _let_go(opening: asyncio.Future[OpenFile | None]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        file = opening.result()
        if file is not None:
            file.release()


async def _chunks(file: OpenFile, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        try:
            data = await asyncio.to_thread(os.pread, file.fd, min(_CHUNK_BYTES, end - start), start)
        except OSError as error:
            raise TransferBroken(f"reading a blob: {error.strerror}") from error
        if not data:
            raise TransferBroken("a stored blob is shorter than it was")
        start += len(data)
        yield data


def _details(folder: Path) -> list[tuple[str, int, float, float]]:
    found: list[tuple[str, int, float, float]] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat()
                found.append((entry.name, stat.st_size, stat.st_mtime, stat.st_atime))
    return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _key_of(path: str) -> BlobKey | None:
    """The key of a file below `blobs/`; None for a spool."""
    parts = path.split("/")
    try:
        return BlobKey(parts[-4], Digest.parse(f"{parts[-3]}:{parts[-1]}"))
    except (InvalidDigest, IndexError):
        return None
