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

from proxy.cache import passthrough
from proxy.cache.budget import answer_within
from proxy.cache.content import Bytes, Content, File, Outcome
from proxy.cache.exposure import ExposureGuard
from proxy.cache.facts import Facts
from proxy.cache.fill import SMALL_BYTES_MAX
from proxy.cache.flights import Flights, Source
from proxy.cache.local import LocalBlobs
from proxy.cache.lru import Lru
from proxy.cache.records import Link
from proxy.cache.single import SingleFlight
from proxy.cache.spool import Spool
from proxy.errors import (
    BadUpstreamAnswer,
    DigestMismatch,
    Overloaded,
    StorageUnavailable,
    UnknownBlob,
    UpstreamUnavailable,
)
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.ports import PUBLIC, BlobKey, BlobStat, Coordination, Observe, Upstream

# A range that starts further ahead of what a flight has than this does not wait.
AHEAD_BYTES_MAX = 8 * 1024 * 1024
_TRIES = 3
_ABSENT = b"absent"


def group_of(upstream: Upstream) -> str:
    """Where an upstream's blobs are shared: everybody's, or its own."""
    return upstream.name if upstream.credentialed else PUBLIC


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
        self._coordination = coordination
        self._observe = observe
        self._header_budget_s = header_budget_s
        self._memory_object_bytes_max = memory_object_bytes_max
        self._negative_s = negative_s
        self._vouching = SingleFlight()

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
            async with answer_within(self._header_budget_s, upstream):
                content = await self._open_held(key, source)
                if content is None:
                    content = await self._bring(key, source, start)
            if content is not None:
                return content
        raise BadUpstreamAnswer(f"{upstream.name} keeps sending other bytes than {digest}")

    async def stat(self, upstream: Upstream, repository: Repository, digest: Digest) -> int:
        """Size in bytes, without fetching the blob. Raises like `open`."""
        await self._exposure.check(upstream, repository, "blobs", str(digest))
        key = BlobKey(group_of(upstream), digest)
        source = Source(upstream, repository)
        size = await self._held_size(key)
        if size is not None:
            await self._vouch(source, digest)
            return size
        found = await self._ask(source, digest)
        size = found.size or self._size_hints.get(digest)
        if size is None:
            raise UpstreamUnavailable(f"{upstream.name} does not say how long {digest} is")
        return size

    async def held(self, upstream: Upstream, repository: Repository, digest: Digest) -> bool:
        """Whether it can be served with the upstream gone."""
        key = BlobKey(group_of(upstream), digest)
        if key not in self._memory and await self._local.stat(key) is None:
            return False
        linked = await self._facts.link(upstream, repository, digest)
        return linked is not None or key.group == PUBLIC

    async def aclose(self) -> None:
        """Stop asking."""
        await self._vouching.aclose()

    # --- the steps -------------------------------------------------------------------

    async def _bring(self, key: BlobKey, source: Source, start: int) -> Content | None:
        """None: look again, because the flight ended meanwhile or brought wrong bytes."""
        flight = self._flights.get(key)
        if flight is not None and source not in flight.sources:
            # Another repository's request started it: may ours serve it?
            await self._vouch(source, key.digest)
        elif flight is None:
            await self._raise_if_known_absent(source, key.digest)
            if self._flights.full:
                return await self._pass(source, key.digest)
        try:
            return await self._follow(key, source, start)
        except DigestMismatch:
            return None
        except StorageUnavailable:
            return await self._pass(source, key.digest)
        except UnknownBlob:
            await self._remember_absent(source, key.digest)
            raise

    async def _open_held(self, key: BlobKey, source: Source) -> Content | None:
        data = self._memory.get(key)
        if data is not None:
            await self._vouch(source, key.digest)
            self._local.touch(key)
            return Bytes(data, "hit")
        file = self._local.peek(key)
        if file is None:
            file = await self._local.open_file(key)
        if file is None:
            return None
        try:
            await self._vouch(source, key.digest)
            if file.size <= min(SMALL_BYTES_MAX, self._memory_object_bytes_max):
                data = await self._local.read(key, file.size)
        except BaseException:
            file.release()
            raise
        if data is None:
            return File(file, "hit")
        file.release()
        self._memory.put(key, data)
        return Bytes(data, "hit")

    async def _follow(self, key: BlobKey, source: Source, start: int) -> Content | None:
        """None: it ended between our being woken and now; look again."""
        flight, started = self._flights.join(key, source)
        outcome: Outcome = "miss" if started else "join"
        content = await flight.wait_content(source)
        if self._facts.link_known(source.upstream, source.repository, key.digest) is None:
            # It came from an earlier fill's leftovers, not from our own GET.
            await self._vouch(source, key.digest)
        match content:
            case bytes(data):
                return Bytes(data, outcome)
            case Spool() as spool:
                ahead = (start if start >= 0 else max(0, spool.size + start)) - spool.written
                if ahead > AHEAD_BYTES_MAX and not spool.verified:
                    return passthrough.stream(key.digest, source, spool.size, self._observe)
                if spool.file is None:
                    return None
                flight.follow()
                return File(spool.file.hold(), outcome, spool=spool, left=flight.leave)

    async def _pass(self, source: Source, digest: Digest) -> Content:
        size = self._size_hints.get(digest) or (await self._ask(source, digest)).size
        if size is None:
            raise Overloaded("there is no room to keep the blob and its size is unknown")
        return passthrough.stream(digest, source, size, self._observe)

    async def _held_size(self, key: BlobKey) -> int | None:
        data = self._memory.get(key)
        if data is not None:
            return len(data)
        flight = self._flights.get(key)
        if flight is not None and flight.size is not None:
            return flight.size
        return await self._local.stat(key)

    # --- may this repository serve it? ---------------------------------------------------

    async def _vouch(self, source: Source, digest: Digest) -> None:
        upstream, repository = source.upstream, source.repository
        if self._facts.link_known(upstream, repository, digest) is not None:
            return
        if await self._facts.link(upstream, repository, digest) is not None:
            return
        try:
            await self._ask(source, digest)
        except UpstreamUnavailable:
            # Anybody may have these bytes anyway; only the group's own are guarded.
            if group_of(upstream) != PUBLIC:
                raise

    async def _ask(self, source: Source, digest: Digest) -> BlobStat:
        """One HEAD for all who ask. Raises `UnknownBlob`."""
        await self._raise_if_known_absent(source, digest)
        return await self._vouching.join((source, digest), lambda: self._head(source, digest))

    async def _head(self, source: Source, digest: Digest) -> BlobStat:
        upstream, repository = source.upstream, source.repository
        found = await upstream.stat_blob(repository, digest)
        if found is None:
            await self._remember_absent(source, digest)
            raise UnknownBlob(f"{upstream.name} has no blob {digest} in {repository}")
        link = Link(url=upstream.url, media_type="", size=found.size)
        await self._facts.put_link(upstream, repository, digest, link)
        return found

    async def _raise_if_known_absent(self, source: Source, digest: Digest) -> None:
        if await self._coordination.get(_absence_key(source, digest)) is not None:
            raise UnknownBlob(f"{source.upstream.name} has no blob {digest} in {source.repository}")

    async def _remember_absent(self, source: Source, digest: Digest) -> None:
        key = _absence_key(source, digest)
        await self._coordination.put(key, _ABSENT, ttl_s=self._negative_s)


def _absence_key(source: Source, digest: Digest) -> str:
    return f"absent/{source.upstream.name}/{source.repository}/blobs/{digest}"
