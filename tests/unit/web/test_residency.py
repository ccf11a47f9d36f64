"""Whether a send would wait for the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.cache.local import OpenFile
from proxy.web import residency
from proxy.web.residency import lately_resident, read_in, resident

SIZE = 1024 * 1024


@pytest.fixture
def fd(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    yield descriptor
    os.close(descriptor)


def drop(fd: int, offset: int, count: int) -> bool:
    """Take pages out of the cache; False where the file system has none to take out."""
    os.posix_fadvise(fd, offset, count, os.POSIX_FADV_DONTNEED)
    return not resident(fd, offset, count)


def test_what_was_just_written_is_there(fd: int) -> None:
    assert resident(fd, 0, SIZE)
    assert resident(fd, 12_345, 1)
    assert resident(fd, SIZE - 1, 1)


def test_one_page_that_is_missing_is_seen_wherever_it_is(fd: int) -> None:
    if not drop(fd, 0, SIZE):
        pytest.skip("the temporary folder is in memory: nothing there ever waits")
    read_in(fd, 0, SIZE)
    assert resident(fd, 0, SIZE)
    drop(fd, 400 * 1024, 4096)
    assert not resident(fd, 0, SIZE)
    assert not resident(fd, 400 * 1024 + 5, 1)
    assert resident(fd, 0, 4096)
    read_in(fd, 300 * 1024, 200 * 1024)
    assert resident(fd, 300 * 1024, 200 * 1024)


def test_a_file_that_ends_early_is_read_as_far_as_it_goes(fd: int) -> None:
    os.ftruncate(fd, 5000)
    read_in(fd, 0, SIZE)
    assert resident(fd, 0, 5000)


def test_a_descriptor_that_is_none_waits_for_nothing() -> None:
    assert resident(-1, 0, 100)


def test_one_answer_does_for_all_who_read_the_same_at_once(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    now = 100.0

    def looked(_fd: int, offset: int, count: int) -> bool:
        asked.append((offset, count))
        return offset < 500

    monkeypatch.setattr(residency, "resident", looked)
    monkeypatch.setattr(residency.time, "monotonic", lambda: now)
    file = OpenFile(os.dup(fd), SIZE)
    for _ in range(3):
        assert lately_resident(file, 0, 100)
        assert lately_resident(file, 100, 200)
        assert lately_resident(file, 50, 250)
    assert asked == [(0, 100), (100, 200)]
    # A bit more than is known, something apart, and what is not there are looked at.
    assert lately_resident(file, 250, 51)
    assert not lately_resident(file, 600, 10)
    assert not lately_resident(file, 600, 10)
    assert asked[2:] == [(250, 51), (600, 10), (600, 10)]
    # What was found is good for as long as its first part.
    now += 0.021
    assert lately_resident(file, 100, 10)
    assert asked[5:] == [(100, 10)]
    file.release()
