"""The storage ports' promises where they are easily broken: conditions that race,
listings in order, readers and writers at once. On disk and in memory; what S3 does
beside them is in `test_storage_s3.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Blobs, Record, Records
from proxy.storage.local import LocalStorage
from tests.support.memory_storage import MemoryBlobs, MemoryRecords

KINDS = ["disk", "memory"]


@dataclass(frozen=True, slots=True)
class Store:
    blobs: Blobs
    records: Records
    folder: Path

    async def put(self, data: bytes, group: str = "public") -> BlobKey:
        key = BlobKey(group, Digest.of(data))
        source = self.folder / f"sealed-{os.urandom(8).hex()}"
        source.write_bytes(data)
        await self.blobs.put(key, source)
        return key

    async def read(self, key: BlobKey, *, start: int = 0, end: int | None = None) -> bytes | None:
        async with self.blobs.open(key, start=start, end=end) as body:
            if body is None:
                return None
            assert body.offset == start
            return b"".join([piece async for piece in body.chunks])


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Store]:
    if kind == "memory":
        yield Store(MemoryBlobs(), MemoryRecords(), folder)
        return
    root = folder / "data"
    async with LocalStorage(
        root, bytes_max=None, free_bytes_min=0, observe=lambda _event: None
    ) as disk:
        yield Store(disk.blobs, disk.records, folder)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(request.param, tmp_path) as one:
        yield one


# --- records -------------------------------------------------------------------


async def test_of_many_who_write_first_one_does(store: Store) -> None:
    written = await asyncio.gather(
        *(store.records.put("repos/a/x", bytes([n]), expect=None) for n in range(20))
    )
    assert written.count(True) == 1
    record = await store.records.get("repos/a/x")
    assert record is not None
    assert record.value == bytes([written.index(True)])


async def test_of_many_who_replace_the_same_version_one_does(store: Store) -> None:
    await store.records.put("repos/a/x", b"old")
    old = await store.records.get("repos/a/x")
    written = await asyncio.gather(
        *(store.records.put("repos/a/x", bytes([n]), expect=old) for n in range(20))
    )
    assert written.count(True) == 1


async def test_a_counter_loses_no_step_to_concurrency(store: Store) -> None:
    await store.records.put("repos/a/count", b"0")

    async def step() -> None:
        while True:
            record = await store.records.latest("repos/a/count")
            assert record is not None
            more = str(int(record.value) + 1).encode()
            if await store.records.put("repos/a/count", more, expect=record):
                return

    await asyncio.gather(*(step() for _ in range(15)))
    record = await store.records.get("repos/a/count")
    assert record is not None
    assert record.value == b"15"


async def test_a_version_that_was_never_there_replaces_nothing(store: Store) -> None:
    ghost = Record(b"1", "of another life")
    assert not await store.records.put("repos/a/x", b"2", expect=ghost)
    assert await store.records.get("repos/a/x") is None


async def test_a_reader_sees_one_whole_value_while_it_is_replaced(store: Store) -> None:
    values = [bytes([n]) * 50_000 for n in range(1, 20)]
    await store.records.put("repos/a/x", values[0])
    seen: list[bytes] = []

    async def write() -> None:
        for value in values:
            await store.records.put("repos/a/x", value)

    writing = asyncio.create_task(write())
    while not writing.done():
        record = await store.records.get("repos/a/x")
        assert record is not None
        seen.append(record.value)
        await asyncio.sleep(0)
    await writing
    assert set(seen) <= set(values)


PARTS = st.sampled_from(["a", "b", "a-b", "a.b", "ab", "_tags", "_links", "A", "z~"])
KEYS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


def storable(keys: set[str]) -> list[str]:
    """Without those that are another's folder: our layout never has them."""
    return [key for key in keys if not any(other.startswith(key + "/") for other in keys)]


@pytest.mark.parametrize("kind", KINDS)
@given(names=st.sets(KEYS, max_size=15), after=KEYS | st.just(""), prefix=PARTS)
@settings(max_examples=40)
def test_keys_are_listed_in_ascii_order_after_any_key(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    names: set[str],
    after: str,
    prefix: str,
) -> None:
    keys = [f"repos/{name}" for name in storable(names)]

    async def check() -> None:
        async with opened(kind, tmp_path_factory.mktemp("store")) as store:
            for key in keys:
                await store.records.put(key, b"{}")
            for folder in ("repos", f"repos/{prefix}"):
                inside = sorted(key for key in keys if key.startswith(folder + "/"))
                assert [key async for key in store.records.list(folder)] == inside
                bound = f"repos/{after}"
                later = [key async for key in store.records.list(folder, after=bound)]
                assert later == [key for key in inside if key > bound]

    asyncio.run(check())


# --- blobs ---------------------------------------------------------------------


async def test_many_who_put_the_same_blob_leave_one(store: Store) -> None:
    keys = await asyncio.gather(*(store.put(b"same" * 1000) for _ in range(10)))
    assert len(set(keys)) == 1
    assert await store.read(keys[0]) == b"same" * 1000
    assert [key async for key in store.blobs.list("public")] == [keys[0]]


async def test_a_reader_finishes_although_the_blob_is_deleted(store: Store) -> None:
    data = os.urandom(3_000_000)
    key = await store.put(data)
    async with store.blobs.open(key) as body:
        assert body is not None
        received = await anext(body.chunks)
        await store.blobs.delete(key)
        async for piece in body.chunks:
            received += piece
    assert received == data
    assert await store.blobs.stat(key) is None
    assert await store.read(key) is None


async def test_a_blob_can_come_back(store: Store) -> None:
    key = await store.put(b"again")
    await store.blobs.delete(key)
    await store.blobs.delete(key)
    await store.put(b"again")
    assert await store.read(key) == b"again"


async def test_the_inventory_tells_the_size_of_each_blob_of_a_group(store: Store) -> None:
    keys = {await store.put(bytes(size), "mine"): size for size in (0, 1, 70_000)}
    await store.put(b"theirs", "theirs")
    told = {one.key: one.size async for one in store.blobs.inventory("mine")}
    assert told == keys
    assert [one async for one in store.blobs.inventory("nobody")] == []


async def test_a_sha512_blob_is_kept_under_its_own_name(store: Store) -> None:
    data = b"longer name"
    key = BlobKey("public", Digest.of(data, "sha512"))
    source = store.folder / "sealed"
    source.write_bytes(data)
    await store.blobs.put(key, source)
    assert await store.read(key, start=2, end=5) == data[2:5]
    assert [one async for one in store.blobs.list("public")] == [key]
