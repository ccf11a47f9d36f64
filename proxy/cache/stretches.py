"""What the lanes of one fill share: which bytes they have, and who brings what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from proxy.cache.extents import Extents
from proxy.cache.flights import Flight
from proxy.cache.pump import Pump
from proxy.cache.sources import Reader
from proxy.cache.spool import Spool
from proxy.ports import Chunk

Kind = Literal["main", "window", "piece"]
OpenReader = Callable[[Kind, int, int | None], Reader]
"""A reader of `[start, end)` of the blob for a lane of this kind."""

# What is there already is asked for again, if it is shorter than this.
SKIP_BYTES_MIN = 1024 * 1024
# A transfer that goes on is cut only for this: what is under way in it is lost.
CUT_BYTES_MIN = 16 * 1024 * 1024


class SideLane:
    """One stretch `[position, end)` being fetched; `task` does it."""

    __slots__ = ("droppable", "end", "kind", "position", "task")

    def __init__(self, kind: Kind, start: int, end: int, *, droppable: bool) -> None:
        self.kind: Kind = kind
        self.droppable = droppable
        self.position = start
        self.end = end
        self.task: asyncio.Task[None] | None = None


class Stretches:
    """`have` are bytes taken over from the sources, perhaps not yet in the file;
    `ranges`: whether the sources send parts; `changed` wakes who decides.
    """

    def __init__(self, flight: Flight, spool: Spool, pump: Pump) -> None:
        self.flight = flight
        self.spool = spool
        self.pump = pump
        self.sides: list[SideLane] = []
        self.ranges = True
        self.changed = asyncio.Event()
        self.have = spool.extents.copy()
        self._known: Extents | None = None

    def begin(self, lane: SideLane) -> None:
        """It brings its stretch from now on."""
        self.sides.append(lane)
        if self._known is not None:
            self._known.add(lane.position, lane.end)

    def end(self, lane: SideLane) -> None:
        """It brought what it could."""
        self.sides.remove(lane)
        self._known = None

    def coming(self) -> Extents:
        """Bytes that are there or that some side lane is bringing."""
        self._known = coming = self.have.copy()
        for lane in self.sides:
            coming.add(lane.position, lane.end)
        return coming

    @property
    def known(self) -> Extents:
        """Some of `coming`, at no cost: what it was when somebody asked last."""
        return self.coming() if self._known is None else self._known

    def stretch_ahead(self, position: int, *, longer_than: int = SKIP_BYTES_MIN) -> int | None:
        """Where the next bytes begin that need not be fetched again."""
        return self.coming().next_start(position, longer_than=longer_than)

    async def take(self, offset: int, chunk: Chunk, *, urgent: bool) -> None:
        """Into the spool; waits while the disk is behind. Raises OSError."""
        self.flight.fetched += len(chunk)
        self.have.add(offset, offset + len(chunk))
        self.pump.push(offset, chunk, urgent=urgent)
        if self.pump.full:
            self.flight.disk_bound = True
            try:
                await self.pump.room()
            finally:
                self.flight.disk_bound = False
