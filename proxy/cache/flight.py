"""One fill in progress, as its readers and its task see it: what of it is here, who
waits for it, how it ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.cache import traffic
from proxy.cache.demand import Demands
from proxy.cache.spool import Spool
from proxy.errors import AccessDenied, EntrepotError, TransferBroken, UnknownBlob
from proxy.oci.names import Repository
from proxy.ports import BlobKey, Upstream


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

    @property
    def written(self) -> int:
        """Bytes that are here from the first one on without a gap; of a small blob, whose
        bytes are kept back until they are verified, those that were fetched.
        """
        return self.content.written if isinstance(self.content, Spool) else self.fetched

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
