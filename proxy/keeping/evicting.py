"""`evict`: what retention lets go, and what does not fit, told image by image.

Where room is needed on this machine's disk eviction finds what goes by sampling; a dry
run looks at every file and so tells which images are the most idle, to about 1 %.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from proxy.backing import Backing
from proxy.cache.eviction import idle_s
from proxy.cache.expiry import Expiry, IdleBytes, Plan, Round
from proxy.cache.pins import Pins
from proxy.errors import StorageUnavailable
from proxy.keeping.pulls import Pulls
from proxy.keeping.recorded import Recorded
from proxy.keeping.removal import Removal, Target
from proxy.keeping.retaining import Retaining
from proxy.keeping.retention import Pulled
from proxy.keeping.shelf import Shelf
from proxy.ports import BlobKey, Clock, StoredBlob

# Of so many blobs that go it is remembered which they are, to tell of which images.
_TOLD_MAX = 200_000
# The last pull of an image and that of its layers are noted within this.
_ONE_PULL_S = 120.0
# As long may a warm-up take that reads all of an image, and a confirmation be unwritten.
_ONE_WARM_UP_S = 7200.0


class Evicting:
    """Does it, or tells what it would do. Raises `StorageUnavailable`."""

    def __init__(
        self,
        backing: Backing,
        *,
        groups: Sequence[str],
        expiry: Expiry | None,
        removal: Removal,
        retaining: Retaining,
        pins: Pins,
        pulls: Pulls,
        shelf: Shelf,
        recorded: Recorded,
        clock: Clock,
    ) -> None:
        self._disk = backing.local.blobs
        self._groups = groups
        self._expiry = expiry
        self._removal = removal
        self._retaining = retaining
        self._pins = pins
        self._pulls = pulls
        self._shelf = shelf
        self._recorded = recorded
        self._clock = clock
        # Awaited before anything goes, so that what must stay is known.
        self.before: Callable[[], Awaitable[None]] = _nothing

    async def lines(self, *, dry_run: bool, free_bytes: int) -> AsyncIterator[dict[str, object]]:
        """One document for each image that loses something, then the sums.

        free_bytes: to come free on this machine's disk beside what its budget demands.
        """
        sums = {"images": 0, "freed_bytes": 0}
        async for line in self.retain(dry_run=dry_run):
            sums["images"] += 1
            sums["freed_bytes"] += int(str(line["bytes"]))
            yield line
        going: dict[BlobKey, int] = {}
        stored: Round | None = None
        if self._expiry is not None:
            stored = await self._expiry.round(
                dry_run=dry_run, dropped=lambda blob: _note(going, blob)
            )
            async for line in self._images(going, "s3"):
                yield line
        going = {}
        local = await self._local(going, dry_run=dry_run, free_bytes=free_bytes)
        async for line in self._images(going, "disk"):
            yield line
        yield {
            "done": True,
            "dry_run": dry_run,
            "retention": sums,
            "s3": None if stored is None else stored.document(),
            "disk": local,
        }

    async def retain(self, *, dry_run: bool) -> AsyncIterator[dict[str, object]]:
        """What retention lets go, wherever it is."""
        await self.before()

        async def targets() -> AsyncIterator[Target]:
            async for one in self._retaining.outdated():
                yield Target(one.pulled.named, one.why, _unused_since(one.pulled))

        async for gone in self._removal.remove(targets(), dry_run=dry_run):
            if not dry_run:
                await self._pulls.forget(gone.target.named)
            yield {
                "image": gone.target.named.name,
                "where": "everywhere",
                "bytes": gone.freed_bytes,
                "blobs": gone.blobs,
                "why": gone.target.why,
            }

    async def _local(
        self, going: dict[BlobKey, int], *, dry_run: bool, free_bytes: int
    ) -> dict[str, object]:
        room = self._disk.room
        try:
            need = max(room.lacking(0), free_bytes)
        except OSError as error:
            raise StorageUnavailable(f"looking for room: {error.strerror}") from error
        freed = 0
        if need > 0 and dry_run:
            freed = await self._plan(going, need)
        elif need > 0:
            before = room.used
            await self._disk.make_room(need)
            freed = before - room.used
        return {"needed_bytes": max(0, need), "dropped_bytes": freed, "kept_bytes": room.used}

    async def _plan(self, going: dict[BlobKey, int], need: int) -> int:
        now, idle = self._clock(), IdleBytes()
        async for blob, used_at in self._may_go():
            idle.add(_idle(blob, used_at, now), blob.size)
        plan = idle.freeing(need, Plan(None))
        freed = 0
        async for blob, used_at in self._may_go():
            if plan.takes(now - used_at, _idle(blob, used_at, now), blob.size, young=False):
                _note(going, blob)
                freed += blob.size
        return freed

    async def _may_go(self) -> AsyncIterator[tuple[StoredBlob, float]]:
        for group in self._groups:
            async for blob, used_at in self._disk.uses(group):
                if not self._pins.pinned(blob.key) and not self._disk.pinned(blob.key):
                    yield blob, used_at

    async def _images(
        self, going: dict[BlobKey, int], where: str
    ) -> AsyncIterator[dict[str, object]]:
        """Those that lose something of what goes."""
        if not going:
            return
        async for named in self._recorded.all():
            losing = [
                going[key]
                for key in await self._shelf.closure(named.upstream, named.current)
                if key in going
            ]
            if losing:
                yield {
                    "image": named.name,
                    "where": where,
                    "bytes": sum(losing),
                    "blobs": len(losing),
                    "why": "budget: used longest ago for how much it was used",
                }


async def _nothing() -> None:
    pass


def _unused_since(pulled: Pulled) -> float:
    """Files that were used after this were used by somebody else, and not by a warm-up."""
    return max(pulled.at + _ONE_PULL_S, pulled.named.seen_at + _ONE_WARM_UP_S)


def _note(going: dict[BlobKey, int], blob: StoredBlob) -> None:
    if len(going) < _TOLD_MAX:
        going[blob.key] = blob.size


def _idle(blob: StoredBlob, used_at: float, now: float) -> float:
    return idle_s(stored_at=blob.stored_at, used_at=used_at, now=now)
