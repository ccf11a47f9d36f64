"""What could not be written to the durable store is written there later, if still right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.errors import StorageUnavailable
from proxy.ports import Record
from proxy.storage.local import LocalStorage
from proxy.storage.mirror import MirroredRecords
from proxy.storage.owed import FOLDER, OwedRecords
from proxy.storage.records import DiskRecords
from tests.support.memory_storage import MemoryRecords
from tests.support.waiting import until

KEY, OTHER = "repos/lab/app/_tags/v1", "repos/lab/app/_tags/v2"
URL = "https://lab.test"


def said(at: float, what: str = "", url: str = URL) -> bytes:
    """A record that was found to be right at that time."""
    return json.dumps({"v": 1, "url": url, "what": what, "checked_at": at}).encode()


class Held(MemoryRecords):
    """A durable store that can keep a write waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.goes = asyncio.Event(), asyncio.Event()
        self.goes.set()

    async def put(self, key: str, value: bytes, *, expect: object = "any") -> bool:
        if not self.failing:
            self.arrived.set()
            await self.goes.wait()
        return await super().put(key, value, expect=expect)  # type: ignore[arg-type] # as ours


class Store:
    """A durable store, the copy here, and what this owes to that."""

    def __init__(self, folder: Path, mirror: DiskRecords) -> None:
        self.now = 100.0
        self.durable = Held()
        self.pending = folder / "pending"
        self.mirror = mirror

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MirroredRecords]:
        """One life of a replica."""
        owed = OwedRecords(
            self.durable,
            self.mirror,
            pending=self.pending,
            observe=lambda _event: None,
            clock=lambda: self.now,
        )
        await owed.start()
        records = MirroredRecords(self.durable, self.mirror, owed, lambda _event: None)
        self.owed = owed
        try:
            yield records
        finally:
            await records.aclose()
            await owed.aclose()

    async def settled(self) -> None:
        """Until nothing is owed."""
        await until(lambda: not (len(self.owed) or self.markers()), "nothing is owed")

    async def durable_has(self, key: str, value: bytes) -> None:
        """It is back, and another replica has written this before we come to it."""
        self.durable.kept[key] = Record(value, "theirs")
        self.durable.failing = False

    def markers(self) -> list[Path]:
        return list((self.pending / FOLDER).iterdir())

    def stored(self, key: str = KEY) -> bytes | None:
        found = self.durable.kept.get(key)
        return None if found is None else found.value


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    disk = LocalStorage(tmp_path, bytes_max=None, free_bytes_min=0, observe=lambda _event: None)
    async with disk:
        yield Store(tmp_path, disk.records)


async def away(store: Store, work: Callable[[], Awaitable[object]]) -> None:
    """Do it while the durable store is away, which it says."""
    store.durable.failing = True
    with pytest.raises(StorageUnavailable):
        await work()


async def test_what_was_written_meanwhile_is_stored_when_the_store_is_back(store: Store):
    async with store.running() as records:
        await away(store, lambda: records.put(KEY, said(1)))
        found = await records.latest(KEY)
        assert found is not None
        assert found.value == said(1), "it is served from here"
        store.durable.failing = False
        await store.settled()
    assert store.stored() == said(1)


async def test_a_restart_forgets_no_debt(store: Store):
    async with store.running() as records:
        await away(store, lambda: records.put(KEY, said(1)))
        await away(store, lambda: records.delete(OTHER))
    await store.durable_has(OTHER, said(2))
    async with store.running():
        await store.settled()
    assert (store.stored(), store.stored(OTHER)) == (said(1), None)


@pytest.mark.parametrize(
    ("theirs", "stays"),
    [
        (said(2), True),
        (said(0.5), False),
        (b"not JSON", True),
        (said(0.5, url="https://another.test"), True),
    ],
)
async def test_what_another_replica_wrote_is_replaced_only_by_what_is_younger(
    store: Store, theirs: bytes, stays: bool
):
    async with store.running() as records:
        await away(store, lambda: records.put(KEY, said(1)))
        await store.durable_has(KEY, theirs)
        await store.settled()
    assert store.stored() == (theirs if stays else said(1))


async def test_of_links_the_one_that_tells_the_media_type_stays(store: Store):
    plain = json.dumps({"v": 1, "url": URL, "media_type": ""}).encode()
    typed = json.dumps({"v": 1, "url": URL, "media_type": "a/b"}).encode()
    async with store.running() as records:
        await away(store, lambda: records.put(KEY, typed))
        await away(store, lambda: records.put(OTHER, plain))
        await store.durable_has(KEY, plain)
        await store.durable_has(OTHER, typed)
        await store.settled()
    assert (store.stored(), store.stored(OTHER)) == (typed, typed)


async def test_what_is_written_while_an_older_one_is_on_its_way_follows_it(store: Store):
    async with store.running() as records:
        await away(store, lambda: records.put(KEY, said(1)))
        store.durable.goes.clear()
        store.durable.failing = False
        async with asyncio.timeout(30):
            await store.durable.arrived.wait()
        await away(store, lambda: records.put(KEY, said(2)))
        store.durable.failing = False
        store.durable.goes.set()
        await store.settled()
    assert store.stored() == said(2)


async def test_a_deletion_is_made_up_for_and_nobody_sees_the_record_until_then(store: Store):
    async with store.running() as records:
        await records.put(KEY, said(99))
        await away(store, lambda: records.delete(KEY))
        store.durable.failing = False
        # Whether or not the debt is paid by now.
        assert await records.get(KEY) is None
        assert await records.latest(KEY) is None
        await store.settled()
    assert store.stored() is None


async def test_a_deletion_leaves_what_was_found_out_after_it(store: Store):
    async with store.running() as records:
        await records.put(KEY, said(99))
        await away(store, lambda: records.delete(KEY))
        await store.durable_has(KEY, said(101))
        found = await records.latest(KEY)
        assert found is not None
        assert found.value == said(101)
        await store.settled()
    assert store.stored() == said(101)


async def test_what_is_written_again_after_a_deletion_is_not_deleted(store: Store):
    async with store.running() as records:
        await records.put(KEY, said(99))
        await away(store, lambda: records.delete(KEY))
        await away(store, lambda: records.put(KEY, said(101)))
        store.durable.failing = False
        await store.settled()
    assert store.stored() == said(101)


async def test_a_copy_that_was_trimmed_meanwhile_deletes_nothing(store: Store):
    async with store.running() as records:
        await records.put(KEY, said(1))
        await away(store, lambda: records.put(KEY, said(2)))
        await store.mirror.delete(KEY)
        store.durable.failing = False
        await store.settled()
    assert store.stored() == said(1)


@pytest.mark.parametrize("torn", [b"", b"\0\0\0\0", b"repos/lab/ap", b"\xff\xfe", b"../../etc"])
async def test_a_marker_that_a_loss_of_power_tore_holds_up_no_other(store: Store, torn: bytes):
    async with store.running() as records:
        await away(store, lambda: records.put(KEY, said(1)))
        await away(store, lambda: records.put(OTHER, said(1)))
        (marker,) = [path for path in store.markers() if path.read_text() == KEY]
    marker.write_bytes(torn)
    store.durable.failing = False
    async with store.running():
        await store.settled()
    assert (store.stored(), store.stored(OTHER)) == (None, said(1))
