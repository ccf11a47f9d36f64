"""Reading a blob from whichever source works, going on where one broke.

Content is named by its digest, so sources are interchangeable in the middle of
a blob. A refusal (404, 403) rules that one source out; trouble (reset, stall,
5xx, nonsense) is answered with the next source, or the same one a little later,
from the first byte that is still missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Self

from proxy.cache.flights import Source
from proxy.errors import (
    AccessDenied,
    BadUpstreamAnswer,
    EntrepotError,
    TransferBroken,
    UnknownBlob,
    UpstreamUnavailable,
)
from proxy.events import BytesFetched, FlightResumed
from proxy.oci.digest import Digest
from proxy.ports import Body, Observe

# Nobody has a byte yet: answer soon, one way or the other.
_DELAYS_BEFORE_S = (0.1, 0.4)
# Clients are in the middle of a body: worth more patience. Reset by progress.
_DELAYS_WITHIN_S = (0.05, 0.5, 1.0, 2.0, 4.0, 8.0)


class Reader:
    """Bytes `[start, end)` of a blob, in order, over breaks; not verified.

    `sources` is read anew at each turn, so it may grow meanwhile. Enter it to
    get the head; then `size` is known if any source tells it.
    """

    def __init__(
        self,
        digest: Digest,
        sources: list[Source],
        *,
        observe: Observe,
        refused: dict[Source, EntrepotError],
        refuse: Callable[[Source, EntrepotError], None],
        start: int = 0,
        end: int | None = None,
        size: int | None = None,
    ) -> None:
        self._digest = digest
        self._sources = sources
        self._observe = observe
        self._refused = refused
        self._refuse = refuse
        self._end = end
        self._turn = 0
        self._stack = AsyncExitStack()
        self._body: Body | None = None
        self._failures = 0
        self.position = start
        self.size = size
        self.source = sources[0]

    async def __aenter__(self) -> Self:
        """Raises `UnknownBlob`, `AccessDenied`, `UpstreamUnavailable`."""
        while True:
            try:
                await self._connect()
            except UpstreamUnavailable as error:
                await self._recover(error, _DELAYS_BEFORE_S)
            else:
                return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._disconnect()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is left of the bytes. Raises like entering does, and when patience ends."""
        while True:
            try:
                if self._body is None:
                    await self._connect()
                async for chunk in self._read():
                    yield chunk
            except UpstreamUnavailable as error:
                await self._recover(error, _DELAYS_WITHIN_S)
                self._observe(
                    FlightResumed(
                        digest=str(self._digest),
                        upstream=self.source.upstream.name,
                        offset=self.position,
                        reason=str(error),
                    )
                )
            else:
                return

    async def _read(self) -> AsyncIterator[bytes]:
        body = self._body
        if body is None:
            raise TransferBroken("not connected")
        skip = self.position - body.offset
        received, end = 0, self.size if self._end is None else self._end
        try:
            async for chunk in body.chunks:
                received += len(chunk)
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                piece = chunk[skip:] if skip else chunk
                skip = 0
                self.position += len(piece)
                if end is not None and self.position > end:
                    if self._end is None:
                        raise BadUpstreamAnswer("the upstream sent more bytes than it announced")
                    # It ignored the range and goes on: we have what we wanted.
                    yield piece[: len(piece) - (self.position - end)]
                    return
                self._failures = 0
                yield piece
        finally:
            self._observe(
                BytesFetched(upstream=self.source.upstream.name, kind="blob", count=received)
            )
        if end is not None and self.position < end:
            raise TransferBroken(f"the upstream ended the body at {self.position} of {end} bytes")

    async def _connect(self) -> None:
        while True:
            self.source = source = self._next_source()
            opened = source.upstream.open_blob(
                source.repository, self._digest, start=self.position, end=self._end
            )
            try:
                body = await self._stack.enter_async_context(opened)
                if body is None:
                    raise UnknownBlob(
                        f"{source.upstream.name} has no blob {self._digest} in {source.repository}"
                    )
            except (UnknownBlob, AccessDenied) as error:
                await self._disconnect()
                self._refuse(source, error)
                continue
            if body.offset > self.position:
                await self._disconnect()
                raise BadUpstreamAnswer("the upstream sent a later part than was asked for")
            if body.size is not None and self.size is not None and body.size != self.size:
                await self._disconnect()
                raise BadUpstreamAnswer(
                    f"the upstream says {body.size} bytes now and said {self.size} before"
                )
            self.size = self.size if body.size is None else body.size
            self._body = body
            return

    def _next_source(self) -> Source:
        usable = [source for source in self._sources if source not in self._refused]
        if not usable:
            raise self._refused[self._sources[0]]
        return usable[self._turn % len(usable)]

    async def _recover(self, error: UpstreamUnavailable, delays: tuple[float, ...]) -> None:
        """Wait a little before the next try, or raise `error` when it is enough."""
        await self._disconnect()
        others = len(self._sources) - len(self._refused) > 1
        known_down = self.source.upstream.health().state in {"failing", "limited"}
        hopeless = delays is _DELAYS_BEFORE_S and known_down and not others
        if self._failures >= len(delays) or hopeless:
            raise error
        delay = delays[self._failures]
        self._failures += 1
        self._turn += 1
        await asyncio.sleep(delay)

    async def _disconnect(self) -> None:
        self._body = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()
