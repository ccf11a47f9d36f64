"""Telling other replicas what was removed, so that they forget it within a minute.

A replica remembers tags and links, in memory and in its copy of the records, and has
blobs on its own disk; what was removed from the durable store would live on there. So
whoever removes leaves a record of it for a few days, and every replica looks for new
ones twice a minute. What a replica learned after the notice was written stays. Applied
once by each: what was applied is noted on its own disk.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.cache import keys
from proxy.cache.facts import Facts
from proxy.cache.lru import Lru
from proxy.cache.records import VERSION, decode_tag
from proxy.cache.vouching import group_of
from proxy.errors import InvalidRequest
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import BlobKey, Clock, Records, Upstream
from proxy.storage.disk import DiskBlobs

_KEPT_S = 3 * 86400.0
_APPLIED = "removed_applied"


@dataclass(frozen=True, slots=True)
class Removed:
    """What went of one repository; `blobs`: those of `digests` whose bytes went, too."""

    upstream: str
    repository: Repository
    tags: tuple[Tag, ...]
    digests: tuple[Digest, ...]
    blobs: tuple[Digest, ...]


class Notices:
    """Those of the durable store. Methods raise `StorageUnavailable`."""

    def __init__(
        self,
        records: Records,
        *,
        local: Records,
        blobs: DiskBlobs,
        memory: Lru[BlobKey, bytes],
        facts: Facts,
        upstreams: Mapping[str, Upstream],
        clock: Clock,
    ) -> None:
        """`local`: this replica's own copy of the records."""
        self._records = records
        self._local = local
        self._blobs = blobs
        self._memory = memory
        self._facts = facts
        self._upstreams = upstreams
        self._clock = clock
        self._applied: set[str] | None = None

    async def write(self, removed: Iterable[Removed]) -> None:
        """Tell it to all."""
        now = self._clock()
        key = keys.removed(now, secrets.token_hex(8))
        value = {"v": VERSION, "at": now, "removed": [_out(one) for one in removed]}
        await self._records.put(key, json.dumps(value, separators=(",", ":")).encode())
        # Done here already.
        (await self._known()).add(key)
        await self._remember()

    async def apply(self) -> int:
        """Forget what others have removed; how many notices there were."""
        known, listed = await self._known(), set[str]()
        oldest = keys.removed(self._clock() - _KEPT_S, "")
        new: list[str] = []
        async for key in self._records.list(keys.REMOVED):
            listed.add(key)
            if key < oldest:
                await self._records.delete(key)
            elif key not in known:
                new.append(key)
        for key in new:
            found = await self._records.get(key)
            if found is not None:
                at, removed = _read(found.value)
                for one in removed:
                    await self._forget(one, at)
            known.add(key)
        gone = known - listed
        known -= gone
        if new or gone:
            await self._remember()
        return len(new)

    async def _forget(self, removed: Removed, at: float) -> None:
        upstream = self._upstreams.get(removed.upstream)
        if upstream is None:
            return
        for tag in removed.tags:
            key = keys.tag(upstream.name, removed.repository, tag)
            copy = await self._local.get(key)
            record = None if copy is None else decode_tag(copy.value, upstream.url)
            if record is None or record.checked_at <= at:
                await self._local.delete(key)
                self._facts.forget(key)
        for digest in removed.digests:
            key = keys.link(upstream.name, removed.repository, digest)
            await self._local.delete(key)
            self._facts.forget(key)
        for digest in removed.blobs:
            blob = BlobKey(group_of(upstream), digest)
            times = self._blobs.look_blocking(blob)
            if times is not None and times.stored_at <= at:
                await self._blobs.delete(blob)
                self._memory.pop(blob)

    async def _known(self) -> set[str]:
        if self._applied is None:
            found = await self._local.get(_APPLIED)
            try:
                listed = [] if found is None else json.loads(found.value)
            except (ValueError, RecursionError):
                listed = []
            self._applied = {str(key) for key in listed} if isinstance(listed, list) else set()
        return self._applied

    async def _remember(self) -> None:
        value = json.dumps(sorted(await self._known())).encode()
        await self._local.put(_APPLIED, value)


def _out(one: Removed) -> dict[str, object]:
    return {
        "upstream": one.upstream,
        "repository": one.repository,
        "tags": list(one.tags),
        "digests": [str(digest) for digest in one.digests],
        "blobs": [str(digest) for digest in one.blobs],
    }


def _read(value: bytes) -> tuple[float, list[Removed]]:
    """What can't be read tells nothing."""
    try:
        document = json.loads(value)
        return float(document["at"]), [
            Removed(
                str(one["upstream"]),
                Repository.parse(one["repository"]),
                tuple(Tag.parse(tag) for tag in one["tags"]),
                tuple(Digest.parse(digest) for digest in one["digests"]),
                tuple(Digest.parse(digest) for digest in one["blobs"]),
            )
            for one in document["removed"]
        ]
    except (ValueError, TypeError, KeyError, RecursionError, InvalidRequest):
        return 0.0, []
