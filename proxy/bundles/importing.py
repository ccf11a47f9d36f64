"""Bringing a bundle in, on the side of the proxy: what is lacking, taking it, and then
all at once.

Between `begin` and `commit` nothing is visible: blobs are kept as they come, held so that
they are neither evicted nor removed, and no repository may serve them. `commit` first sees that
every image is whole, pins, looks once more, since another replica may have removed
something until it heard of the pins, then writes what repositories may serve, and moves
tags last. Nothing is removed here meanwhile.

Killed anywhere, here or on the other side, the same bundle brought again ends the same;
what was kept by then is not sent twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext

from proxy.bundles.contents import Contents, Place
from proxy.bundles.contents_reading import decode
from proxy.bundles.importing_closure import walked
from proxy.bundles.importing_state import Begun, Done, Import, UnknownImport
from proxy.bundles.importing_store import ImportStore
from proxy.bundles.importing_tags import TagMoves
from proxy.bundles.importing_trust import Trust
from proxy.bundles.importing_whole import check_base, check_whole
from proxy.bundles.receipts import Receipt
from proxy.bundles.staging import Staging
from proxy.cache.vouching import group_of
from proxy.errors import BadBundle
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Clock, Upstream

# Nothing came for so long: whoever began will have to begin again.
_IDLE_S = 900.0


class Importing:
    """All imports of a proxy. `aclose` lets go of what they hold."""

    def __init__(
        self,
        *,
        trust: Trust,
        upstreams: Mapping[str, Upstream],
        store: ImportStore,
        staging: Staging,
        tags: TagMoves,
        clock: Clock,
        idle_s: float = _IDLE_S,
        alone: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
    ) -> None:
        """`idle_s`: how long an import is remembered of which nothing is heard. `alone`:
        within it nobody removes images here.
        """
        self._trust = trust
        self._upstreams = upstreams
        self._store = store
        self._staging = staging
        self._tags = tags
        self._clock = clock
        self._idle_s = idle_s
        self._alone = alone
        self._running: dict[str, Import] = {}
        self._committing = asyncio.Lock()

    async def begin(
        self,
        body: bytes,
        signature: bytes | None,
        *,
        keys: Sequence[str] = (),
        unsigned: bool = False,
        force: bool = False,
    ) -> Begun:
        """Check a bundle's contents, find out what is lacking, and set room aside for it.

        Raises `BadBundle`, `NoSpace`, `StorageUnavailable`.
        """
        self._trust.check(body, signature, keys=keys, unsigned=unsigned)
        contents = await asyncio.to_thread(decode, body)
        upstreams = self._places(contents)
        if not force:
            await self._tags.refuse_older(contents, upstreams)
        wanted = {
            BlobKey(group, one.descriptor.digest): one.descriptor.size
            for one in contents.blobs
            for group in {group_of(upstreams[place]) for place in one.places}
        }
        base = {
            BlobKey(group, one.digest): one.size
            for one in contents.left_out
            for group in {group_of(upstreams[place]) for place in one.places}
        }
        running = Import(contents, upstreams, wanted, base)
        # From now on: what is here must still be here at the end.
        self._staging.hold(running.needed)
        try:
            await check_base(self._store, running)
            running.lacking = await self._store.lacking(wanted)
            need = sum(running.lacking.values())
            await self._store.reserve(need)
            running.reserved = need
        except BaseException:
            self._end(running)
            raise
        token = secrets.token_hex(16)
        self._running[token] = running
        self._wait(token, running)
        return Begun(token=token, lacking=list(running.lacking.items()))

    async def receive(
        self, token: str, group: str, digest: Digest, size: int | None, chunks: AsyncIterator[bytes]
    ) -> None:
        """One blob. Raises `BadBundle`, `UnknownImport`, `StorageUnavailable`."""
        with self._at_work(token) as running:
            key = BlobKey(group, digest)
            expected = running.wanted.get(key)
            if expected is None:
                raise BadBundle(f"the bundle's contents have no {digest}")
            if size != expected:
                raise BadBundle(f"the bundle's contents say that {digest} takes {expected} bytes")
            await self._staging.receive(key, expected, chunks)
            if running.lacking.pop(key, None) is not None:
                self._store.unreserve(expected)
                running.reserved -= expected

    async def commit(self, token: str, *, pin: bool = True, force: bool = False) -> Done:
        """Make it visible. Raises `BadBundle`, `UnknownImport`, `StorageUnavailable`;
        then no tag has moved, unless records could not be written half-way.
        """
        with self._at_work(token) as running:
            async with self._committing, self._alone():
                done = await self._commit(running, pin=pin, force=force)
            self.forget(token)
        return done

    async def _commit(self, running: Import, *, pin: bool, force: bool) -> Done:
        contents, upstreams = running.contents, running.upstreams
        await check_whole(self._store, running)

        async def body(place: Place, digest: Digest) -> bytes:
            return await self._store.manifest(group_of(upstreams[place]), digest)

        brought = await walked(contents, body)
        if not force:
            await self._tags.refuse_older(contents, upstreams)
        kept = self._store.pinned(contents, brought, upstreams) if pin else nullcontext()
        async with kept:
            await check_whole(self._store, running)
            await self._store.write(brought, upstreams)
        moved = await self._tags.move(contents, upstreams)
        receipt = await self._receipt(running)
        warnings = await self._store.hidden(upstreams)
        return Done(receipt=receipt, moved=moved, warnings=warnings)

    def forget(self, token: str) -> None:
        """The other side gives up, or is done."""
        running = self._running.pop(token, None)
        if running is not None and not running.busy:
            self._end(running)

    def aclose(self) -> None:
        """All of them."""
        for token in list(self._running):
            self.forget(token)

    @contextmanager
    def _at_work(self, token: str) -> Iterator[Import]:
        """Nothing is let go of meanwhile."""
        running = self._running.get(token)
        if running is None:
            raise UnknownImport(
                "this import is not known here (any more); of several replicas --admin must "
                "name one, not the load balancer before them"
            )
        running.busy += 1
        if running.timer is not None:
            running.timer.cancel()
        try:
            yield running
        finally:
            running.busy -= 1
            if not running.busy:
                if token in self._running:
                    self._wait(token, running)
                else:
                    self._end(running)

    def _wait(self, token: str, running: Import) -> None:
        loop = asyncio.get_running_loop()
        running.timer = loop.call_later(self._idle_s, self.forget, token)

    def _end(self, running: Import) -> None:
        if running.timer is not None:
            running.timer.cancel()
        self._staging.let_go(running.needed)
        self._store.unreserve(running.reserved)
        running.reserved = 0

    def _places(self, contents: Contents) -> dict[Place, Upstream]:
        found: dict[Place, Upstream] = {}
        for place in _places(contents):
            upstream = self._upstreams.get(place.upstream)
            if upstream is None:
                raise BadBundle(
                    f"the bundle has images of {place.upstream}, which is not configured here: "
                    f"add `{place.upstream}: {{url: https://{place.upstream}}}` to `upstreams`"
                )
            found[place] = upstream
        return found

    async def _receipt(self, running: Import) -> Receipt:
        contents = running.contents
        have = await self._store.have(running.needed)
        return Receipt(
            receipt=secrets.token_hex(16),
            bundle=contents.bundle,
            created=int(self._clock()),
            images={one.name: one.descriptor.digest for one in contents.images},
            have=frozenset(have),
        )


def _places(contents: Contents) -> set[Place]:
    """All repositories that something is for."""
    found = {one.place for one in contents.images} | {one.place for one in contents.referrers}
    for blob in contents.blobs:
        found.update(blob.places)
    for gone in contents.left_out:
        found.update(gone.places)
    return found
