"""The writing side of a spool: the file, the running hash, the journal.

Methods named `*_blocking` do disk work and belong in a thread; only one of the
writing ones may run at a time (the pump sees to that), `journal_blocking` beside
it. Nothing here knows of readers.

Space is never allocated while bytes are written: where a file system can't do it,
the C library writes zeros into each block that looks empty to it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from proxy.cache import journal
from proxy.cache.extents import Extents
from proxy.cache.local import OpenFile
from proxy.oci.digest import Digest, Hasher
from proxy.ports import Chunk

_REHASH_BYTES = 1024 * 1024
_CATCH_UP_BYTES = 16 * 1024 * 1024
_IOV_MAX = 512
# Of less there is no journal, and what an interrupted fill has is thrown away.
JOURNALED_BYTES_MIN = 1024 * 1024

Segment = tuple[int, Sequence[Chunk]]
"""Bytes that follow each other, and where the first of them belongs."""


class SpoolFile:
    """A file for a blob of `size` bytes. Open after `create_blocking` or
    `reopen_blocking`, until `close`.
    """

    def __init__(self, path: Path, digest: Digest, size: int) -> None:
        self.path = path
        self.digest = digest
        self.size = size
        self.file: OpenFile | None = None
        self.closed = False
        self.allocated = False
        self._hasher: Hasher = digest.hasher()
        self._hashed = 0
        self._landed = Extents()
        self._journal_fd = -1
        self._journal_lost = True
        self._unvouched = False
        self._boundary: journal.Extent | None = None
        self._journaled = 0
        # Stretches further on that the journal vouches for.
        self._pieces = Extents()
        self._touching = threading.Lock()

    def create_blocking(self, *, whole: bool = True) -> None:
        """A new file; `whole`: with all its space allocated.

        Raises OSError (`ENOSPC` when full).
        """
        flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC
        fd = os.open(self.path, flags, 0o600)
        self.file = OpenFile(fd, self.size)
        os.ftruncate(fd, self.size)
        if whole:
            self.allocate_blocking()
        if self.size > journal.EXTENT_BYTES:
            self._journal_fd = journal.create(self.path, self.digest, self.size)
            self._journal_lost = False

    def allocate_blocking(self) -> None:
        """Give it all the space it may need. Raises OSError (`ENOSPC` when full)."""
        if self.file is not None and self.size:
            with self._touching:
                os.posix_fallocate(self.file.fd, 0, self.size)
        self.allocated = True

    def reopen_blocking(self, said: journal.Journal) -> list[tuple[int, int]]:
        """Take over a file from before a restart; the stretches that are still good.

        Reads them all, since the whole digest needs that anyway: from the start up
        to the last journaled boundary whose hash still matches, then each stretch
        further on that has a hash of its own. Raises OSError.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.file = OpenFile(fd, self.size)
        boundaries = {e.end: e.hash for e in said.extents if e.start == 0 and e.end <= self.size}
        # The time tells it from an abandoned one; a longer file never becomes a blob.
        os.utime(fd)
        os.ftruncate(fd, self.size)
        good, hasher = 0, self.digest.hasher()
        running, offset = hasher.copy(), 0
        for end in sorted(boundaries):
            if not _hash_file(fd, offset, end, running) or running.hexdigest() != boundaries[end]:
                break
            good, hasher, offset = end, running.copy(), end
        self._hasher, self._hashed, self._journaled = hasher, good, good
        self._landed.add(0, good)
        for extent in said.extents:
            if extent.start > 0 and good < extent.end <= self.size:
                own = self.digest.hasher()
                if _hash_file(fd, extent.start, extent.end, own) and own.hexdigest() == extent.hash:
                    self._landed.add(extent.start, extent.end)
                    self._pieces.add(extent.start, extent.end)
        self._journal_fd = journal.reopen(self.path)
        self._journal_lost = False
        # Nothing will be written that could take the hash along.
        while self._landed.total == self.size and self.behind:
            self.write_blocking([])
        return list(self._landed)

    def write_blocking(self, segments: Iterable[Segment]) -> None:
        """Write, then hash what now follows without a gap, at most 16 MiB of it from
        the file (`behind` says whether there is more). Raises OSError.
        """
        if self.file is None:
            raise ValueError("the spool is not open")
        with self._touching:
            for start, chunks in segments:
                self._write_segment(self.file.fd, start, chunks)
        self._unvouched = True
        end = min(self._landed.end_at(self._hashed), self._hashed + _CATCH_UP_BYTES)
        while self._hashed < end:
            data = os.pread(self.file.fd, min(_REHASH_BYTES, end - self._hashed), self._hashed)
            if not data:
                raise OSError(errno.EIO, "the spool is shorter than it was")
            self._hash(data)

    def _write_segment(self, fd: int, start: int, chunks: Sequence[Chunk]) -> None:
        if start < self._hashed:
            known = min(self._hashed - start, sum(map(len, chunks)))
            start, chunks = start + known, [b"".join(chunks)[known:]]
        offset = start
        for first in range(0, len(chunks), _IOV_MAX):
            offset = _write_all(fd, chunks[first : first + _IOV_MAX], offset)
        if start == self._hashed:
            for chunk in chunks:
                self._hash(chunk)
        self._landed.add(start, offset)

    @property
    def hashed(self) -> int:
        """Up to here the file is hashed, and never written again."""
        return self._hashed

    @property
    def behind(self) -> bool:
        """Whether bytes wait in the file to be hashed; true only between two writes."""
        return self._landed.end_at(self._hashed) > self._hashed

    def _hash(self, chunk: Chunk) -> None:
        """Hash on, taking a snapshot where an extent of the journal ends."""
        room = journal.EXTENT_BYTES - self._hashed % journal.EXTENT_BYTES
        if len(chunk) < room:
            self._hasher.update(chunk)
            self._hashed += len(chunk)
            return
        view = memoryview(chunk)
        while view:
            piece = view[:room]
            self._hasher.update(piece)
            self._hashed += len(piece)
            view = view[room:]
            room = journal.EXTENT_BYTES - self._hashed % journal.EXTENT_BYTES
            if room == journal.EXTENT_BYTES:
                self._boundary = journal.Extent(0, self._hashed, self._hasher.copy().hexdigest())

    @property
    def unsynced(self) -> int:
        """Bytes written since the last journaled boundary."""
        return self._hashed - self._journaled

    @property
    def to_journal(self) -> journal.Extent | None:
        """An extent that is written and not yet vouched for."""
        boundary = self._boundary
        if self._journal_lost or boundary is None or boundary.end <= self._journaled:
            return None
        return boundary

    def journal_blocking(self, extent: journal.Extent) -> None:
        """Make an extent durable. May run beside `write_blocking`. Raises OSError."""
        self._journal([extent])

    def _journal(self, extents: Sequence[journal.Extent]) -> None:
        if self.file is None:
            return
        os.fdatasync(self.file.fd)
        try:
            journal.append(self._journal_fd, extents)
        except OSError:
            self._journal_lost = True  # It only costs a later resume.
            return
        for extent in extents:
            if extent.start == 0:
                self._journaled = max(self._journaled, extent.end)
            else:
                self._pieces.add(extent.start, extent.end)

    def journal_tail_blocking(self) -> None:
        """Vouch for all that is written, so that a stop loses nothing. Raises OSError."""
        if self.file is None or (self._journal_lost and not self._begin_journal()):
            return
        self._unvouched = False
        extents = []
        if self._hashed > self._journaled:
            extents.append(journal.Extent(0, self._hashed, self._hasher.copy().hexdigest()))
        for start, end in self._unvouched_pieces():
            hasher = self.digest.hasher()
            if _hash_file(self.file.fd, start, end, hasher):
                extents.append(journal.Extent(start, end, hasher.hexdigest()))
        if extents:
            self._journal(extents)

    def _begin_journal(self) -> bool:
        """For a smaller blob that comes slowly, or not to its end. Whether there is one now."""
        if self._journal_fd >= 0 or self.size < JOURNALED_BYTES_MIN or not self._landed.total:
            return False
        try:
            self._journal_fd = journal.create(self.path, self.digest, self.size)
        except OSError:
            return False
        self._journal_lost = False
        return True

    def _unvouched_pieces(self) -> Iterator[tuple[int, int]]:
        for landed, end in self._landed:
            start = max(landed, self._hashed)
            while (gap := self._pieces.gap(start, end)) is not None:
                start = min(gap[1], gap[0] + journal.EXTENT_BYTES)
                yield gap[0], start

    @property
    def unvouched(self) -> bool:
        """Whether bytes were written since all of them were made durable."""
        return self._unvouched and (self._journal_fd >= 0 or self.size >= JOURNALED_BYTES_MIN)

    @property
    def resumable(self) -> bool:
        """Whether the journal vouches for anything."""
        return self._journaled > 0 or len(self._pieces) > 0

    @property
    def complete(self) -> bool:
        """Whether all bytes are written and match the digest."""
        return self._hashed == self.size and self._hasher.hexdigest() == self.digest.hex

    def sync_blocking(self) -> None:
        """Force the bytes to disk; they may be renamed into place afterwards."""
        if self.file is not None:
            os.fdatasync(self.file.fd)

    def close(self) -> None:
        """Let go of the files; readers that hold the descriptor keep it.

        On the event loop, since that is where holders are counted.
        """
        self.closed = True
        if self._journal_fd >= 0:
            os.close(self._journal_fd)
            self._journal_fd = -1
        if self.file is not None:
            self.file.release()
            self.file = None

    def discard_blocking(self) -> None:
        """Remove what is on disk."""
        self.path.unlink(missing_ok=True)
        journal.path_of(self.path).unlink(missing_ok=True)


def _write_all(fd: int, chunks: Sequence[Chunk], offset: int) -> int:
    """`pwritev` until everything is written; the offset after it."""
    expected = sum(map(len, chunks))
    written = os.pwritev(fd, chunks, offset)
    if written < expected:
        rest = memoryview(b"".join(chunks))[written:]
        while rest:
            count = os.pwrite(fd, rest, offset + written)
            written += count
            rest = rest[count:]
    return offset + written


def _hash_file(fd: int, start: int, end: int, hasher: Hasher) -> bool:
    """Feed `[start, end)` of a file to a hash; False if the file is shorter."""
    while start < end:
        data = os.pread(fd, min(_REHASH_BYTES, end - start), start)
        if not data:
            return False
        hasher.update(data)
        start += len(data)
    return True
