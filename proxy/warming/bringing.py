"""One blob, brought to where it is kept, without reading it.

A flight brings it as it would for a client: it writes to the disk, verifies, resumes over
breaks and restarts. Here it is only started and watched, so that a blob of any size costs
no memory. The last places for flights are left to clients.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from weakref import WeakValueDictionary

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.cache.flights import Flight, Source
from proxy.cache.spool import Spool
from proxy.cache.vouching import group_of
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    EntrepotError,
    NoSpace,
    StorageUnavailable,
    TransferBroken,
    UnknownBlob,
    UpstreamLimited,
    UpstreamOffline,
    UpstreamUnavailable,
)
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import PUBLIC, BlobKey, Upstream

_LOOK_EVERY_S = 0.25
# A fill resumes over short breaks by itself; these are for the longer ones, and begin
# anew whenever it got on.
_DELAYS_S = (1.0, 5.0, 20.0)
# Of all places for flights.
_FLIGHTS_SHARE = 3 / 4
# Of an upstream's wish to be left alone.
_WISH_S_MAX = 60.0

Watch = Callable[[int], None]
"""Hears how many bytes of a blob are here by now."""


class Bringing:
    """Shared by all warm-ups: `fetches_max` blobs at once for all of them."""

    def __init__(
        self,
        cache: Cache,
        backing: Backing,
        *,
        fetches_max: int,
        flights_max: int,
        delays_s: tuple[float, ...] = _DELAYS_S,
    ) -> None:
        self._cache = cache
        self._local = backing.local.blobs
        self._durable = backing.fleet.durable
        # Rounded so that one is left even of two.
        self._flights_max = max(1, int(flights_max * _FLIGHTS_SHARE))
        self._delays_s = delays_s
        self._locks: WeakValueDictionary[BlobKey, asyncio.Lock] = WeakValueDictionary()
        self._fetches = asyncio.Semaphore(fetches_max)

    async def kept(self, upstream: Upstream, digest: Digest) -> int | None:
        """Its size if it is kept, on this disk or in the durable store."""
        return await self._kept(BlobKey(group_of(upstream), digest))

    async def servable(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> tuple[int | None, str | None]:
        """Its size if it is kept, and why it could not be served without the upstream."""
        size = await self.kept(upstream, digest)
        if size is None:
            return None, "not here"
        # Of what needs a password each repository must have shown that it has it.
        guarded = group_of(upstream) != PUBLIC
        if guarded and await self._cache.facts.link(upstream, repository, digest) is None:
            return size, f"here, but {upstream.name} was never asked whether it is in there"
        return size, None

    async def bring(
        self, upstream: Upstream, repository: Repository, digest: Digest, watch: Watch
    ) -> int:
        """Return once it is kept: the bytes that were fetched for it; 0 if it was.

        Raises `EntrepotError`: what kept it from being brought.
        """
        key, source = BlobKey(group_of(upstream), digest), Source(upstream, repository)
        fetched = 0
        if await self._kept(key) is None:
            # Who waits for what another one of us fetches takes none of the places.
            lock = self._locks.setdefault(key, asyncio.Lock())
            async with lock, self._fetches:
                fetched = await self._fetch_patiently(key, source, watch)
        # Known of this repository too, so that it can be served with the upstream gone.
        await self._cache.blobs.stat(upstream, repository, digest)
        return fetched

    async def _fetch_patiently(self, key: BlobKey, source: Source, watch: Watch) -> int:
        fetched, tries = 0, 0
        while True:
            flight = await self._flight(key, source)
            if flight is None:
                return fetched
            got = await self._watched(flight, watch)
            fetched += got
            failure = _failure(flight, source)
            if failure is None:
                if await self._kept(key) is not None:
                    return fetched
                if flight.whole:
                    raise NoSpace("there is no room to keep it")
                # It was ending, of a reader who wanted a part only.
                continue
            tries = 0 if got > 0 else tries
            if not _may_pass(failure) or tries >= len(self._delays_s):
                raise failure
            wish = failure.retry_after_s if isinstance(failure, UpstreamLimited) else None
            await asyncio.sleep(max(self._delays_s[tries], min(wish or 0.0, _WISH_S_MAX)))
            tries += 1

    async def _flight(self, key: BlobKey, source: Source) -> Flight | None:
        """The flight that brings it, started if need be; None: it is kept."""
        flights = self._cache.flights
        while True:
            ends = flights.ends(key)
            if await self._kept(key) is not None:
                return None
            if flights.get(key) is None and flights.ends(key) != ends:
                # One landed between the look and now.
                continue
            crowded = flights.full or len(flights) >= self._flights_max
            if flights.get(key) is None and crowded:
                # The other places are for clients.
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            return flights.join(key, source)[0]

    async def _watched(self, flight: Flight, watch: Watch) -> int:
        """Until it ends; how many bytes came meanwhile."""
        await flight.wait_any_content()
        # What an earlier fill left is there from the beginning.
        begun = _here(flight) if isinstance(flight.content, Spool) else 0
        ended = asyncio.ensure_future(flight.wait_end())
        try:
            while not ended.done():
                watch(_here(flight))
                await asyncio.wait((ended,), timeout=_LOOK_EVERY_S)
        finally:
            ended.cancel()
        watch(_here(flight))
        return _here(flight) - begun

    async def _kept(self, key: BlobKey) -> int | None:
        size = await self._local.stat(key)
        if size is None and self._durable is not None:
            with contextlib.suppress(StorageUnavailable):
                size = await self._durable.stat(key)
        return size


def _failure(flight: Flight, source: Source) -> EntrepotError | None:
    """Why it did not bring the blob for this source."""
    if source in flight.refused:
        return flight.refused[source]
    match flight.failure:
        case UnknownBlob() | AccessDenied():
            # That was said of another repository; we came too late to be asked about.
            return TransferBroken(str(flight.failure))
        case None | EntrepotError():
            return flight.failure
        case other:
            broken = TransferBroken("the fill was given up")
            broken.__cause__ = other
            return broken


def _may_pass(failure: EntrepotError) -> bool:
    """Whether another try, a little later, may do better."""
    hopeless = isinstance(failure, BadUpstreamAnswer | UpstreamOffline)
    return isinstance(failure, UpstreamUnavailable) and not hopeless


def _here(flight: Flight) -> int:
    match flight.content:
        case Spool() as spool:
            return spool.extents.total
        case bytes(data):
            return len(data)
        case _:
            return flight.fetched
