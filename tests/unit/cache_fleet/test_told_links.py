"""What one replica knows of links, the others need not read from the durable store."""

from __future__ import annotations

from proxy.cache.told_links import ToldLinks
from proxy.coordination.local import LocalCoordination
from proxy.ports import Record
from tests.support.memory_storage import MemoryRecords

LINK = "repos/lab/library/app/_links/sha256/" + "a" * 64
TAG = "repos/lab/library/app/_tags/latest"


class Counted(MemoryRecords):
    """Counts reads."""

    reads = 0

    async def get(self, key: str) -> Record | None:
        self.reads += 1
        return await super().get(key)


async def test_a_link_that_one_wrote_or_read_is_not_read_by_the_others() -> None:
    durable, coordination = Counted(), LocalCoordination()
    one, other = ToldLinks(durable, coordination), ToldLinks(durable, coordination)
    await one.put(LINK, b"link")
    found = await other.get(LINK)
    assert found is not None
    assert (found.value, durable.reads) == (b"link", 0)
    await coordination.delete(f"record/{LINK}")
    for _ in range(3):
        found = await other.get(LINK)
        assert found is not None
        assert found.value == b"link"
    assert durable.reads == 1


async def test_only_links_are_told() -> None:
    durable, coordination = Counted(), LocalCoordination()
    one, other = ToldLinks(durable, coordination), ToldLinks(durable, coordination)
    await one.put(TAG, b"old")
    await durable.put(TAG, b"new")
    found = await other.get(TAG)
    assert found is not None
    assert found.value == b"new"
    assert await other.get(LINK) is None


async def test_a_deleted_link_is_gone_for_all() -> None:
    durable, coordination = Counted(), LocalCoordination()
    one, other = ToldLinks(durable, coordination), ToldLinks(durable, coordination)
    await one.put(LINK, b"link")
    await other.delete(LINK)
    assert await one.get(LINK) is None
    assert [key async for key in one.list("repos")] == []


async def test_conditions_and_the_latest_are_the_durable_stores_business() -> None:
    durable = Counted()
    told = ToldLinks(durable, LocalCoordination())
    assert await told.put(TAG, b"one", expect=None)
    assert not await told.put(TAG, b"two", expect=None)
    latest = await told.latest(TAG)
    assert latest is not None
    assert await told.put(TAG, b"two", expect=latest)
