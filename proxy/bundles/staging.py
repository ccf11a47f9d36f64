"""Blobs of a bundle on their way into the local tier: written, verified, then kept.

A blob that is staged is an ordinary verified blob that no repository may serve yet:
harmless, and evictable once nobody holds it any more. Its file grows beside the
spools of fills under a name of its own, so a pull of the same blob and an import
of it don't meet. What a killed import leaves is removed as an abandoned spool is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from proxy.cache import journal
from proxy.cache.fleet import Uploader
from proxy.cache.local import LocalBlobs
from proxy.errors import BadBundle, NoSpace, StorageUnavailable
from proxy.oci.digest import Hasher
from proxy.ports import BlobKey

T = TypeVar("T")

# Enough to keep a thread busy, little enough to be nobody's memory.
_BATCH_BYTES = 4 * 1024 * 1024
_IOV_MAX = 512


class Staging:
    """Takes blobs in, several at a time. One writer for each blob."""

    def __init__(self, local: LocalBlobs, uploader: Uploader | None, disk: Executor) -> None:
        self._local = local
        self._uploader = uploader
        self._disk = disk
        self._held: dict[BlobKey, int] = {}
        self._writing: WeakValueDictionary[BlobKey, asyncio.Lock] = WeakValueDictionary()

    def holds(self, key: BlobKey) -> bool:
        """Whether a blob may not be evicted now. Safe to call from a thread."""
        return key in self._held

    def hold(self, wanted: Iterable[BlobKey]) -> None:
        """Keep these from being evicted, until as many `let_go`."""
        for key in wanted:
            self._held[key] = self._held.get(key, 0) + 1

    def let_go(self, wanted: Iterable[BlobKey]) -> None:
        """The opposite of `hold`."""
        for key in wanted:
            left = self._held.get(key, 0) - 1
            if left > 0:
                self._held[key] = left
            else:
                self._held.pop(key, None)

    async def receive(self, key: BlobKey, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Keep a blob whose room is reserved already.

        Raises `BadBundle` for other bytes than the digest and `size` say,
        `StorageUnavailable`, and what `chunks` raises; then nothing is kept. Of several
        imports that bring the same blob one waits for the other, and then is verified
        all the same.
        """
        async with self._writing.setdefault(key, asyncio.Lock()):
            await self._receive(key, size, chunks)

    async def _receive(self, key: BlobKey, size: int, chunks: AsyncIterator[bytes]) -> None:
        path = self._local.spool_path(key)
        path = path.with_name(f"import~{path.name}")
        left = await self._run(lambda: journal.left_bytes(path))
        # The file of an import that was killed is written over.
        self._local.unreserve(0, left=-left)
        try:
            file = await self._run(lambda: _Growing(path, size, key.digest.hasher()))
        except OSError as error:
            raise NoSpace(f"no room for {size} bytes: {error.strerror}") from error
        try:
            await self._fill(file, chunks)
            if file.written != size or file.hasher.hexdigest() != key.digest.hex:
                raise BadBundle(f"the bundle has other bytes than {key.digest}")
            if self._uploader is not None:
                await self._uploader.promise(key)
            await self._run(file.sync)
            await self._local.put(key, path)
            if self._uploader is not None:
                _ = await self._uploader.add(key)
        except OSError as error:
            raise StorageUnavailable(f"keeping {key.digest}: {error.strerror}") from error
        finally:
            await asyncio.shield(self._run(file.close))

    async def _fill(self, file: _Growing, chunks: AsyncIterator[bytes]) -> None:
        """One batch is written and hashed while the next comes in."""
        writing: asyncio.Future[None] | None = None
        failed: BaseException | None = None
        try:
            batch: list[bytes] = []
            pending = 0
            async for chunk in chunks:
                batch.append(chunk)
                pending += len(chunk)
                if pending >= _BATCH_BYTES or len(batch) >= _IOV_MAX:
                    if writing is not None:
                        await writing
                    writing = self._start(file, batch)
                    batch, pending = [], 0
            if writing is not None:
                await writing
            writing = self._start(file, batch)
        finally:
            if writing is not None:
                await asyncio.wait([writing])
                failed = writing.exception()
        if failed is not None:
            raise failed

    def _start(self, file: _Growing, batch: Sequence[bytes]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._disk, file.write, batch)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


class _Growing:
    """A file that is written from its start to its end. All of it blocks."""

    def __init__(self, path: Path, size: int, hasher: Hasher) -> None:
        """Raises OSError, `ENOSPC` where there is no room for all of it."""
        self.hasher = hasher
        self.written = 0
        self._path = path
        self._size = size
        self._fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            if size:
                os.posix_fallocate(self._fd, 0, size)
        except OSError:
            self.close()
            raise

    def write(self, batch: Sequence[bytes]) -> None:
        """Append. Raises OSError; `BadBundle` if it becomes too long."""
        count = sum(map(len, batch))
        if self.written + count > self._size:
            raise BadBundle("the bundle has more bytes of a blob than it says")
        done = os.pwritev(self._fd, batch, self.written) if batch else 0
        while done < count:
            rest = memoryview(b"".join(batch))[done:]
            done += os.pwrite(self._fd, rest, self.written + done)
        for chunk in batch:
            self.hasher.update(chunk)
        self.written += count

    def sync(self) -> None:
        """Force it to the disk. Raises OSError."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Let go of it, and remove it if it was not kept."""
        os.close(self._fd)
        self._path.unlink(missing_ok=True)
