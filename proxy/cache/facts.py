"""Records with a bounded memory in front: tags, links, exposure, referrers.

One process owns a `data_dir`, so what is remembered here is what the disk says;
a hot pull asks no disk. Only *found* records are remembered: absence is cheap to
ask again and must be noticed the moment it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from proxy.cache import keys
from proxy.cache.lru import Lru
from proxy.cache.records import (
    Exposure,
    Link,
    ReferrersRecord,
    TagRecord,
    decode_exposure,
    decode_link,
    decode_referrers,
    decode_tag,
    encode_exposure,
    encode_link,
    encode_referrers,
    encode_tag,
)
from proxy.errors import StorageUnavailable
from proxy.events import StorageFailed
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import Clock, Observe, Records, Upstream

REMEMBERED_MAX = 20_000
# A confirmation is worth a disk write only this often: after a restart an older
# time costs one more HEAD, nothing else.
CONFIRM_WRITE_S = 3600.0
_MOVE_TRIES = 3
_SKEW_S = 60.0

Fact = TypeVar("Fact", TagRecord, Link, Exposure, ReferrersRecord)


class Facts:
    """Typed reading and writing of records. Failing storage reads as absence.

    Absence is the safe reading: the upstream is asked again. A write that fails
    is reported and otherwise ignored, because the answer in hand is good.
    """

    def __init__(self, records: Records, observe: Observe, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._observe = observe
        self._known: Lru[str, TagRecord | Link | Exposure | ReferrersRecord] = Lru(REMEMBERED_MAX)
        self._written_at: Lru[str, float] = Lru(REMEMBERED_MAX)

    async def tag(self, upstream: Upstream, repository: Repository, tag: Tag) -> TagRecord | None:
        """What the tag named when last seen."""
        key = keys.tag(upstream.name, repository, tag)
        return await self._get(key, upstream.url, TagRecord, decode_tag)

    async def move_tag(
        self, upstream: Upstream, repository: Repository, tag: Tag, record: TagRecord
    ) -> None:
        """Write what the tag names now, unless a later answer is written already.

        A replica that was paused between its question and this must not move the
        tag back for all.
        """
        key = keys.tag(upstream.name, repository, tag)
        self._known.put(key, record)
        self._written_at.put(key, record.checked_at)
        try:
            for _ in range(_MOVE_TRIES):
                stored = await self._records.latest(key)
                later = None if stored is None else decode_tag(stored.value, upstream.url)
                now = self._clock()
                # (One from the future was written under a wrong clock.)
                if later is not None and record.checked_at < later.checked_at <= now + _SKEW_S:
                    self._known.put(key, later)
                    return
                if await self._records.put(key, encode_tag(record), expect=stored):
                    return
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record write", reason=str(error)))

    async def confirm_tag(
        self, upstream: Upstream, repository: Repository, tag: Tag, now: float
    ) -> None:
        """Remember that the upstream confirmed the tag at `now`."""
        key = keys.tag(upstream.name, repository, tag)
        record = await self._get(key, upstream.url, TagRecord, decode_tag)
        if record is None:
            return
        record = replace(record, checked_at=now)
        if now - (self._written_at.get(key) or 0) < CONFIRM_WRITE_S:
            self._known.put(key, record)
        else:
            await self.move_tag(upstream, repository, tag, record)

    async def forget_tag(self, upstream: Upstream, repository: Repository, tag: Tag) -> None:
        """The upstream no longer has the tag."""
        await self._delete(keys.tag(upstream.name, repository, tag))

    def link_known(self, upstream: Upstream, repository: Repository, digest: Digest) -> Link | None:
        """The link if it is remembered; never waits."""
        fact = self._known.get(keys.link(upstream.name, repository, digest))
        return fact if isinstance(fact, Link) and fact.url == upstream.url else None

    async def link(self, upstream: Upstream, repository: Repository, digest: Digest) -> Link | None:
        """Whether (and as what) the repository may serve the digest."""
        key = keys.link(upstream.name, repository, digest)
        return await self._get(key, upstream.url, Link, decode_link)

    async def put_link(
        self, upstream: Upstream, repository: Repository, digest: Digest, link: Link
    ) -> None:
        """The upstream has shown that the repository may serve the digest."""
        key = keys.link(upstream.name, repository, digest)
        known = await self._get(key, upstream.url, Link, decode_link)
        if known is not None and (known.media_type or not link.media_type):
            return
        await self._put(key, link, encode_link(link))

    async def exposure(self, upstream: Upstream, repository: Repository) -> Exposure | None:
        """When the repository was last seen to be readable by anyone."""
        key = keys.exposed(upstream.name, repository)
        return await self._get(key, upstream.url, Exposure, decode_exposure)

    async def put_exposure(
        self, upstream: Upstream, repository: Repository, exposure: Exposure | None
    ) -> None:
        """Remember (or, with None, forget) that anyone may read the repository."""
        key = keys.exposed(upstream.name, repository)
        if exposure is None:
            await self._delete(key)
        else:
            await self._put(key, exposure, encode_exposure(exposure))

    async def referrers(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> ReferrersRecord | None:
        """The referrers as last fetched."""
        key = keys.referrers(upstream.name, repository, digest)
        return await self._get(key, upstream.url, ReferrersRecord, decode_referrers)

    async def put_referrers(
        self,
        upstream: Upstream,
        repository: Repository,
        digest: Digest,
        record: ReferrersRecord,
    ) -> None:
        """Keep the referrers as fetched now."""
        key = keys.referrers(upstream.name, repository, digest)
        await self._put(key, record, encode_referrers(record))

    async def _get(
        self,
        key: str,
        url: str,
        kind: type[Fact],
        decode: Callable[[bytes, str], Fact | None],
    ) -> Fact | None:
        known = self._known.get(key)
        if isinstance(known, kind) and known.url == url:
            return known
        try:
            record = await self._records.get(key)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record read", reason=str(error)))
            return None
        known = self._known.get(key)
        if isinstance(known, kind) and known.url == url:
            return known  # Written while we read.
        fact = None if record is None else decode(record.value, url)
        if fact is not None:
            self._known.put(key, fact)
        return fact

    async def _put(
        self, key: str, fact: TagRecord | Link | Exposure | ReferrersRecord, value: bytes
    ) -> None:
        self._known.put(key, fact)
        try:
            await self._records.put(key, value)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record write", reason=str(error)))

    async def _delete(self, key: str) -> None:
        self._known.pop(key)
        self._written_at.pop(key)
        try:
            await self._records.delete(key)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record delete", reason=str(error)))
