"""The local tier's own promises: shared descriptors, none of them lost; room that is
accounted for; what keys may be.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache.local import OpenFile
from proxy.errors import NoSpace, StartupError, StorageUnavailable
from proxy.events import Event, Evicted
from proxy.oci.digest import Digest
from proxy.ports import BlobKey
from proxy.storage import files
from proxy.storage.data_dir import DataDir
from proxy.storage.disk import DiskBlobs
from proxy.storage.local import LocalStorage
from proxy.storage.records import DiskRecords
from tests.support.waiting import until


class Opened:
    """A local store with a budget of 10,000 bytes, and what it said."""

    def __init__(self, root: Path) -> None:
        self.events: list[Event] = []
        self.storage = LocalStorage(
            root, bytes_max=10_000, free_bytes_min=0, observe=self.events.append
        )
        self.root = root

    @property
    def blobs(self) -> DiskBlobs:
        return self.storage.blobs

    async def put(self, data: bytes) -> BlobKey:
        key = BlobKey("public", Digest.of(data))
        await self.blobs.put_bytes(key, data)
        return key

    async def until_counted(self) -> None:
        """What comes while it counts what there is may be counted twice."""
        await until(lambda: self.blobs.room.counted, "what there is is counted")


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Opened]:
    opened = Opened(tmp_path / "data")
    async with opened.storage:
        await opened.until_counted()
        yield opened


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_readers_of_one_blob_share_its_descriptor(disk: Opened) -> None:
    key = await disk.put(b"x" * 100)
    assert disk.blobs.peek(key) is None
    first = await disk.blobs.open_file(key)
    second = disk.blobs.peek(key)
    assert first is not None
    assert second is first
    # Two readers and the cache of open files.
    assert first.users == 3
    first.release()
    first.release()
    assert os.pread(first.fd, 5, 0) == b"xxxxx"
    disk.blobs.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pread(first.fd, 5, 0)


async def test_a_request_that_leaves_while_its_file_is_opened_leaves_no_descriptor(
    disk: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await disk.put(b"x" * 100)
    slow, opened = threading.Event(), disk.blobs._files.open

    def open_slowly(asked: BlobKey) -> OpenFile | None:
        file = opened(asked)
        slow.wait(5)
        return file

    monkeypatch.setattr(disk.blobs._files, "open", open_slowly)
    before = descriptors()
    asking = asyncio.create_task(disk.blobs.open_file(key))
    async with asyncio.timeout(5):
        await until(lambda: descriptors() != before, "it is opened")
        asking.cancel()
        slow.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await until(lambda: descriptors() == before, "it is closed", deadline_s=5)
    assert disk.blobs.peek(key) is None


async def test_a_blob_is_as_young_as_its_keeping_however_old_its_spool(disk: Opened) -> None:
    key = BlobKey("public", Digest.of(b"late"))
    sealed = disk.root / "tmp" / "sealed"
    sealed.write_bytes(b"late")
    os.utime(sealed, (1, 1))
    began = time.time()
    await disk.blobs.put(key, sealed)
    # Else what was resumed would be the first to be evicted.
    assert disk.blobs._files.path(key).stat().st_atime >= began - 1


async def test_room_is_accounted_for_to_the_byte(disk: Opened) -> None:
    room = disk.blobs.room
    a, b = await disk.put(b"a" * 4000), await disk.put(b"b" * 3000)
    await disk.put(b"a" * 4000)
    assert (room.used, room.reserved) == (7000, 0)
    await disk.blobs.reserve(2000)
    assert room.reserved == 2000
    # Only 1,000 bytes are left: the older blob makes room, more is not needed.
    os.utime(disk.blobs._files.path(a), (1, 1))
    await disk.blobs.reserve(1500)
    assert (room.used, room.reserved) == (3000, 3500)
    assert await disk.blobs.stat(a) is None
    assert await disk.blobs.stat(b) == 3000
    assert Evicted(count=1, size=4000) in disk.events
    disk.blobs.unreserve(3500)
    await disk.blobs.delete(b)
    await disk.blobs.delete(b)
    assert (room.used, room.reserved) == (0, 0)


async def test_what_can_never_fit_evicts_nothing(disk: Opened) -> None:
    key = await disk.put(b"a" * 4000)
    with pytest.raises(NoSpace):
        await disk.blobs.reserve(10_001)
    assert await disk.blobs.stat(key) == 4000
    assert disk.blobs.room.reserved == 0


async def test_a_left_spool_is_used_room_until_it_is_resumed(disk: Opened) -> None:
    room = disk.blobs.room
    await disk.blobs.reserve(6000)
    disk.blobs.unreserve(6000, left=6000)
    assert (room.reserved, room.left) == (0, 6000)
    with pytest.raises(NoSpace):
        await disk.blobs.reserve(5000)
    await disk.blobs.reserve(9000, left=6000)
    assert (room.reserved, room.left) == (9000, 0)


async def test_a_blob_that_is_held_open_is_not_evicted(disk: Opened) -> None:
    keys = [await disk.put(bytes([n]) * 3000) for n in range(3)]
    held = await disk.blobs.open_file(keys[0])
    assert held is not None
    for age, key in enumerate(keys):
        os.utime(disk.blobs._files.path(key), (100 + age, 1))
    await disk.blobs.reserve(3900)
    assert [await disk.blobs.stat(key) for key in keys] == [3000, None, 3000]
    held.release()


async def test_a_clean_stop_leaves_the_count_for_the_next_start(tmp_path: Path) -> None:
    first = Opened(tmp_path / "data")
    async with first.storage:
        await first.until_counted()
        await first.put(b"a" * 4000)
    assert (tmp_path / "data" / "usage").exists()
    second = Opened(tmp_path / "data")
    async with second.storage:
        assert (second.blobs.room.used, second.blobs.room.counted) == (4000, True)
        # So that an unclean stop does not leave an old number.
        assert not (tmp_path / "data" / "usage").exists()


async def test_a_stop_before_all_is_counted_leaves_no_count(tmp_path: Path) -> None:
    first = Opened(tmp_path / "data")
    async with first.storage:
        await first.until_counted()
        await first.put(b"a" * 4000)
    (tmp_path / "data" / "usage").unlink()  # as after a crash
    # Ends at once, as a process whose port is taken does.
    async with Opened(tmp_path / "data").storage:
        pass
    assert not (tmp_path / "data" / "usage").exists()
    third = Opened(tmp_path / "data")
    async with third.storage:
        await third.until_counted()
        assert third.blobs.room.used == 4000


def test_one_process_owns_a_folder(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path / "data"), DataDir(tmp_path / "data")
    first.open_blocking()
    with pytest.raises(StartupError, match="in use by another entrepot"):
        second.open_blocking()
    first.close()
    second.open_blocking()
    second.close()


def test_a_folder_of_another_layout_is_refused_and_given_back(tmp_path: Path) -> None:
    (tmp_path / "layout").write_text('{"v": 2}')
    before = descriptors()
    with pytest.raises(StartupError, match="has layout 2"):
        DataDir(tmp_path).open_blocking()
    assert descriptors() == before


def test_a_folder_that_is_a_file_is_refused_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StartupError, match="can't be used"):
        DataDir(tmp_path / "data").open_blocking()


@pytest.mark.parametrize("key", ["", "/x", "a//b", "../x", "a/../b", "a/.", "a/\0"])
async def test_a_key_that_leaves_its_folder_is_a_bug_and_no_file(tmp_path: Path, key: str) -> None:
    records = DiskRecords(tmp_path)
    with pytest.raises(ValueError, match="not a record key"):
        await records.get(key)
    with pytest.raises(ValueError, match="not a record key"):
        await records.put(key, b"")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_has_its_own_error(code: int) -> None:
    assert isinstance(files.translate(OSError(code, "full"), "x"), NoSpace)
    other = files.translate(OSError(errno.EIO, "broken"), "x")
    assert isinstance(other, StorageUnavailable)
    assert not isinstance(other, NoSpace)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "by a file").write_text("")
    with pytest.raises(OSError, match=r"(?i)directory"):
        files.write_whole(tmp_path / "taken", b"x", temporary=tmp_path / "tmp")
    assert os.listdir(tmp_path / "tmp") == []
