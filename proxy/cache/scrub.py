"""Reading stored blobs again and comparing them with their digests.

Disks and object stores do go wrong. What does not match is removed: from the
local tier, so that it comes from the store or the upstream again; from the store,
where a good copy in the local tier is put in its place. Reads are paced, since
nobody waits for a scrub, and they are no use of a blob: eviction does not see them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from proxy.cache.fleet import Fleet
from proxy.cache.local import LocalBlobs
from proxy.errors import StorageUnavailable, TransferBroken
from proxy.events import ScrubFound
from proxy.ports import BlobKey, Blobs, Chunk, Coordination, Held, Observe

BYTES_A_SECOND = 200 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Scrubbed:
    """What a scrub did. `unread`: blobs that could not be read, or not be removed."""

    blobs: int = 0
    bytes: int = 0
    bad: int = 0
    unread: int = 0
    elsewhere: bool = False
    """The durable store was left out: another replica is at it."""

    def document(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class Scrub:
    """Runs over the local tier, then over the durable store.

    `local_path`: where the file of a local blob is. One blob in trouble never ends
    a run; a store that can't be listed does.
    """

    def __init__(
        self,
        local: LocalBlobs,
        fleet: Fleet,
        *,
        local_path: Callable[[BlobKey], Path],
        groups: Sequence[str],
        coordination: Coordination,
        observe: Observe,
        bytes_a_second: float = BYTES_A_SECOND,
    ) -> None:
        self._local = local
        self._local_path = local_path
        self._fleet = fleet
        self._groups = groups
        self._coordination = coordination
        self._observe = observe
        self._bytes_a_second = bytes_a_second
        self._running: asyncio.Task[Scrubbed] | None = None

    async def run(self, *, store: bool = True) -> Scrubbed:
        """Read everything once; who asks while one runs gets the outcome of that.

        Without `store` only what is here, if there is a durable store. Goes on when the
        caller leaves. Raises `StorageUnavailable`.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(store=store), name="scrub")
        return await asyncio.shield(self._running)

    async def aclose(self) -> None:
        """Stop."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self, *, store: bool) -> Scrubbed:
        result = Scrubbed()
        for group in self._groups:
            async for key in self._local.list(group):
                if not await self._good("local", key, self._local_pieces(key), result):
                    await self._remove(self._local, key, result)
        if store and self._fleet.durable is not None:
            await self._durable(self._fleet.durable, result)
        return result

    async def _durable(self, durable: Blobs, result: Scrubbed) -> None:
        async with self._coordination.try_hold("scrub") as claim:
            if isinstance(claim, Held):
                result.elsewhere = True
                return
            for group in self._groups:
                async for key in durable.list(group):
                    claim.progress()
                    pieces = _stored_pieces(durable, key, claim.progress)
                    if await self._good("storage", key, pieces, result):
                        continue
                    # First away with it: clients may be sent there directly.
                    await self._remove(durable, key, result)
                    if self._fleet.uploader is not None and await self._held(key):
                        # Ours was read and found good a moment ago.
                        _ = await self._fleet.uploader.add(key)

    async def _held(self, key: BlobKey) -> bool:
        with contextlib.suppress(StorageUnavailable):
            return await self._local.stat(key) is not None
        return False

    async def _remove(self, blobs: Blobs, key: BlobKey, result: Scrubbed) -> None:
        try:
            await blobs.delete(key)
        except StorageUnavailable:
            # The next scrub finds it again.
            result.unread += 1

    async def _good(
        self,
        where: Literal["local", "storage"],
        key: BlobKey,
        pieces: AsyncIterator[Chunk],
        result: Scrubbed,
    ) -> bool:
        """False only for bytes that were read and are wrong."""
        loop = asyncio.get_running_loop()
        hasher, read = key.digest.hasher(), 0
        began = loop.time()
        try:
            async for piece in pieces:
                await asyncio.to_thread(hasher.update, piece)
                read += len(piece)
                behind_s = read / self._bytes_a_second - (loop.time() - began)
                await asyncio.sleep(max(0.0, behind_s))
        except FileNotFoundError:
            return True  # Evicted since it was listed.
        except (StorageUnavailable, TransferBroken, OSError):
            result.unread += 1
            return True
        result.blobs += 1
        result.bytes += read
        good = hasher.hexdigest() == key.digest.hex
        if not good:
            result.bad += 1
            self._observe(ScrubFound(where=where, digest=str(key.digest)))
        return good

    async def _local_pieces(self, key: BlobKey) -> AsyncIterator[bytes]:
        """Raises OSError."""
        fd = await asyncio.to_thread(_open_unnoticed, self._local_path(key))
        try:
            offset = 0
            while piece := await asyncio.to_thread(os.pread, fd, _PIECE_BYTES, offset):
                offset += len(piece)
                yield piece
        finally:
            os.close(fd)


async def _stored_pieces(
    blobs: Blobs, key: BlobKey, moved: Callable[[], None]
) -> AsyncIterator[Chunk]:
    async with blobs.open(key) as body:
        if body is None:
            raise FileNotFoundError(str(key.digest))
        async for chunk in body.chunks:
            moved()
            yield chunk


def _open_unnoticed(path: Path) -> int:
    """Without a new time of access, which is what eviction goes by."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        # Only the owner of a file may ask for that.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
