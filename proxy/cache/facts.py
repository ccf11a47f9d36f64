"""What is known of repositories, in words: tags, links, exposure, referrers.

Kept in durable records, with a memory in front (`remembered.py`). Of a tag two answers
may compete, from here and from another replica: the one given later is believed.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from weakref import WeakValueDictionary

from proxy.cache import keys
from proxy.cache.history import History
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
from proxy.cache.remembered import REMEMBERED_MAX, Remembered
from proxy.cache.standing import Life
from proxy.errors import StorageUnavailable
from proxy.events import StorageFailed
from proxy.oci.digest import Digest
from proxy.oci.names import Repository, Tag
from proxy.ports import Clock, Observe, Records, Upstream

# A confirmation is worth a disk write only this often: after a restart an older
# time costs one more HEAD, nothing else.
CONFIRM_WRITE_S = 3600.0
_MOVE_TRIES = 3
_SKEW_S = 60.0
# How often the durable store is asked what it knows last of a tag while the upstream
# can't be.
_LOOK_EVERY_S = 10.0
_LOOK_PATIENCE_S = 3.0


class Facts:
    """Typed reading and writing of records. Never raises for the storage's sake."""

    def __init__(self, records: Records, observe: Observe, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._observe = observe
        self.history = History(records)
        self._kept = Remembered(records, observe)
        self._written_at: Lru[str, float] = Lru(REMEMBERED_MAX)
        self._looked_at: Lru[str, float] = Lru(REMEMBERED_MAX)
        self._moving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def tag(self, upstream: Upstream, repository: Repository, tag: Tag) -> TagRecord | None:
        """What the tag named when last seen."""
        key = keys.tag(upstream.name, repository, tag)
        return await self._kept.get(key, upstream.url, TagRecord, decode_tag)

    async def latest_tag(
        self, upstream: Upstream, repository: Repository, tag: Tag
    ) -> TagRecord | None:
        """What any replica saw the tag name last: for when the upstream can't be asked.

        Where the durable store can't be asked either, what is known here must do.
        """
        key = keys.tag(upstream.name, repository, tag)
        now = self._clock()
        if not 0 <= now - (self._looked_at.get(key) or -math.inf) < _LOOK_EVERY_S:
            self._looked_at.put(key, now)
            looking = self._look(key, upstream.url)
            await self._kept.unhurried.do(looking, patience_s=_LOOK_PATIENCE_S)
        return await self._kept.get(key, upstream.url, TagRecord, decode_tag)

    async def move_tag(
        self, upstream: Upstream, repository: Repository, tag: Tag, record: TagRecord
    ) -> None:
        """Write what the tag names now, unless a later answer is written already.

        A replica that was paused between its question and this must not move the
        tag back for all.
        """
        key = keys.tag(upstream.name, repository, tag)
        self._kept.known.put(key, record)
        self._written_at.put(key, record.checked_at)
        await self._kept.writing(self._move(upstream, repository, tag, record))

    async def confirm_tag(
        self, upstream: Upstream, repository: Repository, tag: Tag, now: float
    ) -> None:
        """Remember that the upstream confirmed the tag at `now`."""
        key = keys.tag(upstream.name, repository, tag)
        record = await self._kept.get(key, upstream.url, TagRecord, decode_tag)
        if record is None:
            return
        record = replace(record, checked_at=now)
        if now - (self._written_at.get(key) or 0) < CONFIRM_WRITE_S:
            self._kept.known.put(key, record)
        else:
            await self.move_tag(upstream, repository, tag, record)

    async def forget_tag(
        self, upstream: Upstream, repository: Repository, tag: Tag, now: float
    ) -> None:
        """The upstream no longer has the tag, as it said at `now`."""
        key = keys.tag(upstream.name, repository, tag)
        async with self._one_by_one(key):
            self._written_at.pop(key)
            gone = await self._stored(key, upstream.url)
            await self._kept.delete(key)
            if gone is not None:
                try:
                    await self.history.gone(upstream.name, repository, tag, gone, now)
                except StorageUnavailable as error:
                    self._observe(StorageFailed(operation="history write", reason=str(error)))

    async def remove_tag(self, upstream: Upstream, repository: Repository, tag: Tag) -> None:
        """It is kept here no longer, whatever the upstream has."""
        key = keys.tag(upstream.name, repository, tag)
        async with self._one_by_one(key):
            self._written_at.pop(key)
            self._looked_at.pop(key)
            await self._kept.delete(key)

    async def remove_link(self, upstream: Upstream, repository: Repository, digest: Digest) -> None:
        """The upstream is asked again whether the repository may serve the digest."""
        await self._kept.delete(keys.link(upstream.name, repository, digest))

    def forget(self, key: str) -> None:
        """Remember the record of a key no longer, because another replica removed it."""
        self._written_at.pop(key)
        self._looked_at.pop(key)
        self._kept.known.pop(key)

    def link_known(self, upstream: Upstream, repository: Repository, digest: Digest) -> Link | None:
        """The link if it is remembered; never waits."""
        fact = self._kept.known.get(keys.link(upstream.name, repository, digest))
        return fact if isinstance(fact, Link) and fact.url == upstream.url else None

    async def link(self, upstream: Upstream, repository: Repository, digest: Digest) -> Link | None:
        """Whether (and as what) the repository may serve the digest."""
        key = keys.link(upstream.name, repository, digest)
        return await self._kept.get(key, upstream.url, Link, decode_link)

    async def put_link(
        self, upstream: Upstream, repository: Repository, digest: Digest, link: Link
    ) -> None:
        """The upstream has shown that the repository may serve the digest."""
        key = keys.link(upstream.name, repository, digest)
        known = await self._kept.get(key, upstream.url, Link, decode_link)
        if known is not None and (known.media_type or not link.media_type):
            return
        await self._kept.put(key, link, encode_link(link))

    async def exposure(self, upstream: Upstream, repository: Repository) -> Exposure | None:
        """When the repository was last seen to be readable by anyone."""
        key = keys.exposed(upstream.name, repository)
        return await self._kept.get(key, upstream.url, Exposure, decode_exposure)

    async def put_exposure(
        self, upstream: Upstream, repository: Repository, exposure: Exposure | None
    ) -> None:
        """Remember (or, with None, forget) that anyone may read the repository."""
        key = keys.exposed(upstream.name, repository)
        if exposure is None:
            await self._kept.delete(key)
        else:
            await self._kept.put(key, exposure, encode_exposure(exposure))

    async def referrers(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> ReferrersRecord | None:
        """The referrers as last fetched."""
        key = keys.referrers(upstream.name, repository, digest)
        return await self._kept.get(key, upstream.url, ReferrersRecord, decode_referrers)

    async def put_referrers(
        self,
        upstream: Upstream,
        repository: Repository,
        digest: Digest,
        record: ReferrersRecord,
    ) -> None:
        """Keep the referrers as fetched now."""
        key = keys.referrers(upstream.name, repository, digest)
        await self._kept.put(key, record, encode_referrers(record))

    def tag_life(
        self, upstream: Upstream, repository: Repository, tag: Tag
    ) -> tuple[TagRecord, Life] | None:
        """The record and how long it stays what it is; None if it is not remembered."""
        return self._kept.lived(keys.tag(upstream.name, repository, tag), upstream.url, TagRecord)

    def link_life(
        self, upstream: Upstream, repository: Repository, digest: Digest
    ) -> tuple[Link, Life] | None:
        """As `tag_life`."""
        return self._kept.lived(keys.link(upstream.name, repository, digest), upstream.url, Link)

    def exposure_life(
        self, upstream: Upstream, repository: Repository
    ) -> tuple[Exposure, Life] | None:
        """As `tag_life`."""
        return self._kept.lived(keys.exposed(upstream.name, repository), upstream.url, Exposure)

    async def aclose(self) -> None:
        """Wait for what was not waited for, a little; the rest is lost."""
        await self._kept.aclose()

    def _later(self, found: TagRecord, known: TagRecord) -> bool:
        # (One from the future was written under a wrong clock.)
        return known.checked_at < found.checked_at <= self._clock() + _SKEW_S

    async def _look(self, key: str, url: str) -> None:
        try:
            stored = await self._records.latest(key)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record read", reason=str(error)))
            self._looked_at.pop(key)
            return
        found = None if stored is None else decode_tag(stored.value, url)
        if found is not None:
            self._learn(key, found)

    def _learn(self, key: str, found: TagRecord) -> None:
        """Believe what is stored, unless we have a later answer of our own."""
        known = self._kept.known.get(key)
        if not isinstance(known, TagRecord) or known.url != found.url or self._later(found, known):
            self._kept.known.put(key, found)

    def _one_by_one(self, key: str) -> asyncio.Lock:
        """For what is written of one tag: a late write may not undo the next one."""
        return self._moving.setdefault(key, asyncio.Lock())

    async def _stored(self, key: str, url: str) -> TagRecord | None:
        try:
            stored = await self._records.latest(key)
        except StorageUnavailable as error:
            self._observe(StorageFailed(operation="record read", reason=str(error)))
            return None
        return None if stored is None else decode_tag(stored.value, url)

    async def _move(
        self, upstream: Upstream, repository: Repository, tag: Tag, record: TagRecord
    ) -> None:
        key = keys.tag(upstream.name, repository, tag)
        found: TagRecord | None = None
        async with self._one_by_one(key):
            try:
                for _ in range(_MOVE_TRIES):
                    stored = await self._records.latest(key)
                    found = None if stored is None else decode_tag(stored.value, record.url)
                    if found is not None and self._later(found, record):
                        self._learn(key, found)
                        return
                    if await self._records.put(key, encode_tag(record), expect=stored):
                        break
                else:
                    return
            except StorageUnavailable as error:
                # What can't be written now may be kept here and written later.
                self._observe(StorageFailed(operation="record write", reason=str(error)))
            if found is None or found.current.digest != record.current.digest:
                try:
                    await self.history.moved(upstream.name, repository, tag, found, record)
                except StorageUnavailable as error:
                    self._observe(StorageFailed(operation="history write", reason=str(error)))
