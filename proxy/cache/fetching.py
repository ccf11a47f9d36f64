"""One attempt at the bytes of a blob: all of it, or the ranges that readers want.

Who follows the flight gets bytes as they come; a small blob is verified first.
Nothing is kept here: a complete spool is handed on, and one that is not complete is
left on the disk for the next attempt.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import nullcontext

from proxy.cache.facts import Facts
from proxy.cache.fleet import Fleet, FleetSupplies
from proxy.cache.flights import Flight, Source
from proxy.cache.lanes import Lanes
from proxy.cache.lru import Lru
from proxy.cache.pump import Pump
from proxy.cache.readers import Readers
from proxy.cache.records import Link
from proxy.cache.single import to_the_end
from proxy.cache.sources import Reader
from proxy.cache.spool import WITHHELD_BYTES, Spool
from proxy.cache.spools import Spools
from proxy.cache.stretches import Kind, Stretches
from proxy.cache.supplies import UpstreamSupply
from proxy.cache.width import Width
from proxy.errors import BadUpstreamAnswer, DigestMismatch
from proxy.oci.digest import Digest
from proxy.ports import Coordination, Observe

# Below this a whole body is verified before its head is sent anyway.
SMALL_BYTES_MAX = WITHHELD_BYTES


class Fetcher:
    """Makes attempts. Collaborators are shared, each attempt is independent."""

    def __init__(
        self,
        *,
        spools: Spools,
        facts: Facts,
        size_hints: Lru[Digest, int],
        fleet: Fleet,
        coordination: Coordination,
        disk: Executor,
        observe: Observe,
        lanes_max: int,
    ) -> None:
        self._spools = spools
        self._facts = facts
        self._size_hints = size_hints
        self._fleet = fleet
        self._coordination = coordination
        self._disk = disk
        self._observe = observe
        self._lanes_max = lanes_max

    async def fetch(
        self, flight: Flight, supplies: FleetSupplies, spool: Spool | None
    ) -> Spool | bytes | None:
        """What is missing in `spool` (None: everything), into it.

        A complete spool, its digest yet to be looked at; the verified bytes of a small
        blob; or None when nobody wants more than the parts that were brought. Raises
        `RangeIgnored` when a part was asked and the whole would come, and what a
        reader raises.
        """
        readers = Readers(
            flight,
            supplies,
            fleet=self._fleet,
            coordination=self._coordination,
            observe=self._observe,
            wide=self._lanes_max > 1,
        )
        # What the flight is for may change while its head is waited for.
        kind: Kind = "main" if flight.whole else "window"
        reader = self._first_reader(kind, flight, readers, spool)
        complete = False
        try:
            async with reader or nullcontext():
                if reader is not None:
                    if isinstance(reader.supply, UpstreamSupply):
                        await self._vouch(reader.supply.source, flight.key.digest, reader.size)
                    size = await self._size(flight, reader)
                    if spool is None and kind == "main" and size <= SMALL_BYTES_MAX:
                        return await self._small(flight, reader, size)
                    if spool is None:
                        spool = await self._spools.create(flight.key, size, whole=flight.whole)
                if spool is None:
                    raise BadUpstreamAnswer("there is nothing to fetch")
                complete = await self._large(flight, readers, kind, reader, spool)
        finally:
            if spool is not None and not complete:
                await to_the_end(self._spools.leave(spool))
        return spool if complete else None

    def _first_reader(
        self, kind: Kind, flight: Flight, readers: Readers, spool: Spool | None
    ) -> Reader | None:
        """For what is missing first; None if the wanted range is there already."""
        if kind == "main":
            if spool is not None:
                return readers.open("main", spool.written, None, size=spool.size)
            # A hint only: the manifest may be wrong about it.
            hint = self._size_hints.get(flight.key.digest)
            return readers.open("main", 0, None, size=None, expected=hint)
        gap: tuple[int, int] | None = flight.first_window
        if spool is not None:
            gap = spool.extents.gap(*flight.first_window)
        size = None if spool is None else spool.size
        return None if gap is None else readers.open("window", *gap, size=size)

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

    async def _small(self, flight: Flight, reader: Reader, size: int) -> bytes:
        data = b"".join([chunk async for chunk in reader.chunks()])
        flight.fetched += len(data)
        if len(data) != size or not flight.key.digest.matches(data):
            raise DigestMismatch(f"{reader.supply.name} sent other bytes than {flight.key.digest}")
        return data

    async def _large(
        self, flight: Flight, readers: Readers, kind: Kind, reader: Reader | None, spool: Spool
    ) -> bool:
        """Whether all of it has come; False: nobody wants more of it for now."""
        pump = Pump(spool, self._disk)
        flight.followers_changed = pump.count_followers
        pump.count_followers(flight.followers)
        upstream = flight.sources[0].upstream
        lanes = Lanes(
            Stretches(flight, spool, pump),
            open_reader=lambda kind, start, end: readers.open(kind, start, end, size=spool.size),
            allocate=lambda: self._spools.allocate(spool),
            width=Width(self._lanes_max),
            spare_connections=upstream.spare_connections,
        )
        flight.show(spool)
        try:
            return await lanes.run(kind, reader)
        finally:
            await to_the_end(pump.settle())
