"""One fill: find what an earlier one left, fetch the rest, verify, keep.

Followers get bytes while this runs and never wait for the keeping: the digest
is checked, the last bytes are released, and only then the file is synced and
moved into the store. A fill that ends early leaves its spool and journal for
the next one; one whose bytes turn out wrong leaves nothing.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from typing import Literal

from proxy.cache import journal
from proxy.cache.facts import Facts
from proxy.cache.flights import Flight, Source
from proxy.cache.local import LocalBlobs
from proxy.cache.lru import Lru
from proxy.cache.pump import Pump
from proxy.cache.records import Link
from proxy.cache.sources import Reader
from proxy.cache.spool import WITHHELD_BYTES, Spool
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    DigestMismatch,
    NoSpace,
    StorageUnavailable,
    UnknownBlob,
)
from proxy.events import FlightEnded, FlightResumed, StorageFailed
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Coordination, Observe

# Below this a whole body is verified before its head is sent anyway.
SMALL_BYTES_MAX = WITHHELD_BYTES
_TRIES_AFTER_MISMATCH = 2


class Filler:
    """Runs flights. Collaborators are shared, each flight is independent."""

    def __init__(
        self,
        *,
        local: LocalBlobs,
        facts: Facts,
        memory: Lru[BlobKey, bytes],
        size_hints: Lru[Digest, int],
        coordination: Coordination,
        disk: Executor,
        observe: Observe,
    ) -> None:
        self._local = local
        self._facts = facts
        self._memory = memory
        self._size_hints = size_hints
        self._coordination = coordination
        self._disk = disk
        self._observe = observe

    async def fill(self, flight: Flight) -> None:
        """Bring the blob. Raises what made that impossible; always reports the end."""
        outcome: Literal["stored", "unkept", "failed", "mismatch", "refused", "cancelled"]
        outcome, reason = "cancelled", ""
        try:
            # Held or not, we go on: identical digests make doubles harmless.
            async with self._coordination.try_hold(f"blob/{flight.key.group}/{flight.key.digest}"):
                outcome = "stored" if await self._bring(flight) else "unkept"
        except DigestMismatch as error:
            outcome, reason = "mismatch", str(error)
            raise
        except (UnknownBlob, AccessDenied) as error:
            outcome, reason = "refused", str(error)
            raise
        except Exception as error:
            outcome, reason = "failed", str(error)
            raise
        finally:
            self._observe(
                FlightEnded(
                    digest=str(flight.key.digest),
                    upstream=flight.sources[0].upstream.name,
                    outcome=outcome,
                    size=flight.size or 0,
                    duration_s=time.monotonic() - flight.started_at,
                    reason=reason,
                )
            )

    async def _bring(self, flight: Flight) -> bool:
        """Whether it could be kept."""
        spool = await self._find(flight)
        if spool is not None and spool.written == spool.size:
            return await self._finish(flight, spool)
        tries = 0
        while True:
            reader = Reader(
                flight.key.digest,
                flight.sources,
                observe=self._observe,
                refused=flight.refused,
                refuse=flight.refuse,
                start=0 if spool is None else spool.written,
                size=None if spool is None else spool.size,
            )
            try:
                async with reader:
                    await self._vouch(reader.source, flight.key.digest, reader.size)
                    size = await self._size(reader, flight.key.digest)
                    if spool is None and size <= SMALL_BYTES_MAX:
                        return await self._fetch_small(flight, reader, size)
                    if spool is None:
                        spool = await self._new_spool(flight, size)
                    return await self._fetch(flight, reader, spool)
            except DigestMismatch:
                tries += 1
                # Once followers may have sent wrong bytes on, only cutting helps.
                if flight.content is not None or tries > _TRIES_AFTER_MISMATCH:
                    raise
            except BaseException:
                if spool is not None:
                    await self._leave(spool)
                raise

    async def _size(self, reader: Reader, digest: Digest) -> int:
        size = reader.size or self._size_hints.get(digest)
        if size is None and reader.size is None:
            stat = await reader.source.upstream.stat_blob(reader.source.repository, digest)
            size = None if stat is None else stat.size
        if size is None:
            if reader.size == 0:
                return 0
            raise BadUpstreamAnswer("the upstream does not say how long the blob is")
        reader.size = size
        return size

    async def _vouch(self, source: Source, digest: Digest, size: int | None) -> None:
        """The upstream answered a GET in this repository: that is the link."""
        link = Link(url=source.upstream.url, media_type="", size=size)
        await self._facts.put_link(source.upstream, source.repository, digest, link)

    # --- small blobs: in memory ----------------------------------------------------

    async def _fetch_small(self, flight: Flight, reader: Reader, size: int) -> bool:
        data = b"".join([chunk async for chunk in reader.chunks()])
        flight.fetched += len(data)
        if len(data) != size or not flight.key.digest.matches(data):
            raise DigestMismatch(
                f"{reader.source.upstream.name} sent other bytes than {flight.key.digest}"
            )
        self._memory.put(flight.key, data)
        flight.show(data)
        try:
            await self._local.put_bytes(flight.key, data)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="blob write", reason=str(error)))
            return False
        return True

    # --- large ones: in a spool ------------------------------------------------------

    async def _find(self, flight: Flight) -> Spool | None:
        """The spool that an interrupted fill left, as far as it can be believed."""
        path = self._local.spool_path(flight.key)
        loop = asyncio.get_running_loop()
        said = await loop.run_in_executor(self._disk, journal.read, path)
        if said is None or said.digest != str(flight.key.digest) or not said.extents:
            return None
        await self._local.reserve(said.size)
        spool = Spool(path, flight.key.digest, said.size)
        try:
            good = await loop.run_in_executor(self._disk, spool.reopen_blocking, said)
        except OSError as error:
            self._observe(StorageFailed(operation="spool read", reason=str(error)))
            good = 0
        if good == 0:
            spool.close()
            self._local.unreserve(said.size)
            return None
        spool.publish(good)
        self._observe(
            FlightResumed(
                digest=str(flight.key.digest),
                upstream=flight.sources[0].upstream.name,
                offset=good,
                reason="an interrupted fill was found",
            )
        )
        return spool

    async def _new_spool(self, flight: Flight, size: int) -> Spool:
        """Raises `NoSpace`, with nothing left behind."""
        await self._local.reserve(size)
        spool = Spool(self._local.spool_path(flight.key), flight.key.digest, size)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._disk, spool.create_blocking)
        except OSError as error:
            self._local.unreserve(size)
            spool.close()
            await loop.run_in_executor(self._disk, spool.discard_blocking)
            raise NoSpace(f"no room for {size} bytes: {error.strerror}") from error
        return spool

    async def _fetch(self, flight: Flight, reader: Reader, spool: Spool) -> bool:
        pump = Pump(spool, self._disk)
        flight.followers_changed = pump.count_followers
        pump.count_followers(flight.followers)
        flight.show(spool)
        try:
            async for chunk in reader.chunks():
                flight.fetched += len(chunk)
                pump.push(chunk)
                if pump.full:
                    await pump.room()
            await pump.drain()
        except OSError as error:
            raise StorageUnavailable(f"the spool can't be written: {error}") from error
        finally:
            await asyncio.shield(pump.settle())
        return await self._finish(flight, spool)

    async def _finish(self, flight: Flight, spool: Spool) -> bool:
        """Verify, release the last bytes, then keep the file."""
        loop = asyncio.get_running_loop()
        if not spool.complete:
            error = DigestMismatch(
                f"{flight.sources[0].upstream.name} sent other bytes than {spool.digest}"
            )
            # First the followers, then the disk: nobody may read on.
            spool.fail(error)
            self._close(spool)
            await loop.run_in_executor(self._disk, spool.discard_blocking)
            raise error
        spool.publish_verified()
        flight.show(spool)
        try:
            await loop.run_in_executor(self._disk, spool.sync_blocking)
            await self._local.put(flight.key, spool.path)
        except (OSError, StorageUnavailable) as error:
            self._observe(StorageFailed(operation="blob write", reason=str(error)))
            return False
        finally:
            self._close(spool)
            await loop.run_in_executor(self._disk, spool.discard_blocking)
        return True

    async def _leave(self, spool: Spool) -> None:
        """Keep what came, if it is worth resuming from."""
        loop = asyncio.get_running_loop()
        if spool.file is None:
            return
        try:
            await loop.run_in_executor(self._disk, spool.journal_tail_blocking)
        except OSError as error:
            self._observe(StorageFailed(operation="spool write", reason=str(error)))
        resumable = spool.resumable
        self._close(spool)
        if not resumable:
            await loop.run_in_executor(self._disk, spool.discard_blocking)

    def _close(self, spool: Spool) -> None:
        if spool.file is not None:
            spool.close()
            self._local.unreserve(spool.size)
