"""Whether a send would wait for the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.cache.local import OpenFile
from proxy.web import residency
from proxy.web.residency import all_cached, lately_resident, read_in, resident

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


@pytest.fixture(params=[resident, all_cached])
def there(request: pytest.FixtureRequest, fd: int) -> Callable[[int, int, int], bool]:
    """Both ways to ask: whether all was read in, and whether there is a page for all."""
    found: Callable[[int, int, int], bool] = request.param
    if found is all_cached and not found(fd, 0, SIZE):
        pytest.skip("this kernel, or the temporary folder's file system, can't count pages")
    return found


def test_what_was_just_written_is_there(there, fd: int) -> None:
    assert there(fd, 0, SIZE)
    assert there(fd, 12_345, 1)
    assert there(fd, SIZE - 1, 1)
    assert there(fd, SIZE - 5000, 5000)


def test_one_page_that_is_missing_is_seen_wherever_it_is(there, fd: int) -> None:
    if not drop(fd, 0, SIZE):
        pytest.skip("the temporary folder is in memory: nothing there ever waits")
    read_in(fd, 0, SIZE)
    assert there(fd, 0, SIZE)
    drop(fd, 400 * 1024, 4096)
    assert not there(fd, 0, SIZE)
    assert not there(fd, 400 * 1024 + 5, 1)
    assert there(fd, 0, 4096)
    read_in(fd, 300 * 1024, 200 * 1024)
    assert there(fd, 300 * 1024, 200 * 1024)


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


def test_what_can_not_be_counted_is_not_taken_to_be_there() -> None:
    assert not all_cached(-1, 0, 100)


class Looks:
    """What is asked of the kernel, with made-up answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.there = self.counted = True
        self.now = 100.0
        monkeypatch.setattr(residency, "resident", lambda *_: self._answer("looked", self.there))
        monkeypatch.setattr(residency, "all_cached", lambda *_: self._answer("c", self.counted))
        monkeypatch.setattr(residency.time, "monotonic", lambda: self.now)

    def _answer(self, what: str, answer: bool) -> bool:
        self.asked.append(what)
        return answer

    def later(self, seconds: float) -> list[str]:
        """What was asked until now."""
        self.now += seconds
        asked, self.asked = self.asked, []
        return asked


def test_large_stretches_that_were_seen_are_counted_for_a_while(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, file, mib = Looks(monkeypatch), OpenFile(os.dup(fd), SIZE), 1024 * 1024
    assert lately_resident(file, 0, mib)
    assert looks.later(0.1) == ["looked"]
    assert lately_resident(file, mib, mib)
    assert looks.later(0.1) == ["looked"]
    assert lately_resident(file, mib // 2, mib)
    assert looks.later(0.1) == ["c"]
    # Not all of it was seen.
    assert lately_resident(file, mib + 1, mib)
    assert looks.later(30) == ["looked"]
    assert lately_resident(file, 0, mib)
    assert looks.later(0.1) == ["looked"]
    file.release()


def test_when_fewer_are_counted_each_is_looked_at(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, file = Looks(monkeypatch), OpenFile(os.dup(fd), SIZE)
    assert lately_resident(file, 0, SIZE)
    assert looks.later(0.1) == ["looked"]
    looks.counted = False
    assert lately_resident(file, 0, SIZE)
    assert looks.later(0.1) == ["c", "looked"]
    looks.there = False
    assert not lately_resident(file, 0, SIZE)
    assert looks.later(0.1) == ["c", "looked"]
    # It is being read in: all are counted before any is there.
    looks.counted = True
    assert not lately_resident(file, 0, SIZE)
    assert looks.later(0.1) == ["looked"]
    file.release()
