"""From the local tier to S3: verified files, in the background, until it worked.

Clients never wait for S3. A marker under `pending/` is written before the upload
starts and removed after it succeeded, so neither a restart nor a day without S3
loses one; a file with a marker is not evicted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

from proxy.errors import InvalidDigest, StorageUnavailable
from proxy.events import BlobUploaded, StorageFailed
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Blobs, Observe

_PARALLEL = 2
_BACKOFF_MIN_S = 0.5
# A try costs nothing while the store is known to be away.
_BACKOFF_MAX_S = 15.0
# Longer than the replica that fetched a blob takes to store it, store willing.
_LATER_S = 60.0
_LATER_MAX = 10_000


class Uploads:
    """The queue. `start` picks up what an earlier run left."""

    def __init__(
        self,
        *,
        durable: Blobs,
        path_of: Callable[[BlobKey], Path],
        pending: Path,
        observe: Observe,
        parallel: int = _PARALLEL,
    ) -> None:
        self._durable = durable
        self._path_of = path_of
        self._pending = pending
        self._observe = observe
        self._parallel = parallel
        self._queue: asyncio.Queue[tuple[BlobKey, bool]] = asyncio.Queue()
        self._waiting: dict[BlobKey, asyncio.Future[None]] = {}
        self._later: dict[BlobKey, asyncio.TimerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: BlobKey) -> bool:
        """Whether a blob still waits to be stored. Safe to call from a thread."""
        return key in self._waiting

    async def start(self) -> None:
        """Begin to work. Raises OSError when the markers can't be read."""
        for name in await asyncio.to_thread(_markers, self._pending):
            key = _key_of(name)
            if key is not None:
                _ = self._enqueue(key, ask_first=True)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._parallel)]

    async def aclose(self) -> None:
        """Stop; what is not stored is picked up by the next start."""
        for handle in self._later.values():
            handle.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiter in self._waiting.values():
            waiter.cancel()

    async def add(self, key: BlobKey, *, ask_first: bool = False) -> asyncio.Future[None]:
        """Store a blob of the local tier; the future ends when it is stored.

        `ask_first`: another replica has probably stored it; look before sending.
        A marker that can't be written only costs the memory of it.
        """
        await self.promise(key)
        return self._enqueue(key, ask_first=ask_first)

    async def promise(self, key: BlobKey) -> None:
        """See `cache.fleet.Uploader`: only the marker, before there is anything to store."""
        try:
            await asyncio.to_thread(self._mark_blocking, key)
        except OSError as error:
            self._observe(StorageFailed(operation="pending write", reason=str(error)))

    def add_later(self, key: BlobKey) -> None:
        """See `cache.fleet.Uploader`. Only remembered: the other replica has the marker."""
        if len(self._later) < _LATER_MAX:
            loop = asyncio.get_running_loop()
            self._later[key] = loop.call_later(_LATER_S, self._look, key)

    def _look(self, key: BlobKey) -> None:
        self._later.pop(key, None)
        _ = self._enqueue(key, ask_first=True)

    def _enqueue(self, key: BlobKey, *, ask_first: bool) -> asyncio.Future[None]:
        waiter = self._waiting.get(key)
        if waiter is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting[key] = waiter
            self._queue.put_nowait((key, ask_first))
        return waiter

    async def _work(self) -> None:
        backoff_s = _BACKOFF_MIN_S
        while True:
            key, ask_first = await self._queue.get()
            try:
                await self._store(key, ask_first=ask_first)
            except StorageUnavailable as error:
                self._observe(StorageFailed(operation="upload", reason=str(error)))
                self._queue.put_nowait((key, True))
                # All workers wait: it is the store that is ill, not this blob.
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
                backoff_s = min(_BACKOFF_MAX_S, backoff_s * 2)
            else:
                backoff_s = _BACKOFF_MIN_S

    async def _store(self, key: BlobKey, *, ask_first: bool) -> None:
        path = self._path_of(key)
        if not (ask_first and await self._durable.stat(key) is not None):
            try:
                size = (await asyncio.to_thread(path.stat)).st_size
            except FileNotFoundError:
                size = None  # Removed by hand or by a scrub; nothing left to store.
            if size is not None:
                await self._durable.put(key, path)
                self._observe(BlobUploaded(size=size))
        with contextlib.suppress(OSError):
            await asyncio.to_thread(os.unlink, self._pending / _name_of(key))
        waiter = self._waiting.pop(key, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _mark_blocking(self, key: BlobKey) -> None:
        fd = os.open(self._pending / _name_of(key), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _markers(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def _name_of(key: BlobKey) -> str:
    return f"{key.group}~{key.digest.algorithm}~{key.digest.hex}"


def _key_of(name: str) -> BlobKey | None:
    group, _, digest = name.partition("~")
    try:
        return BlobKey(group, Digest.parse(digest.replace("~", ":")))
    except InvalidDigest:
        return None
