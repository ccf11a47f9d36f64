"""Which bytes of a blob are fetched now, and over how many connections.

The **main lane** (`main_lane.py`) brings what is missing from the first byte on; it
alone claims the blob in the fleet. **Side lanes** each bring one stretch further on:

- a *window*: what a reader of a range is about to need. Without a main lane
  (nobody wants the whole) windows are all that is fetched; when a quarter of the
  blob was asked for, or more crumbs than can be kept track of, the rest is brought.
  One of which nobody needs the rest any more is ended.
- a *piece*, while the upstream gives more to several connections than to one
  (`width.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from itertools import islice

from proxy.cache.fleet import AHEAD_BYTES_MAX
from proxy.cache.main_lane import PIECE_BYTES, MainLane
from proxy.cache.single import to_the_end
from proxy.cache.sources import RangeIgnored, Reader
from proxy.cache.stretches import SKIP_BYTES_MIN, Kind, OpenReader, SideLane, Stretches, unwritable
from proxy.cache.width import Width
from proxy.errors import EntrepotError

# A large window is worth a connection for long. Of small ones, each of which is little
# more than a round trip, there are as many at once as the upstream has to spare.
_LARGE_BYTES = 1024 * 1024
_LARGE_WINDOWS_MAX = 4
_WINDOWS_MAX = 32
# Past so many for which there is no room, nobody looks for one for which there is.
_LOOK_MAX = _WINDOWS_MAX + 64
_COMPLETE_SHARE = 1 / 4
_EXTENTS_MAX = 4096
_FAILURES_MAX = 3
_LINGER_S = 30.0
# Who hangs up when it has its chunk asks for the next one at once, and what is under way
# in a connection that is closed was sent in vain.
_GRACE_S = 0.05
# Who comes back to what has not moved for so long is better off with a new connection.
_STILL_S = 1.0


class Lanes:
    """All of one fill. `run` returns when the bytes are there, or not needed any more."""

    def __init__(
        self,
        stretches: Stretches,
        *,
        open_reader: OpenReader,
        allocate: Callable[[], Awaitable[None]],
        width: Width,
        spare_connections: Callable[[], int],
    ) -> None:
        self._at = stretches
        self._flight = stretches.flight
        self._open_reader = open_reader
        self._width = width
        self._spare_connections = spare_connections
        self._main = MainLane(stretches, open_reader=open_reader, allocate=allocate, width=width)
        self._bringing: asyncio.Task[None] | None = None
        self._failures = 0
        self._failure: EntrepotError | None = None

    async def run(self, kind: Kind, first: Reader | None) -> bool:
        """Until the whole blob is in the spool (True) or nobody wants more of it (False).

        `first` is entered, and of this kind: for the main lane or for the first window.
        Raises what ended the fetch: an `EntrepotError`.
        """
        flight, changed = self._flight, self._at.changed
        flight.changed = flight.demands.changed = self._at.pump.failed = changed.set
        if first is not None and kind != "main":
            self._begin("window", first.position, first.end or self._at.spool.size, first)
            first = None
        try:
            while True:
                changed.clear()
                if flight.whole and self._bringing is None:
                    self._bringing = asyncio.ensure_future(self._main.run(first))
                    self._bringing.add_done_callback(lambda _done: changed.set())
                if self._bringing is not None and self._bringing.done():
                    self._bringing.result()
                    return True
                self._check_disk()
                if self._failure is not None and self._bringing is None:
                    raise self._failure
                self._drop_unneeded()
                self._add_windows()
                self._add_pieces()
                self._main.rebound()
                idle = self._bringing is None and not self._at.sides
                if idle and await self._nobody_came():
                    return False
                if not changed.is_set():
                    await changed.wait()
        finally:
            flight.changed = flight.demands.changed = self._at.pump.failed = lambda: None
            await self._stop()

    def _check_disk(self) -> None:
        # What a lane has pushed may be lost after its end: then nobody else would notice.
        try:
            self._at.pump.check()
        except OSError as error:
            raise unwritable(error) from error

    async def _stop(self) -> None:
        tasks = [lane.task for lane in self._at.sides if lane.task is not None]
        if self._bringing is not None:
            tasks.append(self._bringing)
        for task in tasks:
            task.cancel()
        if tasks:
            await to_the_end(_all_ended(tasks))

    async def _nobody_came(self) -> bool:
        """Whether the fill should end, perhaps after waiting for readers for a while."""
        if self._flight.parting:
            return True
        if not self._flight.idle:
            return False
        try:
            async with asyncio.timeout(_LINGER_S):
                await self._at.changed.wait()
        except TimeoutError:
            return self._flight.part()
        return False

    # --- side lanes --------------------------------------------------------------------

    def _begin(self, kind: Kind, start: int, end: int, opened: Reader | None = None) -> None:
        lane = SideLane(kind, start, end, opened)
        self._at.begin(lane)
        lane.task = task = asyncio.ensure_future(self._run_side(lane))
        # Not in the task itself: cancelled before its first step, it never runs.
        task.add_done_callback(lambda _done: self._ended(lane))

    def _ended(self, lane: SideLane) -> None:
        lane.stay()
        self._at.end(lane)
        have = self._at.have
        if have.total >= self._at.spool.size * _COMPLETE_SHARE or len(have) > _EXTENTS_MAX:
            self._flight.want_whole()
        self._at.changed.set()

    async def _run_side(self, lane: SideLane) -> None:
        reader = lane.reader or self._open_reader(lane.kind, lane.position, lane.end)
        lane.reader = reader
        urgent, loop = lane.kind == "window", asyncio.get_running_loop()
        try:
            async with aclosing(reader.chunks()) as chunks:
                async for chunk in chunks:
                    await self._at.take(reader.position - len(chunk), chunk, urgent=urgent)
                    lane.position, urgent = reader.position, False
                    lane.moved_at = loop.time()
            self._at.pump.flush()
        except RangeIgnored:
            self._at.ranges = False
            self._flight.want_whole()
        except (EntrepotError, OSError) as error:
            # The main lane comes by; without one, it is the flight that fails.
            self._failures += 1
            self._at.ranges = self._at.ranges and self._failures < _FAILURES_MAX
            self._failure = unwritable(error) if isinstance(error, OSError) else error
        finally:
            await to_the_end(reader.aclose())

    def _add_windows(self) -> None:
        if not self._at.ranges:
            return
        windows = [lane for lane in self._at.sides if lane.kind == "window"]
        large = sum(lane.end - lane.position >= _LARGE_BYTES for lane in windows)
        room = max(
            _LARGE_WINDOWS_MAX - len(windows), min(_WINDOWS_MAX - len(windows), self._spare())
        )
        if room <= 0:
            return
        gaps = self._flight.demands.gaps(self._at.coming, skip=self._comes_anyway)
        for demand, start, end in islice(gaps, _LOOK_MAX):
            if end - start >= _LARGE_BYTES:
                if large >= _LARGE_WINDOWS_MAX:
                    continue
                large += 1
            demand.grow()
            self._begin("window", start, end)
            room -= 1
            if room == 0:
                return

    def _spare(self) -> int:
        """How many connections the upstream has to spare beside those that will be used."""
        begun = sum(lane.reader is None or not lane.reader.asking for lane in self._at.sides)
        return self._spare_connections() - begun

    def _comes_anyway(self, start: int) -> bool:
        position = self._main.position
        return position is not None and position <= start < position + AHEAD_BYTES_MAX

    def _drop_unneeded(self) -> None:
        """End windows whose readers have left."""
        unneeded, loop = self._at.unneeded(), asyncio.get_running_loop()
        for lane in self._at.sides:
            if lane not in unneeded:
                lane.stay()
            elif lane.ending is None and lane.task is not None:
                still = loop.time() - lane.moved_at > _STILL_S
                lane.ending = loop.call_later(0 if still else _GRACE_S, lane.task.cancel)

    def _add_pieces(self) -> None:
        while (
            self._main.wants_help
            and len(self._at.sides) < self._width.lanes - 1
            and self._spare() > 0
        ):
            gap = self._at.coming.gap(self._main.end, self._at.spool.size)
            if gap is None or gap[1] - gap[0] < SKIP_BYTES_MIN:
                return
            start, end = gap
            self._begin(
                "piece", start, end if end - start < 2 * PIECE_BYTES else start + PIECE_BYTES
            )


async def _all_ended(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            # What it was is known, or does not matter any more.
            task.exception()
