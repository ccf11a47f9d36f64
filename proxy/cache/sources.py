"""Reading a blob from whichever supply works, going on where one broke.

Content is named by its digest, so supplies are interchangeable in the middle of
a blob: trouble (reset, stall, 5xx, nonsense) is answered with another, or the
same one a little later, from the first byte that is still missing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Self

from proxy.cache import traffic
from proxy.cache.supplies import REFUSALS, Supplies, Supply
from proxy.cache.traffic import Urgency
from proxy.errors import BadUpstreamAnswer, StorageUnavailable, TransferBroken, UpstreamUnavailable
from proxy.events import BytesFetched, BytesRead, FlightResumed, Part
from proxy.oci.digest import Digest
from proxy.ports import Body, Chunk, Observe

# Nobody has a byte yet: answer soon, one way or the other.
_DELAYS_BEFORE_S = (0.1, 0.4)
# Clients are in the middle of a body: worth more patience. Reset by progress.
_DELAYS_WITHIN_S = (0.05, 0.5, 1.0, 2.0, 4.0, 8.0)
# After that, while somebody still wants it and the last byte is not too long ago.
_DELAY_LATER_S = 15.0
_DELAY_MAX_S = 60.0
_PATIENCE_S = 300.0
# Another replica or the store broke: somebody else is asked next.
_DELAY_ELSEWHERE_S = 0.05


def _delays_before() -> tuple[float, ...]:
    """Before the first byte: who waits for an answer wants it soon, a warm-up does not."""
    waiting = traffic.current().urgency is Urgency.WAITING
    return _DELAYS_BEFORE_S if waiting else _DELAYS_WITHIN_S


class RangeIgnored(BadUpstreamAnswer):
    """The source sends the whole blob, whatever it is asked for."""


class Reader:
    """Bytes `[position, end)` of a blob, in order, over breaks; not verified.

    Enter it to get the head; then `size` is known if any supply tells it, and
    `supply` is where the bytes come from. `end` (None: the last byte) may be
    lowered while reading. `picky`: a source that ignores the range asked for is
    no good, since somebody else reads what it would send besides; otherwise
    `range_ignored` tells of it. `trial_end`: of an upstream no more than up to there
    is asked for at first; if it sends more, that is read on. `wanted`: whether anybody
    waits for more, asked when an upstream can't be reached for long. `part` is for those
    who count what upstreams sent.
    """

    def __init__(
        self,
        digest: Digest,
        supplies: Supplies,
        *,
        observe: Observe,
        start: int = 0,
        end: int | None = None,
        size: int | None = None,
        picky: bool = False,
        trial_end: int | None = None,
        wanted: Callable[[], bool] = lambda: False,
        part: Part | None = None,
    ) -> None:
        self._wanted = wanted
        self._part: Part | None = part
        self._moved_at = time.monotonic()
        self._digest = digest
        self._supplies = supplies
        self._observe = observe
        self._picky = picky
        self._trial_end = trial_end
        self.end = end
        self._stack = AsyncExitStack()
        self._body: Body | None = None
        self._failures = 0
        self._supply: Supply | None = None
        self.position = start
        self.size = size
        self.range_ignored = False
        self.asking = False
        """Whether a supply was asked and has not been left since."""

    @property
    def supply(self) -> Supply:
        """Where the bytes come from now. Raises `TransferBroken` before entering."""
        if self._supply is None:
            raise TransferBroken("not connected")
        return self._supply

    async def __aenter__(self) -> Self:
        """Raises `UnknownBlob`, `AccessDenied`, `UpstreamUnavailable`."""
        while True:
            try:
                await self._connect()
            except RangeIgnored:
                await self._disconnect()
                raise
            except UpstreamUnavailable as error:
                await self._recover(error, _delays_before())
            else:
                return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the transfer. What was not entered is closed so."""
        await self._disconnect()

    @property
    def connected(self) -> bool:
        """Whether a supply is sending."""
        return self._body is not None

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """What is left of the bytes. Raises like entering does, and when patience ends."""
        while True:
            try:
                if self._body is None:
                    await self._connect()
                async with aclosing(self._read()) as pieces:
                    async for piece in pieces:
                        yield piece
            except RangeIgnored:
                await self._disconnect()
                raise
            except UpstreamUnavailable as error:
                if self._until is not None and self.position >= self._until:
                    # It broke after the last byte.
                    await self._disconnect()
                    return
                await self._recover(error, _DELAYS_WITHIN_S)
                self._observe(
                    FlightResumed(
                        digest=str(self._digest),
                        upstream=self.supply.name,
                        offset=self.position,
                        reason=str(error),
                    )
                )
            else:
                if self.end is not None:
                    await self._disconnect()
                return

    async def _read(self) -> AsyncGenerator[Chunk, None]:
        body = self._body
        if body is None:
            raise TransferBroken("not connected")
        skip = self.position - body.offset
        received = 0
        try:
            async for chunk in body.chunks:
                received += len(chunk)
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                piece = self._within(chunk[skip:] if skip else chunk)
                skip = 0
                self.position += len(piece)
                self._failures = 0
                self._moved_at = time.monotonic()
                if piece:
                    yield piece
                if self._reached(body):
                    return
        finally:
            origin = self.supply.origin
            if origin == "upstream":
                self._observe(
                    BytesFetched(
                        upstream=self.supply.name,
                        kind="blob",
                        count=received,
                        repository=self.supply.repository,
                        reference=str(self._digest),
                        part=self._part,
                    )
                )
            else:
                self._observe(BytesRead(origin=origin, count=received))
        end = self._until
        if end is not None and self.position < end:
            raise TransferBroken(f"the body ended at {self.position} of {end} bytes")

    def _within(self, piece: Chunk) -> Chunk:
        """What of `piece` lies before the end. Raises `BadUpstreamAnswer`."""
        end = self._until
        if end is None or self.position + len(piece) <= end:
            return piece
        if self.end is None:
            raise BadUpstreamAnswer("the upstream sent more bytes than it announced")
        return piece[: max(0, end - self.position)]

    def _reached(self, body: Body) -> bool:
        """Whether all is here although `body` goes on.

        One that ends here, too, is read to its end: its connection is used again.
        """
        if self.end is None or self.position < self.end:
            return False
        return body.end is None or body.end > self.end

    @property
    def _until(self) -> int | None:
        return self.size if self.end is None else self.end

    async def move(self, start: int, end: int | None, *, trial_end: int | None = None) -> None:
        """Go on somewhere else, with the next chunk; `trial_end` as at first."""
        await self._disconnect()
        self.position, self.end = start, end
        self._trial_end = trial_end

    async def _connect(self) -> None:
        while True:
            self._supply = supply = await self._supplies.choose()
            # Not asked of the store and of other replicas, which are looked at first.
            trial = self._trial_end if supply.origin == "upstream" else None
            if trial is not None and (self.end is None or self.end > trial):
                self.end = trial
            opened = supply.open(self._digest, start=self.position, end=self.end)
            self.asking = True
            try:
                body = await self._stack.enter_async_context(opened)
            except REFUSALS as error:
                await self._disconnect()
                self._supplies.refused(supply, error)
                continue
            except StorageUnavailable:
                body = None
            if body is None:
                await self._disconnect()
                self._supplies.refused(supply, None)
                continue
            self._accept(supply, body, trial=trial is not None)
            return

    def _accept(self, supply: Supply, body: Body, *, trial: bool) -> None:
        """Read from it from now on. Raises `BadUpstreamAnswer` if that makes no sense."""
        beyond = self.end is not None and body.end is not None and body.end > self.end
        if self._picky and (body.offset != self.position or beyond):
            raise RangeIgnored(f"{supply.name} does not send ranges")
        self.range_ignored = beyond or body.offset < self.position
        if beyond and trial:
            self.end = None
        if body.offset > self.position:
            raise BadUpstreamAnswer("the upstream sent a later part than was asked for")
        if body.size is not None and self.size is not None and body.size != self.size:
            raise BadUpstreamAnswer(
                f"the upstream says {body.size} bytes now and said {self.size} before"
            )
        self.size = self.size if body.size is None else body.size
        if self.size is not None and self.end is not None:
            self.end = min(self.end, self.size)
        self._trial_end = None
        self._body = body

    async def _recover(self, error: UpstreamUnavailable, delays: tuple[float, ...]) -> None:
        """Wait a little before the next try, or raise `error` when it is enough."""
        await self._disconnect()
        supply = self._supply
        if supply is not None and supply.origin != "upstream":
            # `Supplies` bounds these; the patience here is meant for the upstream.
            self._supplies.failed(supply, error)
            await asyncio.sleep(_DELAY_ELSEWHERE_S)
            return
        hopeless = delays is _DELAYS_BEFORE_S and self._supplies.hopeless()
        later = self._failures >= len(delays)
        if hopeless or (later and not self._worth_waiting(delays)):
            raise error
        if supply is not None:
            self._supplies.failed(supply, error)
        delay = _DELAY_LATER_S if later else delays[self._failures]
        self._failures += 1
        if later:
            # Sooner it would not even be asked.
            delay = max(delay, min(self._supplies.retry_in_s(), _DELAY_MAX_S))
        await asyncio.sleep(delay)

    def _worth_waiting(self, delays: tuple[float, ...]) -> bool:
        """Whether to go on trying although nothing has come for a while."""
        late = time.monotonic() - self._moved_at >= _PATIENCE_S
        never = math.isinf(self._supplies.retry_in_s())
        return delays is _DELAYS_WITHIN_S and not (late or never) and self._wanted()

    async def _disconnect(self) -> None:
        self._body, self.asking = None, False
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()
