"""Who is bringing what: one flight per blob, owned by the process.

A flight outlives every request: clients only follow it. It gathers sources as
requests for the same blob arrive from other repositories, and a refusal binds
only the source that was refused.

It brings the whole blob, or, as long as all its readers are content with ranges,
only what they are about to read (`demands`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.cache import traffic
from proxy.cache.demand import Demands
from proxy.cache.lru import Lru
from proxy.cache.spool import Spool
from proxy.errors import AccessDenied, EntrepotError, TransferBroken, UnknownBlob
from proxy.events import FlightStarted, FollowerJoined
from proxy.oci.names import Repository
from proxy.ports import BlobKey, Observe, Upstream

_ENDS_MAX = 4096
_CROWDED_SHARE = 7 / 8


@dataclass(frozen=True, slots=True)
class Source:
    """A repository of an upstream that should have the blob."""

    upstream: Upstream
    repository: Repository


class Flight:
    """One fill in progress.

    `content` is set once the head of the blob has arrived: the spool, or the
    verified bytes themselves for a small blob. `size` in bytes with it.
    `arriving` are those who wait for it, and may become followers. `traffic`: how
    urgent it is; the most urgent of all who asked for it.
    """

    def __init__(self, key: BlobKey, first: Source, *, whole: bool = True) -> None:
        self.key = key
        self.sources: list[Source] = [first]
        self.demands = Demands()
        self.whole = whole
        self.first_window = (0, 0)
        self.parting = False
        self.arriving = 0
        self.changed: Callable[[], None] = lambda: None
        self.refused: dict[Source, EntrepotError] = {}
        self.content: Spool | bytes | None = None
        self.failure: BaseException | None = None
        self.ended = False
        self.on_end: Callable[[Flight], None] = lambda _flight: None
        self.followers = 0
        self.followers_changed: Callable[[int], None] = lambda _count: None
        self.started_at = time.monotonic()
        self.fetched = 0
        self.disk_bound = False
        self.traffic = traffic.Traffic()
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def size(self) -> int | None:
        """Bytes of the whole blob, None while unknown."""
        match self.content:
            case None:
                return None
            case bytes(data):
                return len(data)
            case spool:
                return spool.size

    async def wait_content(self, source: Source) -> Spool | bytes | None:
        """The content once there is any.

        None: it ended without, or because all *other* sources were refused; ask
        anew. Raises what refused this very source, or what ended the flight.
        """
        while True:
            if source in self.refused:
                raise self.refused[source]
            if self.content is not None:
                return self.content
            match self.failure:
                case None if self.ended:
                    return None
                case None:
                    await self._next_change()
                case UnknownBlob() | AccessDenied():
                    return None
                case EntrepotError():
                    raise self.failure
                case other:
                    raise TransferBroken("the fill was given up") from other

    async def wait_any_content(self) -> Spool | bytes | None:
        """The content, whoever may see it; None if it ended without."""
        while self.content is None and not self.ended:
            await self._next_change()
        return self.content

    async def wait_end(self) -> None:
        """Until nothing of it is under way any more."""
        while not self.ended:
            await self._next_change()

    async def _next_change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def add(self, source: Source) -> None:
        """Another repository that may serve the blob."""
        if source not in self.sources:
            self.sources.append(source)

    def refuse(self, source: Source, error: EntrepotError) -> None:
        """`source` does not have it, or may not show it."""
        self.refused[source] = error
        self._wake()

    def show(self, content: Spool | bytes) -> None:
        """The head has arrived (spool), or all of it, verified (bytes)."""
        self.content = content
        self._wake()

    def fail(self, cause: BaseException) -> None:
        """It ends without (more) content."""
        self.failure = cause
        if isinstance(self.content, Spool):
            self.content.fail(cause)
        self._wake()

    def end(self) -> None:
        """Nothing more will come: requests are answered from the store, or anew.

        The task may go on, to bring the blob to durable storage. Idempotent.
        """
        if not self.ended:
            self.ended = True
            self.on_end(self)
            if isinstance(self.content, Spool):
                self.content.fail(TransferBroken("nothing more is fetched"))
            self._wake()

    def want_whole(self) -> bool:
        """From now on it brings all of the blob, whoever stays. False: it is parting."""
        if not self.whole and not self.parting:
            self.whole = True
            self.changed()
        return self.whole

    @contextmanager
    def arrival(self) -> Iterator[None]:
        """While somebody makes up his mind whether to follow it."""
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1
            self.changed()

    def follow(self) -> None:
        """One more reader."""
        self.followers += 1
        self.followers_changed(self.followers)

    def leave(self) -> None:
        """One reader fewer. A whole blob is brought nevertheless: the next one will hit."""
        self.followers -= 1
        self.followers_changed(self.followers)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything that it would bring."""
        nobody = self.followers == 0 and self.arriving == 0 and len(self.demands) == 0
        return nobody and not self.whole

    def part(self) -> bool:
        """Let no further reader begin, if there is none now; whether that is so."""
        self.parting = self.parting or self.idle
        return self.parting

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


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
        """Whether no further flight may start. Before that, one that only lingers is
        told to end.
        """
        if len(self._flights) >= self._limit * _CROWDED_SHARE:
            for flight in self._flights.values():
                if not flight.parting and flight.part():
                    flight.changed()
                    break
        return self._closing or len(self._flights) >= self._limit

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
