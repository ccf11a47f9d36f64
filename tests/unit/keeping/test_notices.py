"""Notices of what was removed: applied once, and never to what was learned since."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache import keys
from proxy.cache.facts import Facts
from proxy.cache.lru import Lru
from proxy.cache.records import Link, TagRecord, encode_link, encode_tag
from proxy.keeping.notices import Notices, Removed
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from proxy.ports import PUBLIC, BlobKey
from proxy.storage.local import LocalStorage
from tests.support.memory_storage import MemoryRecords
from tests.support.memory_upstream import MemoryUpstream

LAB, APP, V1 = MemoryUpstream("lab"), Repository("app"), Tag("v1")
BLOB = Digest.of(b"blob")
GONE = Removed("lab", APP, (V1,), (BLOB,), (BLOB,))


class Replica:
    """One of several over the same store, with a disk of its own."""

    def __init__(self, store: MemoryRecords, local: LocalStorage, clock: list[float]) -> None:
        self.local = local
        self.facts = Facts(local.records, lambda _event: None, lambda: clock[0])
        self.notices = Notices(
            store,
            local=local.records,
            blobs=local.blobs,
            memory=Lru(10),
            facts=self.facts,
            upstreams={"lab": LAB},
            clock=lambda: clock[0],
        )

    async def learn(self, at: float) -> None:
        """What a pull at that time leaves."""
        current = Descriptor(media_type="m", digest=BLOB, size=4)
        record = TagRecord(
            url=LAB.url, current=current, previous=None, fetched_at=at, checked_at=at
        )
        link = Link(url=LAB.url, media_type="m", size=4)
        await self.local.records.put(keys.tag("lab", APP, V1), encode_tag(record))
        await self.local.records.put(keys.link("lab", APP, BLOB), encode_link(link))
        await self.local.blobs.put_bytes(BlobKey(PUBLIC, BLOB), b"blob")
        await self.facts.tag(LAB, APP, V1)
        await self.facts.link(LAB, APP, BLOB)

    async def knows(self) -> tuple[bool, bool, bool]:
        return (
            await self.facts.tag(LAB, APP, V1) is not None,
            await self.facts.link(LAB, APP, BLOB) is not None,
            await self.local.blobs.stat(BlobKey(PUBLIC, BLOB)) is not None,
        )


@pytest.fixture
def store() -> MemoryRecords:
    return MemoryRecords()


@pytest.fixture
def clock() -> list[float]:
    return [time.time()]


@pytest.fixture
async def replica(
    store: MemoryRecords, clock: list[float], tmp_path: Path
) -> AsyncIterator[Replica]:
    local = LocalStorage(tmp_path, bytes_max=None, free_bytes_min=0, observe=lambda _event: None)
    async with local:
        yield Replica(store, local, clock)


async def elsewhere(store: MemoryRecords, replica: Replica, clock: list[float]) -> None:
    """Another replica removes it."""
    other = Replica(store, replica.local, clock)
    other.notices._local = MemoryRecords()
    await other.notices.write([GONE])


async def test_what_was_removed_elsewhere_is_forgotten_once(
    store: MemoryRecords, replica: Replica, clock: list[float]
) -> None:
    await replica.learn(clock[0])
    assert await replica.knows() == (True, True, True)
    clock[0] += 10
    await elsewhere(store, replica, clock)
    assert await replica.notices.apply() == 1
    assert await replica.knows() == (False, False, False)
    await replica.learn(clock[0] + 5)
    assert await replica.notices.apply() == 0
    assert await replica.knows() == (True, True, True)
    # Not again after a restart either.
    again = Replica(store, replica.local, clock)
    assert await again.notices.apply() == 0
    assert await again.knows() == (True, True, True)


async def test_what_was_learned_after_it_stays(
    store: MemoryRecords, replica: Replica, clock: list[float]
) -> None:
    await replica.learn(clock[0])
    clock[0] -= 100
    await elsewhere(store, replica, clock)
    assert await replica.notices.apply() == 1
    tag, _link, blob = await replica.knows()
    assert (tag, blob) == (True, True)


async def test_own_notices_are_not_applied_and_old_ones_go(
    store: MemoryRecords, replica: Replica, clock: list[float]
) -> None:
    await replica.notices.write([GONE])
    await replica.learn(clock[0])
    assert await replica.notices.apply() == 0
    assert await replica.knows() == (True, True, True)
    assert len(store.kept) == 1
    clock[0] += 7 * 86_400
    await replica.notices.apply()
    assert store.kept == {}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{",
        b'{"at":1}',
        b'{"at":1,"removed":[{}]}',
        b'{"at":"x","removed":[]}',
        b'{"at":1,"removed":[{"upstream":"lab","repository":"../x","tags":[],"digests":[],"blobs":[]}]}',
    ],
)
async def test_what_can_not_be_read_tells_nothing(
    store: MemoryRecords, replica: Replica, clock: list[float], value: bytes
) -> None:
    await replica.learn(clock[0])
    await store.put(keys.removed(clock[0], "x"), value)
    assert await replica.notices.apply() == 1
    await replica.local.records.put("removed_applied", value)
    assert await Replica(store, replica.local, clock).notices.apply() == 1
    assert await replica.knows() == (True, True, True)
