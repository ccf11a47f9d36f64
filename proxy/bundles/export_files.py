"""Where a bundle is written: one file, or parts of one, under names of their own until all
of it is there.

    FILE.partial                     becomes FILE
    FILE.001.partial, .002.partial   become FILE.001, FILE.002, ...
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.errors import BadBundle
from proxy.storage.files import sync_folder

PARTIAL = ".partial"
FILE_MODE = 0o600
"""What is exported may be private."""

# So often what was written is sent to the disk: it does not pile up in memory, and a power
# cut costs little.
_SYNC_BYTES = 256 * 1024 * 1024
_READ_BYTES = 1024 * 1024


class Growing:
    """Bytes that are appended; what an earlier try has left is there from the beginning.

    part_size: bytes after which another part begins; None: everything is one file. All of
    it raises `OSError`. Use as a context manager; what is there stays there.
    """

    def __init__(self, path: Path, *, part_size: int | None) -> None:
        self._path = path
        self._part_size = part_size
        self._files: list[int] = []
        self._syncing: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._unsynced = 0
        self.size = 0

    def __enter__(self) -> Self:
        try:
            self._find()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def append(self, data: memoryview | bytes) -> None:
        """At the end."""
        view = memoryview(data)
        while view:
            number, offset = self._where(self.size)
            if number == len(self._files):
                self._open(number)
                os.ftruncate(self._files[number], 0)
            room = len(view) if self._part_size is None else self._part_size - offset
            written = os.pwrite(self._files[number], view[:room], offset)
            self.size += written
            self._unsynced += written
            view = view[written:]
        if self._unsynced >= _SYNC_BYTES:
            self._sync_soon()

    def read(self, at: int, count: int) -> bytes:
        """At most `count` bytes from `at` on; fewer at the end and of a part."""
        count = min(count, self.size - at, _READ_BYTES)
        if count <= 0:
            return b""
        number, offset = self._where(at)
        return os.pread(self._files[number], count, offset)

    def truncate(self, size: int) -> None:
        """Forget what is behind."""
        self._wait()
        number, offset = self._where(size)
        kept = number + 1 if offset or not number else number
        while len(self._files) > kept:
            os.close(self._files.pop())
            self._partial(len(self._files)).unlink()
        if number < len(self._files):
            os.ftruncate(self._files[number], offset)
        self.size = size

    def finish(self) -> list[Path]:
        """All of it is there: force it to the disk, give it its names; those."""
        self._wait()
        if not self._files:
            self._open(0)
        for file in self._files:
            os.fsync(file)
        finished = [self._final(number) for number in range(len(self._files))]
        for number, path in enumerate(finished):
            self._partial(number).rename(path)
        sync_folder(self._path.parent)
        return finished

    def _find(self) -> None:
        number = 0
        while self._there(number):
            self._open(number)
            size = os.fstat(self._files[number]).st_size
            number += 1
            if self._part_size is None:
                self.size = size
                return
            self.size += min(size, self._part_size)
            if size != self._part_size:
                os.ftruncate(self._files[-1], min(size, self._part_size))
                break
        # What comes behind a part that is not full was never meant to be read.
        while self._part_size is not None and self._there(number):
            self._partial(number).unlink()
            number += 1

    def _there(self, number: int) -> bool:
        """Whether there is a file of that number under its own name."""
        partial, final = self._partial(number), self._final(number)
        if partial.exists():
            return True
        if final.exists():
            # It was killed while it gave them names: they are taken back.
            final.rename(partial)
            return True
        return False

    def _open(self, number: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._files.append(os.open(self._partial(number), flags, FILE_MODE))

    def _where(self, at: int) -> tuple[int, int]:
        return (0, at) if self._part_size is None else divmod(at, self._part_size)

    def _final(self, number: int) -> Path:
        return self._path if self._part_size is None else part(self._path, number)

    def _partial(self, number: int) -> Path:
        return beside(self._final(number), PARTIAL)

    def _sync_soon(self) -> None:
        self._wait()
        self._syncing = self._thread.submit(_sync, self._files[-2:])
        self._unsynced = 0

    def _wait(self) -> None:
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def _close(self) -> None:
        self._thread.shutdown()
        while self._files:
            os.close(self._files.pop())


@contextlib.contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Nobody else writes `out` meanwhile. Raises `BadBundle` if somebody does, `OSError`."""
    path = beside(out, ".lock")
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadBundle(f"another export is writing {out}") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(fd)


def _sync(files: list[int]) -> None:
    for file in files:
        os.fdatasync(file)


def part(path: Path, number: int) -> Path:
    """The name of a part, counted from 0."""
    return beside(path, f".{number + 1:03}")


def beside(path: Path, suffix: str) -> Path:
    """A file of the same name and more."""
    return path.with_name(path.name + suffix)


def write_whole(path: Path, body: bytes) -> None:
    """A small file, there as a whole or not at all. Raises `OSError`."""
    partial = beside(path, PARTIAL)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with os.fdopen(os.open(partial, flags, FILE_MODE), "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)
