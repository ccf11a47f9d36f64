"""When somebody last pulled an image, by its tag or by its digest.

Neither files nor records of tags tell that: a warm-up reads and confirms them as well.
So each pull by a client is remembered here, and written as a record of its own at most
once an hour for each name; in a fleet the coordination tells it, too. What can't be
written is known until a restart, which no pull may suffer from.
"""

from __future__ import annotations

import contextlib
import json

from proxy.cache import keys
from proxy.cache.lru import Lru
from proxy.cache.records import VERSION
from proxy.cache.vouching import group_of
from proxy.errors import StorageUnavailable
from proxy.keeping.images import Named
from proxy.oci.names import Reference, Repository
from proxy.ports import BlobKey, Clock, Coordination, Records, Upstream

WRITE_EVERY_S = 3600.0
_REMEMBERED_MAX = 50_000


class Pulls:
    """Those by clients, which wait for what they pull."""

    def __init__(self, records: Records, coordination: Coordination, clock: Clock) -> None:
        self._records = records
        self._coordination = coordination
        self._clock = clock
        # By key: when it was last pulled, and when that was last written.
        self._known: Lru[str, tuple[float, float]] = Lru(_REMEMBERED_MAX)

    async def note(self, upstream: Upstream, repository: Repository, reference: Reference) -> None:
        """Somebody pulls it now. Never raises."""
        key, now = keys.pulled(upstream.name, repository, reference), self._clock()
        _, written_at = self._known.get(key) or (now, 0.0)
        self._known.put(key, (now, written_at))
        if not 0 <= now - written_at < WRITE_EVERY_S:
            with contextlib.suppress(StorageUnavailable):
                value = json.dumps({"v": VERSION, "at": now}, separators=(",", ":"))
                await self._records.put(key, value.encode())
                self._known.put(key, (now, now))

    async def last(self, named: Named) -> float | None:
        """In seconds since the epoch, to about an hour after a restart or of other
        replicas; None: never, as far as is known. Raises `StorageUnavailable`.
        """
        digest = named.current.digest
        found = [
            await self._of(keys.pulled(named.upstream.name, named.repository, reference))
            for reference in (named.tag, digest)
        ]
        found += await self._coordination.last_used([BlobKey(group_of(named.upstream), digest)])
        return max((at for at in found if at is not None), default=None)

    async def forget(self, named: Named) -> None:
        """The image was removed. Raises `StorageUnavailable`."""
        for reference in (named.tag, named.current.digest):
            key = keys.pulled(named.upstream.name, named.repository, reference)
            self._known.pop(key)
            await self._records.delete(key)

    async def _of(self, key: str) -> float | None:
        known = self._known.get(key)
        if known is not None and self._clock() - known[0] < WRITE_EVERY_S:
            return known[0]
        # Another replica may know of a later one.
        record = await self._records.latest(key)
        at = None if record is None else _read(record.value)
        if known is None or at is None:
            return at if known is None else known[0]
        return max(known[0], at)


def _read(value: bytes) -> float | None:
    try:
        at = json.loads(value)["at"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return at if isinstance(at, int | float) else None
