"""What the lanes of one fill share: which bytes they have, and who brings what."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from proxy.cache.demand import Demand
from proxy.cache.flights import Flight
from proxy.cache.pump import Pump
from proxy.cache.sources import Reader
from proxy.cache.spool import Spool
from proxy.errors import StorageUnavailable
from proxy.events import Part
from proxy.ports import Chunk

Kind = Part
OpenReader = Callable[[Kind, int, int | None], Reader]
"""A reader of `[start, end)` of the blob for a lane of this kind."""

# What is there already is asked for again, if it is shorter than this.
SKIP_BYTES_MIN = 1024 * 1024
# A transfer that goes on is cut only for this: what is under way in it is lost.
CUT_BYTES_MIN = 16 * 1024 * 1024


def unwritable(error: OSError) -> StorageUnavailable:
    """What a fetch ends with whose bytes the disk does not take."""
    return StorageUnavailable(f"the spool can't be written: {error}")


class SideLane:
    """One stretch `[position, end)` being fetched; `task` does it, with `reader`.

    `doubtful`: somebody left who was to read some of it; `needed_by`: who was found then
    who still is. `ending`: nobody is, so that it will be ended soon. `moved_at`: when
    something came last, on the loop's clock.
    """

    __slots__ = (
        "doubtful",
        "end",
        "ending",
        "kind",
        "moved_at",
        "needed_by",
        "position",
        "reader",
        "task",
    )

    def __init__(self, kind: Kind, start: int, end: int, reader: Reader | None = None) -> None:
        self.kind: Kind = kind
        self.doubtful = False
        self.needed_by: Demand | None = None
        self.ending: asyncio.TimerHandle | None = None
        self.moved_at = asyncio.get_running_loop().time()
        self.position = start
        self.end = end
        self.reader = reader
        self.task: asyncio.Task[None] | None = None

    def stay(self) -> None:
        """It is not ended for being needed by nobody. Idempotent."""
        if self.ending is not None:
            self.ending.cancel()
            self.ending = None


class Stretches:
    """`have` are bytes taken over from the sources, perhaps not yet in the file;
    `coming` are these and those that a side lane is bringing, both to look at only.
    `ranges`: whether the sources send parts; `window_at`: when a window was begun last, on
    the loop's clock; `changed` wakes who decides.
    """

    def __init__(self, flight: Flight, spool: Spool, pump: Pump) -> None:
        self.flight = flight
        self.spool = spool
        self.pump = pump
        self.sides: list[SideLane] = []
        self.ranges = True
        self.window_at = -math.inf
        self.changed = asyncio.Event()
        self.have = spool.extents.copy()
        self.coming = self.have.copy()

    def begin(self, lane: SideLane) -> None:
        """It brings its stretch from now on."""
        self.sides.append(lane)
        if lane.kind == "window":
            self.window_at = asyncio.get_running_loop().time()
        self.coming.add(lane.position, lane.end)

    def end(self, lane: SideLane) -> None:
        """It brought what it could."""
        self.sides.remove(lane)
        if lane.position < lane.end:
            self.coming = self.have.copy()
            for other in self.sides:
                self.coming.add(other.position, other.end)
            self.flight.demands.lost()

    def unneeded(self) -> list[SideLane]:
        """Windows of which nobody is to read the rest: who was to has left."""
        demands = self.flight.demands
        left = demands.take_left()
        found = []
        for lane in self.sides:
            if lane.kind != "window" or lane.position >= lane.end:
                continue
            rest = (lane.position, lane.end)
            lane.doubtful = lane.doubtful or left.gap(*rest) != rest
            if lane.doubtful:
                lane.needed_by = demands.needing(*rest, lane.needed_by)
                if lane.needed_by is None:
                    found.append(lane)
        return found

    def stretch_ahead(self, position: int, *, longer_than: int = SKIP_BYTES_MIN) -> int | None:
        """Where the next bytes begin that need not be fetched again."""
        return self.coming.next_start(position, longer_than=longer_than)

    async def take(self, offset: int, chunk: Chunk, *, urgent: bool) -> None:
        """Into the spool; waits while the disk is behind. Raises OSError."""
        self.flight.fetched += len(chunk)
        self.have.add(offset, offset + len(chunk))
        self.coming.add(offset, offset + len(chunk))
        self.pump.push(offset, chunk, urgent=urgent)
        if self.pump.full:
            self.flight.disk_bound = True
            try:
                await self.pump.room()
            finally:
                self.flight.disk_bound = False
