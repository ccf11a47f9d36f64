"""The lane that brings what is missing from the first byte on.

Where it comes upon bytes that are there, or on their way, it goes on behind them;
stretches too short to be worth a new request, or the cutting of one, it reads again.

Of a large blob whose size is known beforehand (its manifest was pulled here, too, or is
held here) it first asks for the beginning only (`trial_end`). While that comes, it turns
out whether a second connection brings more (`width.py`). If not, it asks for all that is
left in one go: an upstream that fills the link with one connection sees two requests, or
three if a second connection was tried, and no byte twice. While windows are begun further
on, it asks an upstream in pieces, so that it need not be cut for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from proxy.cache.single import to_the_end
from proxy.cache.sources import Reader
from proxy.cache.stretches import CUT_BYTES_MIN, OpenReader, Stretches, unwritable
from proxy.cache.width import Width

PIECE_BYTES = 8 * 1024 * 1024
# Less than this comes over one connection, in one request.
_WIDE_BYTES_MIN = 32 * 1024 * 1024
# Long enough for `Width` to see how fast a fast connection is; no longer, since what one
# connection brings alone is what a capped one takes longest for.
_TRIAL_BYTES_MIN = 16 * 1024 * 1024
_TRIAL_BYTES_MAX = 32 * 1024 * 1024
_TRIAL_SHARE = 1 / 4
# A piece each costs a round trip: no longer than windows keep being begun.
_LATELY_S = 1.0


def trial_end(start: int, size: int | None) -> int | None:
    """Where the first request of a main lane that starts there ends; None: at the end."""
    if size is None or size - start < _WIDE_BYTES_MIN:
        return None
    share = int((size - start) * _TRIAL_SHARE)
    return start + min(max(share, _TRIAL_BYTES_MIN), _TRIAL_BYTES_MAX)


class MainLane:
    """`run` it once. `position` is None while it does not read."""

    def __init__(
        self,
        stretches: Stretches,
        *,
        open_reader: OpenReader,
        allocate: Callable[[], Awaitable[None]],
        width: Width,
    ) -> None:
        self._at = stretches
        self._open_reader = open_reader
        self._allocate = allocate
        self._width = width
        self._reader: Reader | None = None

    async def run(self, opened: Reader | None) -> None:
        """Until every byte is in the file and hashed; `opened` is entered already.

        Raises an `EntrepotError`.
        """
        await self._allocate()
        size = self._at.spool.size
        position = self._at.have.end_at(0)
        if opened is None:
            position = await self._past_what_comes(position)
        reader = opened or self._open_reader("main", position, self._bound(position))
        self._reader = reader
        beside_windows = False
        try:
            if opened is None:
                beside_windows = await self._move(reader, position)
            while position < size:
                position = await self._past_what_comes(await self._read(reader))
                if self._width.lanes == 1 and not beside_windows:
                    self._width.settle()
                if position < size:
                    beside_windows = await self._move(reader, position)
            await self._at.pump.drain()
        except OSError as error:
            raise unwritable(error) from error
        finally:
            self._reader = None
            if opened is None:
                await to_the_end(reader.aclose())

    @property
    def position(self) -> int | None:
        """Where it reads."""
        return None if self._reader is None else self._reader.position

    @property
    def wants_help(self) -> bool:
        """Whether pieces beside it make sense: it reads from an upstream that has ranges."""
        reader = self._reader
        return (
            self._at.ranges
            and reader is not None
            and reader.connected
            and reader.supply.origin == "upstream"
        )

    @property
    def end(self) -> int:
        """Where it will stop."""
        reader = self._reader
        return self._at.spool.size if reader is None or reader.end is None else reader.end

    def rebound(self) -> None:
        """Other lanes came or went ahead of it."""
        reader = self._reader
        if reader is not None and reader.connected and not reader.range_ignored:
            end = self._at.stretch_ahead(reader.position, longer_than=CUT_BYTES_MIN)
            if end is not None and (reader.end is None or end < reader.end):
                reader.end = end

    async def _move(self, reader: Reader, position: int) -> bool:
        """Ask from there on: an upstream for a piece, while others read further on, so that
        nothing of what is brought for them need be cut out. Whether it is for that.
        """
        lately = asyncio.get_running_loop().time() - self._at.window_at < _LATELY_S
        beside_windows = lately and self._at.flight.demands.beyond(position)
        trial, size = None, self._at.spool.size
        if self._at.ranges and not reader.range_ignored:
            if self._width.lanes > 1 or beside_windows:
                trial = position + PIECE_BYTES if position + PIECE_BYTES < size else None
            elif not self._width.settled:
                trial = trial_end(position, size)
        await reader.move(position, self._bound(position), trial_end=trial)
        return beside_windows

    def _bound(self, position: int) -> int | None:
        """Where to stop; None: at the end of the blob."""
        if self._reader is not None and self._reader.range_ignored:
            # Each stop would bring the whole blob anew.
            return None
        end = self._at.stretch_ahead(position)
        return None if end is None or end >= self._at.spool.size else end

    async def _read(self, reader: Reader) -> int:
        """To the end of the stretch; where that is."""
        flight, loop, urgent = self._at.flight, asyncio.get_running_loop(), True
        async with aclosing(reader.chunks()) as chunks:
            async for chunk in chunks:
                await self._at.take(reader.position - len(chunk), chunk, urgent=urgent)
                if urgent and reader.range_ignored:
                    reader.end = None
                urgent = False
                if reader.end is None:
                    self._width.settle()
                self._width.sample(loop.time(), flight.fetched)
                if len(self._at.sides) < self._width.lanes - 1:
                    self._at.changed.set()
        return reader.position

    async def _past_what_comes(self, position: int) -> int:
        """Where something is missing that no side lane is about to bring."""
        while True:
            position = self._at.have.end_at(position)
            lane = next((o for o in self._at.sides if o.position <= position < o.end), None)
            if lane is None or lane.task is None:
                return position
            await asyncio.wait([lane.task])
