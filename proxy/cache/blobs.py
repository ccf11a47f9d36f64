"""A blob for a request: is it here, may this repository serve it, who brings it?

1. Memory, then an open file, then the disk.
2. Held, but never shown to be in this repository: one HEAD there ("vouching").
3. Being fetched by somebody: join. Not at all: start a flight. The flight's own
   successful GET is the proof for its first source, so a cold blob costs no
   extra round trip.
4. No room or too many flights: straight through from the upstream, kept nowhere.

The last two are the part of `bringing.py`.
"""

from __future__ import annotations

import contextlib

from proxy.cache.bringing import Bringing, SpanWanted
from proxy.cache.budget import answer_within
from proxy.cache.content import Bytes, Content, File
from proxy.cache.exposure import ExposureGuard
from proxy.cache.facts import Facts
from proxy.cache.fleet import Fleet
from proxy.cache.flights import Flights, Source
from proxy.cache.local import LocalBlobs, OpenFile
from proxy.cache.lru import Lru
from proxy.cache.passthrough import Passthrough
from proxy.cache.standing import Standing
from proxy.cache.vouching import Vouching, group_of
from proxy.errors import (
    BadUpstreamAnswer,
    StorageUnavailable,
    UpstreamUnavailable,
)
from proxy.events import StorageFailed
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import PUBLIC, BlobKey, Coordination, Observe, Upstream

_TRIES = 3
_COPIED_BYTES_MAX = 128 * 1024
"""Above it, sending from the file costs less than copying out of memory."""


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
        self._memory_object_bytes_max = min(memory_object_bytes_max, _COPIED_BYTES_MAX)
        self._fleet = fleet
        self._coordination = coordination
        self._vouching = Vouching(facts, coordination, negative_s=negative_s)
        self._bringing = Bringing(
            flights=flights,
            vouching=self._vouching,
            passthrough=Passthrough(fleet, coordination, observe),
            size_hints=size_hints,
            held_size=self._held_size,
        )

    async def open(
        self,
        upstream: Upstream,
        repository: Repository,
        digest: Digest,
        *,
        span: SpanWanted | None = None,
    ) -> Content:
        """The blob, ready to be sent; `span`: only this range of it is wanted.

        Raises `UnknownBlob`, `AccessDenied`, `UpstreamUnavailable` (within the
        header budget), `Overloaded`.
        """
        key, source = BlobKey(group_of(upstream), digest), Source(upstream, repository)
        # Over all its tries, and over the question who may read the repository.
        async with answer_within(self._header_budget_s, upstream):
            await self._exposure.check(upstream, repository, "blobs", str(digest))
            for _ in range(_TRIES):
                ends = self._flights.ends(key)
                content = await self._open_held(key, source)
                if content is None:
                    content = await self._bringing.bring(key, source, span, ends)
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

    def standing(
        self, upstream: Upstream, repository: Repository, digest: Digest, *, read: bool
    ) -> tuple[bytes, Standing] | None:
        """The bytes in memory, and for how long `open` (`read`) or `stat` would answer
        from them at once; None if not now.
        """
        key = BlobKey(group_of(upstream), digest)
        data, life = self._memory.peek(key), self._memory.life(key)
        linked = self._facts.link_life(upstream, repository, digest)
        shown = self._exposure.standing(upstream, repository)
        if data is None or life is None or linked is None or shown is None:
            return None

        def touch() -> None:
            self._local.touch(key)
            self._coordination.touch(key)

        return data, Standing((life, linked[1]), touch=touch if read else None).on(shown)

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
