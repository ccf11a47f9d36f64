"""What a scrub does with bytes that went wrong: a real disk, a store in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.cache.fleet import Fleet
from proxy.cache.scrub import Scrub, Scrubbed
from proxy.coordination.local import LocalCoordination
from proxy.errors import StorageUnavailable
from proxy.events import Event, ScrubFound
from proxy.oci.digest import Digest
from proxy.ports import PUBLIC, BlobKey, Body
from proxy.storage.local import LocalStorage
from tests.support.memory_storage import MemoryBlobs
from tests.support.waiting import until

GOOD = bytes(range(256)) * 500
KEY = BlobKey(PUBLIC, Digest.of(GOOD))
BAD = GOOD[:-1] + b"?"


@dataclass(slots=True)
class Uploader:
    """Brings local files to the store at once."""

    local: LocalStorage
    durable: MemoryBlobs

    async def add(self, key: BlobKey, *, ask_first: bool = False) -> Awaitable[None]:
        assert not ask_first, "the store is known not to have it"
        self.durable.kept[key] = self.local.blobs.path(key).read_bytes()
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def add_later(self, key: BlobKey) -> None:
        raise AssertionError(key)


@dataclass(slots=True)
class Stored(MemoryBlobs):
    """Reads of it wait for `open_gate`; some blobs can't be read."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reads: int = 0
    unreadable: bool = False
    undeletable: bool = False

    @asynccontextmanager
    async def open(
        self, key: BlobKey, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[Body | None]:
        self.reads += 1
        await self.gate.wait()
        if self.unreadable:
            raise StorageUnavailable("this one can't be read")
        async with MemoryBlobs.open(self, key, start=start, end=end) as body:
            yield body

    async def delete(self, key: BlobKey) -> None:
        if self.undeletable:
            raise StorageUnavailable("nothing goes now")
        await MemoryBlobs.delete(self, key)


@dataclass(slots=True)
class Place:
    local: LocalStorage
    durable: Stored
    coordination: LocalCoordination
    events: list[Event]
    speed: float = 1e12

    def scrub(self) -> Scrub:
        return Scrub(
            self.local.blobs,
            Fleet(durable=self.durable, uploader=Uploader(self.local, self.durable)),
            local_path=self.local.blobs.path,
            groups=[PUBLIC],
            coordination=self.coordination,
            observe=self.events.append,
            bytes_a_second=self.speed,
        )

    async def here(self, content: bytes) -> Path:
        await self.local.blobs.put_bytes(KEY, GOOD)
        path = self.local.blobs.path(KEY)
        path.write_bytes(content)
        return path

    def there(self, content: bytes) -> None:
        self.durable.kept[KEY] = content


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    events: list[Event] = []
    local = LocalStorage(tmp_path, bytes_max=None, free_bytes_min=0, observe=events.append)
    async with local:
        made = Place(local, Stored(), LocalCoordination(), events)
        made.durable.gate.set()
        yield made


async def test_good_blobs_stay_and_are_counted(place: Place) -> None:
    path = await place.here(GOOD)
    place.there(GOOD)
    done = await place.scrub().run()
    assert done == Scrubbed(blobs=2, bytes=2 * len(GOOD))
    assert path.exists()
    assert place.durable.kept == {KEY: GOOD}
    assert place.events == []


@pytest.mark.parametrize("wrong", [BAD, GOOD[:100], b"", GOOD + b"more"])
async def test_a_bad_local_file_is_removed(place: Place, wrong: bytes) -> None:
    path = await place.here(wrong)
    place.there(GOOD)
    done = await place.scrub().run()
    assert (done.blobs, done.bad) == (2, 1)
    assert not path.exists()
    assert await place.local.blobs.open_file(KEY) is None
    assert place.durable.kept == {KEY: GOOD}
    assert place.events == [ScrubFound(where="local", digest=str(KEY.digest))]


async def test_a_bad_object_is_replaced_by_a_good_local_copy(place: Place) -> None:
    await place.here(GOOD)
    place.there(BAD)
    assert (await place.scrub().run()).bad == 1
    assert place.durable.kept == {KEY: GOOD}
    assert place.events == [ScrubFound(where="storage", digest=str(KEY.digest))]


async def test_a_bad_object_that_nobody_has_is_removed(place: Place) -> None:
    place.there(BAD)
    assert (await place.scrub().run()).bad == 1
    assert place.durable.kept == {}


async def test_a_bad_local_copy_never_replaces_a_bad_object(place: Place) -> None:
    path = await place.here(BAD)
    place.there(BAD)
    assert (await place.scrub().run()).bad == 2
    assert not path.exists()
    assert place.durable.kept == {}


async def test_what_cannot_be_read_is_left_alone(place: Place) -> None:
    path = await place.here(GOOD)
    path.unlink()
    path.mkdir()  # Reading it fails with EISDIR, as a bad sector does with EIO.
    place.there(BAD)
    place.durable.unreadable = True
    done = await place.scrub().run()
    assert done == Scrubbed(unread=2)
    assert path.exists()
    assert place.durable.kept == {KEY: BAD}
    path.rmdir()


async def test_what_cannot_be_removed_does_not_end_the_scrub(place: Place) -> None:
    place.there(BAD)
    place.durable.undeletable = True
    done = await place.scrub().run()
    assert (done.bad, done.unread) == (1, 1)


async def test_a_store_that_is_away_is_said(place: Place) -> None:
    place.durable.failing = True
    with pytest.raises(StorageUnavailable):
        await place.scrub().run()


async def test_a_scrub_is_no_use_of_a_blob(place: Place) -> None:
    path = await place.here(GOOD)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    await place.scrub().run()
    assert path.stat().st_atime == 1_000_000_000


async def test_it_reads_no_faster_than_it_may(place: Place) -> None:
    place.there(GOOD)
    place.speed = len(GOOD) / 0.3
    loop = asyncio.get_running_loop()
    began = loop.time()
    await place.scrub().run()
    assert loop.time() - began >= 0.29


async def test_who_asks_meanwhile_gets_the_outcome_of_the_one_that_runs(place: Place) -> None:
    place.there(GOOD)
    place.durable.gate.clear()
    scrub = place.scrub()
    one, two = asyncio.create_task(scrub.run()), asyncio.create_task(scrub.run())
    await until(lambda: place.durable.reads, "it reads")
    assert not two.done()
    one.cancel()
    place.durable.gate.set()
    assert (await two).blobs == 1
    assert place.durable.reads == 1
    assert (await scrub.run()).blobs == 1
    assert place.durable.reads == 2


async def test_the_store_is_read_by_one_replica_the_local_tier_by_each(place: Place) -> None:
    await place.here(GOOD)
    place.there(BAD)
    async with place.coordination.try_hold("scrub"):
        done = await place.scrub().run()
    assert (done.blobs, done.elsewhere) == (1, True)
    assert place.durable.kept == {KEY: BAD}


async def test_it_stops_when_told_to(place: Place) -> None:
    place.there(GOOD)
    place.durable.gate.clear()
    scrub = place.scrub()
    running = asyncio.create_task(scrub.run())
    await until(lambda: place.durable.reads, "it reads")
    async with asyncio.timeout(10):
        await scrub.aclose()
        with pytest.raises(asyncio.CancelledError):
            await running
