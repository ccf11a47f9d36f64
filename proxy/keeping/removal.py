"""Removing images: the tag, and what nothing that stays needs.

First all that could go is found, then every other tag is looked at and takes back what
it needs. What is left goes in such an order that a kill at any moment leaves something
to repeat: blobs before the manifests that name them, a child before its index, the tag
last of all. What was pinned meanwhile stays, and what a running import needs.

What is pulled by digest alone has no record that names it; a layer that it shares with
a removed image goes with it (unless it was used since), and is fetched again when asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from proxy.backing import Backing
from proxy.cache.assembly import Cache
from proxy.keeping.images import Image, Named, Part
from proxy.keeping.notices import Notices, Removed
from proxy.keeping.recorded import Recorded
from proxy.keeping.shelf import Shelf
from proxy.oci.digest import Digest
from proxy.oci.listings import subject_of
from proxy.ports import BlobKey

# So much memory one batch may take, in digests.
_BATCH_DIGESTS = 100_000
# So many share a notice for other replicas.
_AT_ONCE = 100
_ORDER = {"layer": 0, "config": 0, "manifest": 1, "index": 2}


@dataclass(frozen=True, slots=True)
class Target:
    """What is to go, and why; what of it was used after `unused_since` stays (in seconds
    since the epoch; None: nothing does).
    """

    named: Named
    why: str
    unused_since: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """One image that went (or would): bytes freed here, all bytes of it here, and how many
    blobs went, here or elsewhere.
    """

    target: Target
    freed_bytes: int
    of_bytes: int
    blobs: int


@dataclass(slots=True)
class _Batch:
    """`needed`: whether something that stays needs a digest, by key. `linked`: what other
    tags of the same repository need.
    """

    targets: list[Target] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    needed: dict[BlobKey, bool] = field(default_factory=dict)
    linked: set[tuple[str, str, Digest]] = field(default_factory=set)
    repositories: set[tuple[str, str]] = field(default_factory=set)


class Removal:
    """Removes. Methods raise `StorageUnavailable`; then it can be repeated."""

    def __init__(
        self,
        cache: Cache,
        backing: Backing,
        *,
        shelf: Shelf,
        recorded: Recorded,
        notices: Notices | None,
    ) -> None:
        self._cache = cache
        self._disk = backing.local.blobs
        self._durable = backing.fleet.durable
        self._shelf = shelf
        self._recorded = recorded
        self._notices = notices
        # One at a time: two would each believe that the other's images stay.
        self._lock = asyncio.Lock()

    def alone(self) -> asyncio.Lock:
        """`async with` it nothing is removed here; not to be entered within `remove`."""
        return self._lock

    async def remove(
        self,
        targets: AsyncIterator[Target],
        *,
        dry_run: bool = False,
    ) -> AsyncIterator[Gone]:
        """Each as it goes."""
        async with self._lock:
            batch = _Batch()
            async for target in targets:
                await self._add(batch, target)
                if len(batch.needed) >= _BATCH_DIGESTS:
                    async for gone in self._all_of(batch, dry_run=dry_run):
                        yield gone
                    batch = _Batch()
            async for gone in self._all_of(batch, dry_run=dry_run):
                yield gone

    async def _add(self, batch: _Batch, target: Target) -> None:
        named = target.named
        batch.targets.append(target)
        batch.names.add(named.name)
        batch.repositories.add((named.upstream.name, named.repository))
        for root in named.roots:
            image = await self._shelf.whole(named, root)
            for part in image.parts:
                batch.needed.setdefault(part.key, False)
            if subject_of(named.tag) is not None:
                continue
            for about in await self._recorded.about(named.upstream, named.repository, root.digest):
                batch.targets.append(replace(target, named=about))
                batch.names.add(about.name)
                for key in await self._shelf.closure(about.upstream, about.current):
                    batch.needed.setdefault(key, False)

    async def _all_of(self, batch: _Batch, *, dry_run: bool) -> AsyncIterator[Gone]:
        if not batch.targets:
            return
        await self._mark(batch)
        for start in range(0, len(batch.targets), _AT_ONCE):
            done: list[Gone] = []
            removed: list[tuple[Named, Removed]] = []
            for target in batch.targets[start : start + _AT_ONCE]:
                gone, parts, going = await self._find(batch, target)
                if subject_of(target.named.tag) is None:
                    done.append(gone)
                if not dry_run:
                    what = await self._delete(batch, target.named, parts, going)
                    removed.append((target.named, what))
            await self._finish(removed)
            for gone in done:
                yield gone

    async def _mark(self, batch: _Batch) -> None:
        """Every other tag takes back what it needs."""
        async for named in self._recorded.all(latest=True):
            if named.name in batch.names:
                continue
            where = (named.upstream.name, named.repository)
            for root in named.roots:
                for key in await self._shelf.closure(named.upstream, root):
                    if key in batch.needed:
                        batch.needed[key] = True
                        if where in batch.repositories:
                            batch.linked.add((*where, key.digest))

    async def _find(
        self, batch: _Batch, target: Target
    ) -> tuple[Gone, Sequence[Part], Sequence[Part]]:
        """What it comes to; all of its parts, and those that go, in their order."""
        named, unused_since = target.named, target.unused_since
        parts: dict[BlobKey, Part] = {}
        for root in named.roots:
            image: Image = await self._shelf.whole(named, root)
            parts |= {part.key: part for part in image.parts}
        # A child is after its index in a walk, and goes before it.
        backwards = list(parts.values())[::-1]
        ordered = sorted(backwards, key=lambda part: _ORDER[part.kind])
        going = [
            part
            for part in ordered
            if not batch.needed.get(part.key, True)
            and not self._cache.pins.pinned(part.key)
            and (unused_since is None or part.used_at <= unused_since)
        ]
        # Counted once, with the first image that it goes with.
        for part in going:
            batch.needed[part.key] = True
        gone = Gone(
            target,
            sum(part.size for part in going if part.here),
            sum(part.size for part in ordered if part.here),
            len(going),
        )
        return gone, ordered, going

    async def _delete(
        self, batch: _Batch, named: Named, parts: Sequence[Part], going: Sequence[Part]
    ) -> Removed:
        """All but the tag."""
        upstream, repository = named.upstream, named.repository
        where = (upstream.name, repository)
        for part in going:
            self._step()
            if self._durable is not None:
                await self._durable.delete(part.key)
            await self._disk.delete(part.key)
            self._cache.memory.pop(part.key)
            self._shelf.forget_stored(part.key)
        unlinked = [
            part.key.digest
            for part in parts
            if (*where, part.key.digest) not in batch.linked
            and not self._cache.pins.pinned(part.key)
        ]
        for digest in unlinked:
            self._step()
            await self._cache.forgetting.digest(upstream, repository, digest)
        return Removed(
            upstream.name,
            repository,
            (named.tag,),
            tuple(unlinked),
            tuple(part.key.digest for part in going),
        )

    async def _finish(self, removed: Sequence[tuple[Named, Removed]]) -> None:
        """The tags, and word of all to other replicas: before, in case that we end here;
        after, in case that one looked in between.
        """
        if not removed:
            return
        notice = [one for _, one in removed]
        await self._tell(notice)
        for named, _ in removed:
            self._step()
            await self._cache.forgetting.tag(named.upstream, named.repository, named.tag)
        self._step()
        await self._tell(notice)

    def _step(self) -> None:
        """Between two things that are done: where a kill is tested."""

    async def _tell(self, removed: Sequence[Removed]) -> None:
        if self._notices is not None:
            await self._notices.write(removed)
