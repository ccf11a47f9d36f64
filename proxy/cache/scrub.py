"""Reading stored blobs again and comparing them with their digests.

Disks and object stores do go wrong. What does not match is removed: from the
local tier, so that it comes from the store or the upstream again; from the store,
where a good copy in the local tier is put in its place. Reads are paced, since
nobody waits for a scrub.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from proxy.cache.fleet import Fleet
from proxy.cache.local import LocalBlobs
from proxy.errors import StorageUnavailable, TransferBroken
from proxy.events import ScrubFound
from proxy.ports import BlobKey, Blobs, Coordination, Held, Observe

BYTES_A_SECOND = 200 * 1024 * 1024


@dataclass(slots=True)
class Scrubbed:
    """What a scrub did."""

    blobs: int = 0
    bytes: int = 0
    bad: int = 0
    unread: int = 0
    elsewhere: bool = False
    """The durable store was left out: another replica is at it."""

    def document(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class Scrub:
    """Runs over the local tier, then over the durable store. Never raises for one blob."""

    def __init__(
        self,
        local: LocalBlobs,
        fleet: Fleet,
        *,
        groups: Sequence[str],
        coordination: Coordination,
        observe: Observe,
        bytes_a_second: float = BYTES_A_SECOND,
    ) -> None:
        self._local = local
        self._fleet = fleet
        self._groups = groups
        self._coordination = coordination
        self._observe = observe
        self._bytes_a_second = bytes_a_second
        self.running: Scrubbed | None = None

    async def run(self) -> Scrubbed:
        """Read everything once; one at a time in this process."""
        if self.running is not None:
            return self.running
        self.running = result = Scrubbed()
        try:
            for group in self._groups:
                async for key in self._local.list(group):
                    if not await self._good(self._local, key, result):
                        await self._local.delete(key)
            if self._fleet.durable is not None:
                await self._durable(self._fleet.durable, result)
        finally:
            self.running = None
        return result

    async def _durable(self, durable: Blobs, result: Scrubbed) -> None:
        async with self._coordination.try_hold("scrub") as claim:
            if isinstance(claim, Held):
                result.elsewhere = True
                return
            for group in self._groups:
                async for key in durable.list(group):
                    claim.progress()
                    if await self._good(durable, key, result):
                        continue
                    await durable.delete(key)
                    if self._fleet.uploader is not None and await self._local.stat(key) is not None:
                        # Ours was read and found good a moment ago.
                        _ = await self._fleet.uploader.add(key)

    async def _good(self, blobs: Blobs, key: BlobKey, result: Scrubbed) -> bool:
        """False only for bytes that were read and are wrong."""
        loop = asyncio.get_running_loop()
        hasher, read = key.digest.hasher(), 0
        began = loop.time()
        try:
            async with blobs.open(key) as body:
                if body is None:
                    return True  # Evicted since it was listed.
                async for chunk in body.chunks:
                    await asyncio.to_thread(hasher.update, chunk)
                    read += len(chunk)
                    behind_s = read / self._bytes_a_second - (loop.time() - began)
                    await asyncio.sleep(max(0.0, behind_s))
        except (StorageUnavailable, TransferBroken):
            result.unread += 1
            return True
        result.blobs += 1
        result.bytes += read
        good = hasher.hexdigest() == key.digest.hex
        if not good:
            result.bad += 1
            where: Literal["local", "storage"] = "local" if blobs is self._local else "storage"
            self._observe(ScrubFound(where=where, digest=str(key.digest)))
        return good
