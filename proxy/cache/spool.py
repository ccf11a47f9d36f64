"""The growing file of a fill: one writer, many followers. It may have holes.

Followers ask `readable(offset)` how far they may read from where they are and
`wait(offset)` for more; they read the shared descriptor at their own pace, so a
slow one delays nobody and memory stays flat however many there are.

A reader of the *whole* blob gets the last 256 KiB only once the digest is
verified, and before that only what is hashed; a reader of a range gets what is
there. After a failure `wait` raises and the reader must cut its connection: it may
hold bytes that were lies. If they are known to be, nobody reads on.

Bytes may arrive in any order and more than once. They are hashed in order: those
that come in order from memory, those that came ahead from the file when the rest
has caught up. What is hashed is never written again, so the digest that is
verified is that of the file, and of what readers of the whole were sent.
"""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

from proxy.cache.extents import Extents
from proxy.cache.spool_file import SpoolFile
from proxy.errors import DigestMismatch, TransferBroken
from proxy.oci.digest import Digest

WITHHELD_BYTES = 256 * 1024


class Spool(SpoolFile):
    """What its followers see; `extents` are the bytes that may be read.

    All of it belongs to the event loop, but for the `*_blocking` methods of
    `SpoolFile`.
    """

    def __init__(self, path: Path, digest: Digest, size: int) -> None:
        super().__init__(path, digest, size)
        self.extents = Extents()
        self.verified = False
        self.failure: BaseException | None = None
        self.written_at = -math.inf
        """When bytes were last written, by `time.monotonic`."""
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def written(self) -> int:
        """How many bytes from the first one on are there without a gap."""
        return self.extents.end_at(0)

    def readable(self, offset: int, *, whole: bool) -> int:
        """The end of what may be read now from `offset` on; `offset` if nothing."""
        end = self.extents.end_at(offset)
        if self.verified:
            return end
        if isinstance(self.failure, DigestMismatch):
            return offset
        if whole:
            return max(offset, min(end, self.hashed, self.size - WITHHELD_BYTES))
        return end

    async def wait(self, offset: int, *, whole: bool) -> None:
        """Return once there is something to read at `offset`.

        Raises `TransferBroken` when there never will be.
        """
        while self.readable(offset, whole=whole) <= offset:
            if self.failure is not None:
                raise TransferBroken(f"the fill failed: {self.failure}") from self.failure
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def find(self, start: int, end: int) -> None:
        """These bytes are in the file since an earlier time; before anybody reads."""
        self.extents.add(start, end)

    def publish(self, start: int, end: int) -> None:
        """These bytes were just written to the file."""
        self.extents.add(start, end)
        self.written_at = time.monotonic()
        self._wake()

    def publish_hashed(self) -> None:
        """More of what is in the file is hashed."""
        self._wake()

    def publish_verified(self) -> None:
        """The whole blob is there and is what its digest says."""
        self.extents.add(0, self.size)
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
