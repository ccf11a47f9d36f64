"""Facts about tags: which of two answers is believed, and what nobody waits for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from proxy.cache import keys
from proxy.cache.facts import Facts
from proxy.cache.records import TagRecord, decode_tag, encode_tag
from proxy.events import StorageFailed
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from proxy.ports import Record
from tests.support.memory_storage import MemoryRecords
from tests.support.memory_upstream import MemoryUpstream

APP, V1 = Repository.parse("app"), Tag.parse("v1")
KEY = keys.tag("memory", APP, V1)
NOW = 1_000_000.0


class Held(MemoryRecords):
    """A store that does not answer until `goes` is set; reads and writes, or none."""

    goes: asyncio.Event

    async def latest(self, key: str) -> Record | None:
        await self.goes.wait()
        return await MemoryRecords.latest(self, key)


@dataclass
class World:
    """Facts about one upstream, the store they are in, and the time."""

    store: MemoryRecords = field(default_factory=MemoryRecords)
    now: float = NOW
    events: list[object] = field(default_factory=list)
    upstream: MemoryUpstream = field(default_factory=MemoryUpstream)

    def __post_init__(self) -> None:
        self.facts = Facts(self.store, self.events.append, lambda: self.now)

    def record(self, word: str, at: float) -> TagRecord:
        """The tag names what `word` makes, confirmed `at` seconds from the beginning."""
        current = Descriptor(media_type="m", digest=Digest.of(word.encode()), size=1)
        return TagRecord(
            url=self.upstream.url,
            current=current,
            previous=None,
            fetched_at=NOW + at,
            checked_at=NOW + at,
        )

    async def move(self, record: TagRecord) -> None:
        await self.facts.move_tag(self.upstream, APP, V1, record)

    async def elsewhere(self, record: TagRecord) -> None:
        """Another replica writes."""
        await self.store.put(KEY, encode_tag(record))

    async def known(self) -> TagRecord | None:
        return await self.facts.tag(self.upstream, APP, V1)

    async def latest(self) -> TagRecord | None:
        return await self.facts.latest_tag(self.upstream, APP, V1)

    def stored(self) -> TagRecord | None:
        return decode_tag(self.store.kept[KEY].value, self.upstream.url)


async def test_the_latest_of_a_tag_is_what_any_replica_recorded_last() -> None:
    world = World()
    ours, theirs = world.record("ours", 0), world.record("theirs", 5)
    await world.move(ours)
    life = world.facts.tag_life(world.upstream, APP, V1)
    assert life is not None
    await world.elsewhere(theirs)
    world.now += 10
    assert await world.known() == ours
    assert not life[1].over
    assert await world.latest() == theirs
    assert await world.known() == theirs
    assert life[1].over, "nothing stands on the record that was replaced"


@pytest.mark.parametrize("at", [-5.0, 500.0])
async def test_what_is_older_or_written_under_a_wrong_clock_is_not_the_latest(at: float) -> None:
    world = World()
    ours = world.record("ours", 0)
    await world.move(ours)
    await world.elsewhere(world.record("theirs", at))
    assert await world.latest() == ours


async def test_the_store_is_asked_for_the_latest_now_and_then_only() -> None:
    world = World()
    await world.move(world.record("ours", 0))
    await world.latest()
    await world.elsewhere(world.record("theirs", 1))
    world.now += 9
    assert await world.latest() == world.record("ours", 0)
    world.now += 2
    assert await world.latest() == world.record("theirs", 1)


async def test_without_the_store_the_latest_is_what_is_known_and_it_is_asked_again_at_once() -> (
    None
):
    world = World()
    await world.move(world.record("ours", 0))
    await world.elsewhere(world.record("theirs", 1))
    world.now += 2
    world.store.failing = True
    assert await world.latest() == world.record("ours", 0)
    assert [e.operation for e in world.events if isinstance(e, StorageFailed)] == ["record read"]
    world.store.failing = False
    assert await world.latest() == world.record("theirs", 1)


async def test_a_move_that_is_late_neither_delays_its_answer_nor_undoes_the_next() -> None:
    store = Held()
    store.goes = asyncio.Event()
    world = World(store=store)
    first, second = world.record("first", 0), world.record("second", 1)
    async with asyncio.timeout(20):
        await world.move(first)
        assert await world.known() == first
        await world.move(second)
        assert await world.known() == second
        assert KEY not in store.kept
        store.goes.set()
        await world.facts.aclose()
    assert await world.known() == second
    assert world.stored() == second


async def test_a_tag_that_ends_while_its_move_is_late_stays_gone() -> None:
    store = Held()
    store.goes = asyncio.Event()
    world = World(store=store)
    async with asyncio.timeout(20):
        await world.move(world.record("first", 0))
        gone = asyncio.create_task(world.facts.forget_tag(world.upstream, APP, V1, 0.0))
        store.goes.set()
        await gone
    assert KEY not in store.kept
    assert await world.known() is None


async def test_a_move_that_was_overtaken_elsewhere_is_not_written() -> None:
    world = World()
    theirs = world.record("theirs", 5)
    await world.elsewhere(theirs)
    world.now += 10
    await world.move(world.record("ours", 1))
    assert await world.known() == theirs
    assert world.stored() == theirs
