"""Who is bringing what: one flight per blob, owned by the process.

A flight outlives every request: clients only follow it. It gathers sources as
requests for the same blob arrive from other repositories, and a refusal binds
only the source that was refused.

It brings the whole blob, or, as long as all its readers are content with ranges,
only what they are about to read (`demands`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from proxy.cache import traffic
from proxy.cache.flight import Flight, Source
from proxy.cache.lru import Lru
from proxy.errors import EntrepotError
from proxy.events import FlightStarted, FollowerJoined
from proxy.ports import BlobKey, Observe

__all__ = ["Flight", "Flights", "Source"]

_ENDS_MAX = 4096
_CROWDED_SHARE = 7 / 8


class Flights:
    """All flights by blob; at most `limit` at once."""

    def __init__(
        self, fill: Callable[[Flight], Awaitable[None]], *, limit: int, observe: Observe
    ) -> None:
        self._fill = fill
        self._limit = limit
        self._observe = observe
        self._flights: dict[BlobKey, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: Lru[BlobKey, int] = Lru(_ENDS_MAX)
        self._closing = False

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def full(self) -> bool:
        """Whether no further flight may start."""
        return self._closing or len(self._flights) >= self._limit

    def make_way(self) -> None:
        """Before one starts: if they are many, tell one that only lingers to end."""
        if len(self._flights) >= self._limit * _CROWDED_SHARE:
            for flight in self._flights.values():
                if not flight.parting and flight.part():
                    flight.changed()
                    break

    def all(self) -> list[Flight]:
        """Those in progress, for status pages."""
        return list(self._flights.values())

    def get(self, key: BlobKey) -> Flight | None:
        """The flight that is bringing a blob."""
        return self._flights.get(key)

    def ends(self, key: BlobKey) -> int:
        """How many flights for `key` have ended, as far as remembered.

        Whoever found nothing on the disk, and then a higher number here, looked
        at a moment when a flight was landing, and looks again.
        """
        return self._ends.get(key) or 0

    def join(
        self, key: BlobKey, source: Source, *, window: tuple[int, int] | None = None
    ) -> tuple[Flight, bool]:
        """The flight for `key`, started if need be; whether it was started now.

        `window`: nothing but these bytes is needed for now. A plain `def`: nothing
        can come between looking and starting.
        """
        flight = self._flights.get(key)
        if flight is not None:
            flight.add(source)
            flight.traffic.raise_to(traffic.current())
            if window is None:
                flight.want_whole()
            self._observe(FollowerJoined(digest=str(key.digest), upstream=source.upstream.name))
            return flight, False
        flight = Flight(key, source, whole=window is None)
        if window is not None:
            flight.first_window = window
        flight.on_end = self._land
        self._flights[key] = flight
        self._observe(FlightStarted(digest=str(key.digest), upstream=source.upstream.name))
        flight.traffic, context = traffic.begun()
        task = asyncio.create_task(self._run(flight), context=context)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(flight, done))
        return flight, True

    async def _run(self, flight: Flight) -> None:
        try:
            await self._fill(flight)
        except EntrepotError as error:
            flight.fail(error)
        except BaseException as error:
            # Cancellation included: followers must never wait for a dead flight.
            flight.fail(error)
            raise
        finally:
            flight.end()

    def _ended(self, flight: Flight, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not flight.ended:
            # Cancelled before its first step, so that nothing in it could say so.
            flight.fail(asyncio.CancelledError())
            flight.end()

    def _land(self, flight: Flight) -> None:
        del self._flights[flight.key]
        self._ends.put(flight.key, self.ends(flight.key) + 1)

    async def aclose(self, grace_s: float) -> None:
        """Let flights end for `grace_s`, then cancel them; they keep what they can."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
