"""A blob that is not here: which flight brings it, how much of it, and what a request
gets of that.

Only a range is wanted: then no more than that is brought, unless the blob is small or
much of it is asked for. What can't be kept, for lack of room or because too many
flights are under way, is passed through.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from proxy.cache.content import Bytes, Content, File, Outcome
from proxy.cache.demand import WINDOW_BYTES_MIN
from proxy.cache.fetching import SMALL_BYTES_MAX
from proxy.cache.flights import Flights, Source
from proxy.cache.following import Following
from proxy.cache.journal import EXTENT_BYTES
from proxy.cache.lru import Lru
from proxy.cache.passthrough import Passthrough
from proxy.cache.spool import Spool
from proxy.cache.vouching import Vouching
from proxy.errors import (
    DigestMismatch,
    Overloaded,
    StorageUnavailable,
    UnknownBlob,
    UpstreamUnavailable,
)
from proxy.oci.digest import Digest
from proxy.ports import BlobKey

# Of a smaller blob all is fetched, even if only a range is wanted.
COMPLETE_BYTES_MAX = EXTENT_BYTES
# For readers who ask for themselves, or have yet to hear that there is no such range.
_SOME_RANGE = (0, 1)

SpanWanted = tuple[int, int | None]
"""First byte (negative: counted from the end) and exclusive end (None: the blob's)."""


class Bringing:
    """Starts flights, joins them, or goes past them."""

    def __init__(
        self,
        *,
        flights: Flights,
        vouching: Vouching,
        passthrough: Passthrough,
        size_hints: Lru[Digest, int],
        held_size: Callable[[BlobKey], Awaitable[int | None]],
    ) -> None:
        self._flights = flights
        self._vouching = vouching
        self._passthrough = passthrough
        self._size_hints = size_hints
        self._held_size = held_size

    async def bring(
        self, key: BlobKey, source: Source, span: SpanWanted | None, ends: int
    ) -> Content | None:
        """None: look again, because a flight ended meanwhile or brought wrong bytes.

        `ends`: how many had ended before the look at the disk. Raises `UnknownBlob`,
        `AccessDenied`, `UpstreamUnavailable`, `Overloaded`.
        """
        flight = self._flights.get(key)
        foreign = flight is not None and source not in flight.sources
        if foreign:
            # Another repository's request started it: may ours serve it?
            await self._vouching.vouch(source, key.digest)
        elif flight is None:
            await self._vouching.raise_if_known_absent(source, key.digest)
        window = None if span is None else await self._window(key, source, span)
        # Nothing is awaited from here until a flight is joined.
        if self._flights.get(key) is None:
            if self._flights.ends(key) != ends:
                return None
            self._flights.make_way()
            if self._flights.full:
                return await self._pass(key, source)
        try:
            return await self._follow(key, source, window, vouched=foreign)
        except DigestMismatch:
            return None
        except StorageUnavailable:
            return await self._pass(key, source)
        except UnknownBlob:
            await self._vouching.remember_absent(source, key.digest)
            raise

    async def _window(
        self, key: BlobKey, source: Source, span: SpanWanted
    ) -> tuple[int, int] | None:
        """The bytes to fetch for a range of a blob that is not here; None: all of it."""
        if self._flights.get(key) is not None:
            return _SOME_RANGE
        size = await self._size(key, source)
        if size is None or size <= COMPLETE_BYTES_MAX:
            return None
        start, end = span
        if start < 0:
            start, end = max(0, size + start), size
        if start >= size:
            return _SOME_RANGE
        if start == 0 and end is not None and end >= size:
            return None
        # `bytes=0-` may be left after the first chunk, as any open range.
        end = size if end is None else min(end, size)
        # Of an open or long range the first stretch; more comes as it is read.
        return start, min(end, start + WINDOW_BYTES_MIN)

    async def _size(self, key: BlobKey, source: Source) -> int | None:
        size = self._size_hints.get(key.digest)
        if size is None:
            with contextlib.suppress(StorageUnavailable):
                size = await self._held_size(key)
        if size is None:
            with contextlib.suppress(UpstreamUnavailable):
                size = (await self._vouching.ask(source, key.digest)).size
        if size is not None:
            self._size_hints.put(key.digest, size)
        return size

    async def _follow(
        self, key: BlobKey, source: Source, window: tuple[int, int] | None, *, vouched: bool
    ) -> Content | None:
        """None: it ended between our being woken and now; look again."""
        flight, started = self._flights.join(key, source, window=window)
        outcome: Outcome = "miss" if started else "join"
        with flight.arrival():
            content = await flight.wait_content(source)
            if content is not None and not vouched:
                # Known by our own GET, unless it came from an earlier fill's leftovers.
                await self._vouching.vouch(source, key.digest)
            match content:
                case None:
                    return None
                case bytes(data):
                    return Bytes(data, outcome)
                case Spool() as spool:
                    if spool.file is None or flight.parting:
                        await flight.wait_end()
                        return None
                    following = Following(flight, spool.size)
                    return File(spool.file.hold(), outcome, spool=spool, following=following)

    async def _pass(self, key: BlobKey, source: Source) -> Content:
        # Always asked: the head of our answer goes out before the upstream is opened.
        found = await self._vouching.ask(source, key.digest)
        size = self._size_hints.get(key.digest) if found.size is None else found.size
        if size is None:
            raise Overloaded("there is no room to keep the blob and its size is unknown")
        if size <= SMALL_BYTES_MAX:
            return await self._passthrough.small(key, source, size)
        return self._passthrough.stream(key, source, size)
