"""One fill: find what an earlier one left, fetch the rest, verify, keep.

Followers get bytes while this runs and never wait for the keeping: the digest
is checked, the last bytes are released, and only then the file is synced and
moved into the store. A fill that ends early leaves its spool and journal for
the next one; one whose bytes turn out wrong leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Literal

from proxy.cache.facts import Facts
from proxy.cache.fleet import Fleet, FleetSupplies
from proxy.cache.flights import Flight, Source
from proxy.cache.local import LocalBlobs
from proxy.cache.lru import Lru
from proxy.cache.pump import Pump
from proxy.cache.records import Link
from proxy.cache.single import to_the_end
from proxy.cache.sources import Reader
from proxy.cache.spool import WITHHELD_BYTES, Spool
from proxy.cache.spools import Spools
from proxy.cache.supplies import Origin, UpstreamSupplies, UpstreamSupply
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    DigestMismatch,
    StorageUnavailable,
    UnknownBlob,
)
from proxy.events import FlightEnded, FlightResumed, StorageFailed
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Coordination, Observe

# Below this a whole body is verified before its head is sent anyway.
SMALL_BYTES_MAX = WITHHELD_BYTES
_TRIES_AFTER_MISMATCH = 2
# The claim on a blob is kept until it is stored, but not for days without a store.
_CLAIMED_AFTER_S = 300.0
_BEAT_S = 2.0


class Filler:
    """Runs flights. Collaborators are shared, each flight is independent."""

    def __init__(
        self,
        *,
        local: LocalBlobs,
        facts: Facts,
        memory: Lru[BlobKey, bytes],
        size_hints: Lru[Digest, int],
        fleet: Fleet,
        coordination: Coordination,
        disk: Executor,
        observe: Observe,
    ) -> None:
        self._local = local
        self._fleet = fleet
        self._facts = facts
        self._memory = memory
        self._size_hints = size_hints
        self._coordination = coordination
        self._disk = disk
        self._observe = observe
        self._spools = Spools(local, disk, observe)

    async def fill(self, flight: Flight) -> None:
        """Bring the blob, to the local tier and then to the durable store.

        Raises what made that impossible; always reports the end.
        """
        upstreams = UpstreamSupplies(
            flight.key.digest, flight.sources, flight.refused, flight.refuse
        )
        supplies = FleetSupplies(
            flight.key, upstreams, fleet=self._fleet, coordination=self._coordination
        )
        beat = asyncio.create_task(_beat(flight, supplies)) if self._fleet.together else None
        try:
            if await self._fill(flight, supplies):
                # Queued first: who sees no fill any more must find it among the uploads.
                stored = await self._queue(flight, supplies)
                flight.end()
                await _until_stored(stored)
        finally:
            if beat is not None:
                beat.cancel()
            await to_the_end(supplies.aclose())

    async def _fill(self, flight: Flight, supplies: FleetSupplies) -> bool:
        outcome: Literal["stored", "unkept", "failed", "mismatch", "refused", "cancelled"]
        outcome, reason = "cancelled", ""
        try:
            kept = await self._bring(flight, supplies)
            outcome = "stored" if kept else "unkept"
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
        return kept

    async def _queue(self, flight: Flight, supplies: FleetSupplies) -> Awaitable[None] | None:
        """For the durable store, unless that or another replica has seen to it."""
        uploader = self._fleet.uploader
        if uploader is None or supplies.origin == "storage":
            return None
        if supplies.origin == "peer":
            uploader.add_later(flight.key)
            return None
        return await uploader.add(flight.key, ask_first=supplies.lease is None)

    async def _bring(self, flight: Flight, supplies: FleetSupplies) -> bool:
        """Whether it could be kept."""
        spool = await self._spools.find(flight.key)
        if spool is not None:
            self._resumed(flight, spool)
            if spool.written == spool.size:
                return await self._finish(flight, spool)
        tries = 0
        while True:
            try:
                return await self._fetch(flight, supplies, spool)
            except DigestMismatch:
                tries += 1
                # Once followers may have sent wrong bytes on, only cutting helps.
                if flight.content is not None or tries > _TRIES_AFTER_MISMATCH:
                    raise
            except BadUpstreamAnswer:
                # An earlier fill may have been lied to about the length: then nothing
                # goes on from what it left, but a fetch of the whole may do.
                if spool is None or flight.content is not None:
                    raise
            spool = None

    async def _fetch(self, flight: Flight, supplies: FleetSupplies, spool: Spool | None) -> bool:
        """One attempt, from the end of `spool` if there is one."""
        digest = flight.key.digest
        reader = Reader(
            digest,
            supplies,
            observe=self._observe,
            start=0 if spool is None else spool.written,
            size=None if spool is None else spool.size,
        )
        try:
            async with reader:
                if isinstance(reader.supply, UpstreamSupply):
                    await self._vouch(reader.supply.source, digest, reader.size)
                size = await self._size(flight, reader)
                if spool is None and size <= SMALL_BYTES_MAX:
                    return await self._fetch_small(flight, reader, size)
                if spool is None:
                    spool = await self._spools.create(flight.key, size)
                await self._fetch_large(flight, reader, spool)
                await self._promise(flight, reader.supply.origin)
            return await self._finish(flight, spool)
        except BaseException:
            if spool is not None:
                await to_the_end(self._spools.leave(spool))
            raise

    async def _size(self, flight: Flight, reader: Reader) -> int:
        if reader.size is None:
            reader.size = self._size_hints.get(flight.key.digest)
        if reader.size is None:
            source = flight.sources[0]
            stat = await source.upstream.stat_blob(source.repository, flight.key.digest)
            reader.size = None if stat is None else stat.size
        if reader.size is None:
            raise BadUpstreamAnswer("the upstream does not say how long the blob is")
        return reader.size

    async def _vouch(self, source: Source, digest: Digest, size: int | None) -> None:
        """The upstream answered a GET in this repository: that is the link."""
        link = Link(url=source.upstream.url, media_type="", size=size)
        await self._facts.put_link(source.upstream, source.repository, digest, link)

    async def _promise(self, flight: Flight, origin: Origin) -> None:
        """Before the blob is kept here, so that no crash in between leaves it out of S3."""
        if self._fleet.uploader is not None and origin == "upstream":
            await self._fleet.uploader.promise(flight.key)

    # --- small blobs: in memory ----------------------------------------------------

    async def _fetch_small(self, flight: Flight, reader: Reader, size: int) -> bool:
        data = b"".join([chunk async for chunk in reader.chunks()])
        flight.fetched += len(data)
        if len(data) != size or not flight.key.digest.matches(data):
            raise DigestMismatch(f"{reader.supply.name} sent other bytes than {flight.key.digest}")
        self._memory.put(flight.key, data)
        flight.show(data)
        await self._promise(flight, reader.supply.origin)
        try:
            await self._local.put_bytes(flight.key, data)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="blob write", reason=str(error)))
            return False
        return True

    # --- large ones: in a spool ------------------------------------------------------

    def _resumed(self, flight: Flight, spool: Spool) -> None:
        self._observe(
            FlightResumed(
                digest=str(flight.key.digest),
                upstream=flight.sources[0].upstream.name,
                offset=spool.written,
                reason="an interrupted fill was found",
            )
        )

    async def _fetch_large(self, flight: Flight, reader: Reader, spool: Spool) -> None:
        pump = Pump(spool, self._disk)
        flight.followers_changed = pump.count_followers
        pump.count_followers(flight.followers)
        flight.show(spool)
        try:
            async with aclosing(reader.chunks()) as chunks:
                async for chunk in chunks:
                    flight.fetched += len(chunk)
                    pump.push(chunk)
                    if pump.full:
                        flight.disk_bound = True
                        await pump.room()
                        flight.disk_bound = False
            await pump.drain()
        except OSError as error:
            raise StorageUnavailable(f"the spool can't be written: {error}") from error
        finally:
            await to_the_end(pump.settle())

    async def _finish(self, flight: Flight, spool: Spool) -> bool:
        """Verify, release the last bytes, then keep the file."""
        if not spool.complete:
            error = DigestMismatch(
                f"{flight.sources[0].upstream.name} sent other bytes than {spool.digest}"
            )
            # First the followers, then the disk: nobody may read on.
            spool.fail(error)
            await to_the_end(self._spools.discard(spool))
            raise error
        spool.publish_verified()
        flight.show(spool)
        return await to_the_end(self._spools.keep(flight.key, spool))


async def _until_stored(stored: Awaitable[None] | None) -> None:
    """Holding the claim meanwhile; that we stop holding it does not end the upload."""
    if stored is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLAIMED_AFTER_S):
                await asyncio.shield(asyncio.ensure_future(stored))


async def _beat(flight: Flight, supplies: FleetSupplies) -> None:
    """Keep the claim while the fill moves or waits for its supply: a stalled upstream
    is no reason for another replica to try its luck, a stalled disk of ours is.
    """
    while True:
        await asyncio.sleep(_BEAT_S)
        if not flight.disk_bound:
            supplies.progress()
