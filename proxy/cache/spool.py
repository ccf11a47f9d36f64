"""The growing file of a fill: one writer, many followers.

Followers ask `readable(offset)` how far they may read and `wait(offset)` for
more; they read the shared descriptor at their own pace, so a slow one delays
nobody and memory stays flat however many there are.

A reader of the *whole* blob gets the last 256 KiB only once the digest is
verified; a reader of a range gets what is there. After a failure `wait` raises
and the reader must cut its connection: it may hold bytes that were lies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from proxy.cache import journal
from proxy.cache.local import OpenFile
from proxy.errors import TransferBroken
from proxy.oci.digest import Digest, Hasher

WITHHELD_BYTES = 256 * 1024
_REHASH_BYTES = 1024 * 1024
_IOV_MAX = 512


class Spool:
    """Bytes `[0, written)` of a blob of `size` bytes, in a file.

    Methods named `*_blocking` do disk work and belong in a thread; only one of
    the writing ones may run at a time (the flight sees to that). All others
    belong to the event loop.
    """

    def __init__(self, path: Path, digest: Digest, size: int) -> None:
        self.path = path
        self.digest = digest
        self.size = size
        self.written = 0
        self.verified = False
        self.failure: BaseException | None = None
        self.file: OpenFile | None = None
        self._hasher: Hasher = digest.hasher()
        self._hashed = 0
        self.closed = False
        self._journal_fd = -1
        self._journal_lost = True
        self._boundary: journal.Extent | None = None
        self._journaled = 0
        self._waiters: list[asyncio.Future[None]] = []

    # --- followers ---------------------------------------------------------------

    def readable(self, *, whole: bool) -> int:
        """The end of what may be read now."""
        if self.verified or not whole:
            return self.written
        return min(self.written, max(0, self.size - WITHHELD_BYTES))

    async def wait(self, offset: int, *, whole: bool) -> None:
        """Return once there is something to read at `offset`.

        Raises `TransferBroken` when there never will be.
        """
        while self.readable(whole=whole) <= offset:
            if self.failure is not None:
                raise TransferBroken(f"the fill failed: {self.failure}") from self.failure
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def publish(self, written: int) -> None:
        """Bytes up to `written` are in the file."""
        self.written = written
        self._wake()

    def publish_verified(self) -> None:
        """The whole blob is there and is what its digest says."""
        self.written = self.size
        self.verified = True
        self._wake()

    def fail(self, cause: BaseException) -> None:
        """No more bytes will come."""
        if not self.verified and self.failure is None:
            self.failure = cause
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # --- the writer, in a thread -------------------------------------------------

    def create_blocking(self) -> None:
        """A new file with its space allocated. Raises OSError (`ENOSPC` when full)."""
        flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC
        fd = os.open(self.path, flags, 0o600)
        self.file = OpenFile(fd, self.size)
        if self.size:
            os.posix_fallocate(fd, 0, self.size)
        if self.size > journal.EXTENT_BYTES:
            self._journal_fd = journal.create(self.path, self.digest, self.size)
            self._journal_lost = False

    def reopen_blocking(self, said: journal.Journal) -> int:
        """Take over a file from before a restart; the length of what is still good.

        Reads it from the start, since the whole digest needs that anyway, and
        believes it up to the last journaled boundary whose hash still matches.
        Raises OSError.
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
        os.posix_fallocate(fd, 0, self.size)
        self._journal_fd = journal.reopen(self.path)
        self._journal_lost = False
        return good

    def write_blocking(self, chunks: Sequence[bytes]) -> int:
        """Append and hash; the new length. Raises OSError."""
        if self.file is None:
            raise ValueError("the spool is not open")
        offset = self._hashed
        for first in range(0, len(chunks), _IOV_MAX):
            offset = _write_all(self.file.fd, chunks[first : first + _IOV_MAX], offset)
        for chunk in chunks:
            self._hash(chunk)
        return self._hashed

    def _hash(self, chunk: bytes) -> None:
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
        if self.file is None:
            return
        os.fdatasync(self.file.fd)
        try:
            journal.append(self._journal_fd, extent)
            self._journaled = max(self._journaled, extent.end)
        except OSError:
            self._journal_lost = True  # It only costs a later resume.

    def journal_tail_blocking(self) -> None:
        """Vouch for all that is written, so that a stop loses nothing. Raises OSError."""
        if not self._journal_lost and self._hashed > self._journaled:
            extent = journal.Extent(0, self._hashed, self._hasher.copy().hexdigest())
            self.journal_blocking(extent)

    @property
    def resumable(self) -> bool:
        """Whether the journal vouches for anything."""
        return self._journaled > 0

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


def _write_all(fd: int, chunks: Sequence[bytes], offset: int) -> int:
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
