"""One fill: find what an earlier one left, fetch what is wanted, verify, keep.

Followers get bytes while this runs and never wait for the keeping: the digest
is checked, the last bytes are released, and only then the file is synced and
moved into the store. A fill that ends early leaves its spool and journal for
the next one, and so does one of which only ranges were wanted; one whose bytes
turn out wrong leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from concurrent.futures import Executor
from typing import Literal

from proxy.cache.facts import Facts
from proxy.cache.fetching import Fetcher
from proxy.cache.fleet import Fleet, FleetSupplies
from proxy.cache.flights import Flight
from proxy.cache.local import LocalBlobs
from proxy.cache.lru import Lru
from proxy.cache.single import to_the_end
from proxy.cache.sources import RangeIgnored
from proxy.cache.spool import Spool
from proxy.cache.spools import Spools
from proxy.cache.supplies import Origin, UpstreamSupplies
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    DigestMismatch,
    StorageUnavailable,
    UnknownBlob,
    UpstreamUnavailable,
)
from proxy.events import FlightEnded, FlightResumed, StorageFailed
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Coordination, Observe

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
        lanes_max: int,
    ) -> None:
        self._local = local
        self._fleet = fleet
        self._memory = memory
        self._coordination = coordination
        self._observe = observe
        self._spools = Spools(local, disk, observe)
        self._fetcher = Fetcher(
            spools=self._spools,
            facts=facts,
            size_hints=size_hints,
            fleet=fleet,
            coordination=coordination,
            disk=disk,
            observe=observe,
            lanes_max=lanes_max,
        )

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
        outcome: Literal[
            "stored", "partial", "unkept", "failed", "mismatch", "refused", "cancelled"
        ]
        outcome, reason = "cancelled", ""
        try:
            kept = await self._bring(flight, supplies)
            outcome = "stored" if kept else "unkept" if flight.whole else "partial"
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
                flight.want_whole()
                return await self._finish(flight, spool)
        tries = 0
        while True:
            try:
                fetched = await self._fetcher.fetch(flight, supplies, spool)
                return await self._keep(flight, supplies, fetched)
            except RangeIgnored:
                if not flight.want_whole():
                    return False
                spool = await self._spools.find(flight.key)
            except BadUpstreamAnswer as error:
                tries += 1
                if not _worth_another(flight, error, tries, resumed=spool is not None):
                    raise
                if spool is not None and await self._same_size(flight, spool.size):
                    # It was not the length: what is there is good to go on from.
                    raise
                spool = None

    async def _same_size(self, flight: Flight, size: int) -> bool:
        """Whether the upstream still says that the blob is so long, or can't be asked."""
        source = flight.sources[0]
        try:
            stat = await source.upstream.stat_blob(source.repository, flight.key.digest)
        except (UpstreamUnavailable, AccessDenied):
            return True
        return stat is not None and stat.size == size

    async def _keep(
        self, flight: Flight, supplies: FleetSupplies, fetched: Spool | bytes | None
    ) -> bool:
        match fetched:
            case None:
                return False
            case bytes(data):
                self._memory.put(flight.key, data)
                flight.show(data)
                await self._promise(flight, supplies.origin)
                try:
                    await self._local.put_bytes(flight.key, data)
                except StorageUnavailable as error:
                    self._observe(StorageFailed(operation="blob write", reason=str(error)))
                    return False
                return True
            case Spool() as spool:
                await self._promise(flight, supplies.origin)
                return await self._finish(flight, spool)

    async def _promise(self, flight: Flight, origin: Origin) -> None:
        """Before the blob is kept here, so that no crash in between leaves it out of S3."""
        if self._fleet.uploader is not None and origin == "upstream":
            await self._fleet.uploader.promise(flight.key)

    def _resumed(self, flight: Flight, spool: Spool) -> None:
        self._observe(
            FlightResumed(
                digest=str(flight.key.digest),
                upstream=flight.sources[0].upstream.name,
                offset=spool.written,
                reason="an interrupted fill was found",
            )
        )

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


def _worth_another(flight: Flight, error: BadUpstreamAnswer, tries: int, *, resumed: bool) -> bool:
    """Whether all of it, fetched from the first byte on, may do better."""
    if flight.content is not None:
        # Followers may have sent wrong bytes on: only cutting helps.
        return False
    if isinstance(error, DigestMismatch):
        return tries <= _TRIES_AFTER_MISMATCH
    # An earlier fill, or who asks for a range, may have been lied to about the length.
    return resumed or (not flight.whole and flight.want_whole())


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
