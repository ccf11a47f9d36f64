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
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.cache import keys
from proxy.cache.local import OpenFile
from proxy.cache.lru import Lru
from proxy.errors import InvalidDigest, NoSpace, TransferBroken
from proxy.events import Evicted
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Body, Observe
from proxy.storage import files
from proxy.storage.room import Room

_OPEN_MAX = 512
_TOUCH_S = 60.0
_CHUNK_BYTES = 1024 * 1024


class DiskBlobs:
    """`cache.local.LocalBlobs` (and so `ports.Blobs`) on a local disk."""

    def __init__(
        self, root: Path, *, bytes_max: int | None, free_bytes_min: int, observe: Observe
    ) -> None:
        self._root = root
        self._observe = observe
        self.room = Room(root, bytes_max=bytes_max, free_bytes_min=free_bytes_min)
        self._open: Lru[BlobKey, OpenFile] = Lru(_OPEN_MAX, dropped=OpenFile.release)
        self._touched: Lru[BlobKey, float] = Lru(10_000)

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
        file = await asyncio.to_thread(self._open_blocking, key)
        if file is not None:
            self._open.put(key, file.hold())
            self.touch(key)
        return file

    async def read(self, key: BlobKey, size_max: int) -> bytes | None:
        """See `LocalBlobs`. Raises `StorageUnavailable`."""
        data = await asyncio.to_thread(self._read_blocking, key, size_max)
        if data is not None:
            self.touch(key)
        return data

    async def stat(self, key: BlobKey) -> int | None:
        """See `ports.Blobs`. Raises `StorageUnavailable`."""
        file = self._open.get(key)
        if file is not None:
            return file.size
        return await asyncio.to_thread(self._stat_blocking, key)

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

    def touch(self, key: BlobKey) -> None:
        """Note a use; written to the file about once a minute."""
        now = time.time()
        if now - (self._touched.get(key) or 0) >= _TOUCH_S:
            self._touched.put(key, now)
            # Nobody waits for it and it raises nothing.
            _ = asyncio.get_running_loop().run_in_executor(None, self._touch_blocking, key, now)

    # --- writing -----------------------------------------------------------------------

    async def put(self, key: BlobKey, source: Path) -> None:
        """See `ports.Blobs`: an fsynced, verified file is moved into place.

        Raises `StorageUnavailable`.
        """
        size = await asyncio.to_thread(self._move_blocking, key, source)
        self.room.add(size)

    async def put_bytes(self, key: BlobKey, data: bytes) -> None:
        """See `LocalBlobs`. Raises `NoSpace`, `StorageUnavailable`."""
        await self.reserve(len(data))
        try:
            size = await asyncio.to_thread(self._write_blocking, key, data)
            self.room.add(size)
        finally:
            self.unreserve(len(data))

    async def delete(self, key: BlobKey) -> None:
        """See `ports.Blobs`. Raises `StorageUnavailable`."""
        self._open.pop(key)
        size = await asyncio.to_thread(self._delete_blocking, key)
        self.room.add(-size)

    async def reserve(self, size: int) -> None:
        """See `LocalBlobs`. Raises `NoSpace`."""
        lacking = self.room.lacking(size)
        if lacking > 0:
            if not self.room.hopeless(size):
                await self._evict(lacking)
            if self.room.lacking(size) > 0:
                raise NoSpace(f"there is no room for {size} bytes in {self._root}")
        self.room.reserve(size)

    def unreserve(self, size: int) -> None:
        """See `LocalBlobs`."""
        self.room.reserve(-size)

    def spool_path(self, key: BlobKey) -> Path:
        """See `LocalBlobs`."""
        name = f"{key.group}~{key.digest.algorithm}~{key.digest.hex}"
        return self._root / "spool" / name

    async def _evict(self, need: int) -> None:
        dropped = await asyncio.to_thread(self.room.evict_blocking, need, self._in_use)
        for path, _size in dropped:
            if (key := _key_of(path)) is not None:
                self._open.pop(key)
        if dropped:
            self._observe(Evicted(count=len(dropped), size=sum(size for _, size in dropped)))

    def _in_use(self, path: str) -> bool:
        """Whether somebody is reading the file (called from a thread; look-up only)."""
        key = _key_of(path)
        file = None if key is None else self._open.peek(key)
        return file is not None and file.users > 1

    def close(self) -> None:
        """Let go of open files."""
        self._open.clear()

    # --- in a thread -------------------------------------------------------------------

    def _path(self, key: BlobKey) -> Path:
        return self._root / keys.blob(key)

    def _open_blocking(self, key: BlobKey) -> OpenFile | None:
        try:
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.translate(error, f"opening {key.digest}") from error
        return OpenFile(fd, os.fstat(fd).st_size)

    def _read_blocking(self, key: BlobKey, size_max: int) -> bytes | None:
        file = self._open_blocking(key)
        if file is None:
            return None
        try:
            return None if file.size > size_max else os.pread(file.fd, file.size, 0)
        except OSError as error:
            raise files.translate(error, f"reading {key.digest}") from error
        finally:
            os.close(file.fd)

    def _stat_blocking(self, key: BlobKey) -> int | None:
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.translate(error, f"looking for {key.digest}") from error

    def _touch_blocking(self, key: BlobKey, now: float) -> None:
        # Lost touches only make eviction a little less clever.
        with contextlib.suppress(OSError):
            path = self._path(key)
            os.utime(path, (now, path.stat().st_mtime))

    def _move_blocking(self, key: BlobKey, source: Path) -> int:
        path = self._path(key)
        before = self._stat_blocking(key) or 0
        try:
            size = source.stat().st_size
            files.move(source, path)
        except OSError as error:
            raise files.translate(error, f"keeping {key.digest}") from error
        return size - before

    def _write_blocking(self, key: BlobKey, data: bytes) -> int:
        before = self._stat_blocking(key) or 0
        try:
            files.write_whole(self._path(key), data, temporary=self._root / "tmp")
        except OSError as error:
            raise files.translate(error, f"keeping {key.digest}") from error
        return len(data) - before

    def _delete_blocking(self, key: BlobKey) -> int:
        size = self._stat_blocking(key) or 0
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise files.translate(error, f"deleting {key.digest}") from error
        return size


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
