"""A blob for a request: is it here, may this repository serve it, who brings it?

1. Memory, then an open file, then the disk.
2. Held, but never shown to be in this repository: one HEAD there ("vouching").
3. Being fetched by somebody: join. Not at all: start a flight. The flight's own
   successful GET is the proof for its first source, so a cold blob costs no
   extra round trip.
4. No room, too many flights, or a range far ahead of a slow fill: straight
   through from the upstream, kept nowhere.
"""

from __future__ import annotations

import contextlib

from proxy.cache.budget import answer_within
from proxy.cache.content import Bytes, Content, File, Outcome
from proxy.cache.exposure import ExposureGuard
from proxy.cache.facts import Facts
from proxy.cache.fill import SMALL_BYTES_MAX
from proxy.cache.fleet import Fleet
from proxy.cache.flights import Flights, Source
from proxy.cache.local import LocalBlobs, OpenFile
from proxy.cache.lru import Lru
from proxy.cache.passthrough import Passthrough
from proxy.cache.spool import Spool
from proxy.cache.vouching import Vouching, group_of
from proxy.errors import (
    BadUpstreamAnswer,
    DigestMismatch,
    Overloaded,
    StorageUnavailable,
    UnknownBlob,
    UpstreamUnavailable,
)
from proxy.events import StorageFailed
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import PUBLIC, BlobKey, Coordination, Observe, Upstream

# A range that starts further ahead of what a flight has than this does not wait.
AHEAD_BYTES_MAX = 8 * 1024 * 1024
_TRIES = 3


class BlobCache:
    """Answers blob requests."""

    def __init__(
        self,
        *,
        local: LocalBlobs,
        facts: Facts,
        memory: Lru[BlobKey, bytes],
        size_hints: Lru[Digest, int],
        flights: Flights,
        exposure: ExposureGuard,
        fleet: Fleet,
        coordination: Coordination,
        observe: Observe,
        header_budget_s: float,
        memory_object_bytes_max: int,
        negative_s: float,
    ) -> None:
        self._local = local
        self._facts = facts
        self._memory = memory
        self._size_hints = size_hints
        self._flights = flights
        self._exposure = exposure
        self._observe = observe
        self._header_budget_s = header_budget_s
        self._memory_object_bytes_max = memory_object_bytes_max
        self._fleet = fleet
        self._coordination = coordination
        self._passthrough = Passthrough(fleet, coordination, observe)
        self._vouching = Vouching(facts, coordination, negative_s=negative_s)

    async def open(
        self, upstream: Upstream, repository: Repository, digest: Digest, *, start: int = 0
    ) -> Content:
        """The blob, ready to be sent; `start` is the first byte that is wanted,
        negative: counted from the end.

        Raises `UnknownBlob`, `AccessDenied`, `UpstreamUnavailable` (within the
        header budget), `Overloaded`.
        """
        await self._exposure.check(upstream, repository, "blobs", str(digest))
        key, source = BlobKey(group_of(upstream), digest), Source(upstream, repository)
        for _ in range(_TRIES):
            ends = self._flights.ends(key)
            async with answer_within(self._header_budget_s, upstream):
                content = await self._open_held(key, source)
                if content is None:
                    content = await self._bring(key, source, start, ends)
            if content is not None:
                self._coordination.touch(key)
                return content
        raise BadUpstreamAnswer(f"{upstream.name} keeps sending other bytes than {digest}")

    async def stat(self, upstream: Upstream, repository: Repository, digest: Digest) -> int:
        """Size in bytes, without fetching the blob. Raises like `open`."""
        await self._exposure.check(upstream, repository, "blobs", str(digest))
        key = BlobKey(group_of(upstream), digest)
        source = Source(upstream, repository)
        size = await self._held_size(key)
        if size is not None:
            await self._vouching.vouch(source, digest)
            return size
        found = await self._vouching.ask(source, digest)
        size = self._size_hints.get(digest) if found.size is None else found.size
        if size is None:
            raise UpstreamUnavailable(f"{upstream.name} does not say how long {digest} is")
        return size

    async def in_store(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> tuple[BlobKey, int] | None:
        """Where the durable store has it whole, and its size; None if it has not.

        Raises what forbids to show it: `AccessDenied`, `UnknownBlob`.
        """
        if self._fleet.durable is None:
            return None
        await self._exposure.check(upstream, repository, "blobs", str(digest))
        key = BlobKey(group_of(upstream), digest)
        try:
            size = await self._fleet.durable.stat(key)
        except StorageUnavailable:
            return None
        if size is None:
            return None
        await self._vouching.vouch(Source(upstream, repository), digest)
        return key, size

    async def held(self, upstream: Upstream, repository: Repository, digest: Digest) -> bool:
        """Whether it can be served with the upstream gone."""
        key = BlobKey(group_of(upstream), digest)
        if await self._held_size(key) is None:
            return False
        linked = await self._facts.link(upstream, repository, digest)
        return linked is not None or key.group == PUBLIC

    async def aclose(self) -> None:
        """Stop asking."""
        await self._vouching.aclose()

    # --- the steps -------------------------------------------------------------------

    async def _bring(self, key: BlobKey, source: Source, start: int, ends: int) -> Content | None:
        """None: look again, because a flight ended meanwhile or brought wrong bytes.

        `ends`: how many had ended before the look at the disk.
        """
        flight = self._flights.get(key)
        foreign = flight is not None and source not in flight.sources
        if foreign:
            # Another repository's request started it: may ours serve it?
            await self._vouching.vouch(source, key.digest)
        elif flight is None:
            await self._vouching.raise_if_known_absent(source, key.digest)
        # Nothing is awaited from here until a flight is joined.
        if self._flights.get(key) is None:
            if self._flights.ends(key) != ends:
                return None
            if self._flights.full:
                return await self._pass(key, source)
        try:
            return await self._follow(key, source, start, vouched=foreign)
        except DigestMismatch:
            return None
        except StorageUnavailable:
            return await self._pass(key, source)
        except UnknownBlob:
            await self._vouching.remember_absent(source, key.digest)
            raise

    async def _open_held(self, key: BlobKey, source: Source) -> Content | None:
        data = self._memory.get(key)
        if data is not None:
            await self._vouching.vouch(source, key.digest)
            self._local.touch(key)
            return Bytes(data, "hit")
        file = self._local.peek(key) or await self._open_file(key)
        if file is None:
            return None
        try:
            await self._vouching.vouch(source, key.digest)
            if file.size <= self._memory_object_bytes_max:
                data = await self._local.read(key, file.size)
        except BaseException:
            file.release()
            raise
        if data is None:
            return File(file, "hit")
        file.release()
        if not key.digest.matches(data):
            # It would be served from memory many times over, so it is worth a look.
            self._observe(StorageFailed(operation="blob read", reason="wrong bytes on the disk"))
            await self._local.delete(key)
            return None
        self._memory.put(key, data)
        return Bytes(data, "hit")

    async def _open_file(self, key: BlobKey) -> OpenFile | None:
        """A disk that can't be read holds nothing: it can still be had upstream."""
        try:
            return await self._local.open_file(key)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="blob read", reason=str(error)))
            return None

    async def _follow(
        self, key: BlobKey, source: Source, start: int, *, vouched: bool
    ) -> Content | None:
        """None: it ended between our being woken and now; look again."""
        flight, started = self._flights.join(key, source)
        outcome: Outcome = "miss" if started else "join"
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
                ahead = (start if start >= 0 else max(0, spool.size + start)) - spool.written
                if ahead > AHEAD_BYTES_MAX and not spool.verified:
                    return self._passthrough.stream(key, source, spool.size)
                if spool.file is None:
                    await flight.wait_end()
                    return None
                flight.follow()
                return File(spool.file.hold(), outcome, spool=spool, left=flight.leave)

    async def _pass(self, key: BlobKey, source: Source) -> Content:
        # Always asked: the head of our answer goes out before the upstream is opened.
        found = await self._vouching.ask(source, key.digest)
        size = self._size_hints.get(key.digest) if found.size is None else found.size
        if size is None:
            raise Overloaded("there is no room to keep the blob and its size is unknown")
        if size <= SMALL_BYTES_MAX:
            return await self._passthrough.small(key, source, size)
        return self._passthrough.stream(key, source, size)

    async def _held_size(self, key: BlobKey) -> int | None:
        data = self._memory.get(key)
        if data is not None:
            return len(data)
        flight = self._flights.get(key)
        if flight is not None and flight.size is not None:
            return flight.size
        size = await self._local.stat(key)
        if size is None and self._fleet.durable is not None:
            with contextlib.suppress(StorageUnavailable):
                size = await self._fleet.durable.stat(key)
        return size
