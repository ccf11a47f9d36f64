"""A move that several replicas notice is noted once, by the one whose record counted."""

from __future__ import annotations

import asyncio

import pytest

from proxy.cache.facts import Facts
from proxy.cache.records import TagRecord
from proxy.events import Event, StorageFailed
from proxy.oci.digest import Digest
from proxy.oci.manifests import Descriptor
from proxy.oci.names import Repository, Tag
from tests.support.memory_storage import MemoryRecords
from tests.support.memory_upstream import MemoryUpstream

APP, V1 = Repository.parse("app"), Tag.parse("v1")
UPSTREAM = MemoryUpstream("lab")
NOW = 1_000_000.0


def record(word: str, at: float) -> TagRecord:
    current = Descriptor(media_type="m", digest=Digest.of(word.encode()), size=1)
    return TagRecord(
        url=UPSTREAM.url, current=current, previous=None, fetched_at=NOW + at, checked_at=NOW + at
    )


def replica(store: MemoryRecords, events: list[Event] | None = None) -> Facts:
    heard = [] if events is None else events
    return Facts(store, heard.append, lambda: NOW + 100)


async def moves(store: MemoryRecords) -> list[tuple[float, Digest | None]]:
    facts = replica(store)
    known = await facts.tag(UPSTREAM, APP, V1)
    found = await facts.history.moves("lab", UPSTREAM.url, APP, V1, known=known)
    return [(one.at - NOW, one.after and one.after.digest) for one in found]


def noted(store: MemoryRecords) -> int:
    return sum("/_history/" in key for key in store.kept)


async def test_all_replicas_that_hear_of_one_answer_note_one_move() -> None:
    store = MemoryRecords()
    replicas = [replica(store) for _ in range(5)]
    for word, at in (("old", 0.0), ("new", 10.0)):
        await asyncio.gather(
            *(one.move_tag(UPSTREAM, APP, V1, record(word, at)) for one in replicas)
        )
    assert noted(store) == 2
    assert await moves(store) == [(0.0, Digest.of(b"old")), (10.0, Digest.of(b"new"))]


async def test_a_replica_that_is_late_notes_nothing() -> None:
    store = MemoryRecords()
    early, late = replica(store), replica(store)
    await early.move_tag(UPSTREAM, APP, V1, record("old", 0))
    await early.move_tag(UPSTREAM, APP, V1, record("new", 20))
    await late.move_tag(UPSTREAM, APP, V1, record("between", 10))
    assert [at for at, _ in await moves(store)] == [0.0, 20.0]


async def test_a_removal_is_noted_once() -> None:
    store = MemoryRecords()
    one, other = replica(store), replica(store)
    await one.move_tag(UPSTREAM, APP, V1, record("old", 0))
    await one.forget_tag(UPSTREAM, APP, V1, NOW + 10)
    await other.forget_tag(UPSTREAM, APP, V1, NOW + 11)
    assert await moves(store) == [(0.0, Digest.of(b"old")), (10.0, None)]
    assert noted(store) == 2


async def test_a_confirmation_notes_nothing() -> None:
    store = MemoryRecords()
    one = replica(store)
    await one.move_tag(UPSTREAM, APP, V1, record("old", 0))
    await one.confirm_tag(UPSTREAM, APP, V1, NOW + 7200)
    await one.move_tag(UPSTREAM, APP, V1, record("old", 8000))
    assert noted(store) == 1


class _NoHistory(MemoryRecords):
    """A store that takes everything but history."""

    async def put(self, key: str, value: bytes, *, expect: object = "any") -> bool:
        self.failing = "/_history/" in key
        try:
            return await super().put(key, value, expect=expect)
        finally:
            self.failing = False


async def test_a_history_that_cant_be_written_is_told_and_made_up_for_with_the_next_move() -> None:
    store, events = _NoHistory(), []
    one = replica(store, events)
    await one.move_tag(UPSTREAM, APP, V1, record("old", 0))
    assert [event.operation for event in events if isinstance(event, StorageFailed)] == [
        "history write"
    ]
    assert (await one.tag(UPSTREAM, APP, V1)) == record("old", 0)
    assert await moves(store) == [(0.0, Digest.of(b"old"))]
    mended = MemoryRecords(kept=store.kept)
    await replica(mended).move_tag(UPSTREAM, APP, V1, record("new", 10))
    assert noted(mended) == 2
    assert [at for at, _ in await moves(mended)] == [0.0, 10.0]


@pytest.mark.parametrize("failing", [False, True])
async def test_the_store_that_is_away_fails_no_move(failing: bool) -> None:
    store, events = MemoryRecords(), []
    store.failing = failing
    one = replica(store, events)
    await one.move_tag(UPSTREAM, APP, V1, record("old", 0))
    assert (await one.tag(UPSTREAM, APP, V1)) == record("old", 0)
    assert bool(events) is failing
