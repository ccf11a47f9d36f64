"""S3 keeps the storage ports' promises: on real servers, and on the fake one.

The fake stands in for servers with other manners elsewhere, so it has to pass here,
with and without conditional writes; `disk` says that the promises are the same ones.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.config import S3Settings
from proxy.oci.digest import Digest
from proxy.ports import BlobKey, Blobs, Records
from proxy.storage.local import LocalStorage
from proxy.storage.s3 import S3Storage
from tests.support.fake_s3 import FakeS3
from tests.support.minio import Minio
from tests.support.seaweed import Seaweed

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    blobs: Blobs
    records: Records
    folder: Path

    async def put(self, data: bytes, group: str = "public") -> BlobKey:
        key = BlobKey(group, Digest.parse("sha256:" + hashlib.sha256(data).hexdigest()))
        source = self.folder / f"sealed-{uuid.uuid4().hex}"
        source.write_bytes(data)
        await self.blobs.put(key, source)
        return key

    async def read(self, key: BlobKey, *, start: int = 0, end: int | None = None):
        """Size, offset and bytes; None if it is not there."""
        async with self.blobs.open(key, start=start, end=end) as body:
            if body is None:
                return None
            return body.size, body.offset, b"".join([piece async for piece in body.chunks])


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with Seaweed(tmp_path_factory.mktemp("s3") / "seaweed") as server:
        yield server


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    with Minio(tmp_path_factory.mktemp("s3") / "minio") as server:
        yield server


@pytest.fixture(
    params=["disk", "fake", "fake without conditions", "seaweed", "seaweed prefix", "minio"]
)
async def stored(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stored]:
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    if request.param == "disk":
        disk = LocalStorage(
            tmp_path / "data", bytes_max=None, free_bytes_min=0, observe=lambda _event: None
        )
        async with disk:
            yield Stored(disk.blobs, disk.records, sealed)
    elif "fake" in request.param:
        async with (
            FakeS3(conditions="without" not in request.param) as fake,
            S3Storage(fake.settings(), observe=lambda _event: None) as s3,
        ):
            yield Stored(s3.blobs, s3.records, sealed)
    else:
        server: Seaweed | Minio = request.getfixturevalue(request.param.split()[0])
        prefix = f"{uuid.uuid4().hex}/two" if "prefix" in request.param else uuid.uuid4().hex
        settings = S3Settings.model_validate(server.settings(prefix=prefix))
        async with S3Storage(settings, observe=lambda _event: None) as s3:
            yield Stored(s3.blobs, s3.records, sealed)


def absent(group: str = "public") -> BlobKey:
    return BlobKey(group, Digest.parse("sha256:" + hashlib.sha256(os.urandom(8)).hexdigest()))


# --- blobs ---------------------------------------------------------------------


async def test_what_was_never_put_is_absent(stored: Stored):
    assert await stored.blobs.stat(absent()) is None
    assert await stored.read(absent()) is None
    assert await stored.read(absent(), start=5) is None
    assert await stored.read(absent(), start=5, end=5) is None
    await stored.blobs.delete(absent())


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * MIB + 1])
async def test_a_blob_is_read_as_it_was_put(stored: Stored, size: int):
    data = os.urandom(size)
    key = await stored.put(data)
    assert await stored.blobs.stat(key) == size
    assert await stored.read(key) == (size, 0, data)


async def test_a_blob_of_many_parts_is_read_as_it_was_put(stored: Stored):
    data = os.urandom(MIB) * 37 + b"end"
    key = await stored.put(data)
    assert await stored.blobs.stat(key) == len(data)
    size, offset, read = await stored.read(key)
    assert (size, offset, hashlib.sha256(read).hexdigest()) == (len(data), 0, key.digest.hex)


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (0, 10), (3, None), (3, 7), (9, None), (9, 99), (4, 4), (10, None)]
)
async def test_a_part_of_a_blob_can_be_read(stored: Stored, start: int, end: int | None):
    key = await stored.put(b"0123456789")
    assert await stored.read(key, start=start, end=end) == (10, start, b"0123456789"[start:end])


async def test_putting_again_is_harmless(stored: Stored):
    first = await stored.put(b"same")
    assert await stored.put(b"same") == first
    assert await stored.read(first) == (4, 0, b"same")


async def test_a_deleted_blob_is_absent(stored: Stored):
    key = await stored.put(b"going")
    await stored.blobs.delete(key)
    assert await stored.blobs.stat(key) is None
    await stored.blobs.delete(key)


async def test_a_reader_that_leaves_half_way_harms_nobody(stored: Stored):
    data = os.urandom(4 * MIB)
    key = await stored.put(data)
    async with stored.blobs.open(key) as body:
        assert body is not None
        assert await anext(body.chunks)
    assert await stored.read(key) == (len(data), 0, data)


async def test_groups_do_not_see_each_other(stored: Stored):
    mine = {await stored.put(bytes([number]), "mine") for number in range(5)}
    theirs = await stored.put(b"theirs", "theirs")
    assert {key async for key in stored.blobs.list("mine")} == mine
    assert await stored.blobs.stat(BlobKey("mine", theirs.digest)) is None
    assert [key async for key in stored.blobs.list("nobody")] == []


# --- records -------------------------------------------------------------------


async def test_a_record_is_read_as_it_was_put(stored: Stored):
    assert await stored.records.get("repos/r/a") is None
    assert await stored.records.put("repos/r/a", b"1")
    assert await stored.records.put("repos/r/a", b"2")
    record = await stored.records.get("repos/r/a")
    assert record is not None
    assert record.value == b"2"


async def test_an_empty_record_and_a_large_one_are_kept(stored: Stored):
    for value in (b"", os.urandom(3 * MIB)):
        await stored.records.put("repos/r/a", value)
        record = await stored.records.get("repos/r/a")
        assert record is not None
        assert record.value == value


async def test_a_record_is_written_only_if_there_is_none_when_that_is_asked(stored: Stored):
    assert await stored.records.put("repos/r/a", b"1", expect=None)
    assert not await stored.records.put("repos/r/a", b"2", expect=None)
    record = await stored.records.get("repos/r/a")
    assert record is not None
    assert record.value == b"1"


async def test_a_record_is_replaced_only_in_the_version_that_was_read(stored: Stored):
    await stored.records.put("repos/r/a", b"1")
    old = await stored.records.get("repos/r/a")
    assert old is not None
    assert await stored.records.put("repos/r/a", b"2", expect=old)
    assert not await stored.records.put("repos/r/a", b"3", expect=old)
    new = await stored.records.get("repos/r/a")
    assert new is not None
    assert (new.value, new.version != old.version) == (b"2", True)


async def test_a_record_that_has_gone_is_not_replaced(stored: Stored):
    await stored.records.put("repos/r/a", b"1")
    old = await stored.records.get("repos/r/a")
    await stored.records.delete("repos/r/a")
    assert not await stored.records.put("repos/r/a", b"2", expect=old)
    assert await stored.records.get("repos/r/a") is None
    await stored.records.delete("repos/r/a")


async def test_keys_are_listed_in_the_order_of_bytes_and_after_any_of_them(stored: Stored):
    keys = sorted(
        f"repos/r/{name}"
        for name in (
            *("a-b/_tags/1", "a.b/_tags/1", "a/_tags/1", "a/_tags/1.0", "a/_tags/1-b"),
            *("a/c/_tags/x", "a/c/_exposed", "a_b/_tags/z", "b/_tags/latest"),
        )
    )
    for key in keys:
        await stored.records.put(key, b"{}")
    await stored.records.put("repos/r2/a/_tags/1", b"{}")
    assert [key async for key in stored.records.list("repos/r")] == keys
    for index, after in enumerate(keys):
        rest = [key async for key in stored.records.list("repos/r", after=after)]
        assert rest == keys[index + 1 :]
    between = [key async for key in stored.records.list("repos/r", after="repos/r/a/_tags/0")]
    assert between == [key for key in keys if key > "repos/r/a/_tags/0"]


async def test_a_folder_and_a_key_that_is_its_beginning_are_two_things(stored: Stored):
    await stored.records.put("repos/r/ab", b"1")
    assert [key async for key in stored.records.list("repos/r/a")] == []
    assert [key async for key in stored.records.list("repos/r")] == ["repos/r/ab"]


async def test_what_is_no_key_is_a_mistake_of_the_caller(stored: Stored):
    for key in ("", "a//b", "/a", "a/", "../a", "a/./b", "a\0b"):
        with pytest.raises(ValueError, match="not a record key"):
            await stored.records.get(key)
