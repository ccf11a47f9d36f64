"""The local tier as the cache sees it: verified blobs as open files on this machine.

Without S3 it is the store itself; with S3 it is a cache of it. What it adds to
`ports.Blobs` is what `sendfile` needs: a file descriptor, shared by all readers
of a blob, that stays good when the blob is evicted under them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from proxy.cache.extents import Extents
from proxy.ports import BlobKey, Blobs


class Seen:
    """What of a file was in the page cache; times are monotonic, in seconds.

    `lately` are `(start, end, until)`: a moment ago. `pages` were all read in, and looked at
    one by one, until `pages_until`.
    """

    __slots__ = ("lately", "pages", "pages_until")

    def __init__(self) -> None:
        self.lately = (0, 0, 0.0)
        self.pages = Extents()
        self.pages_until = 0.0


class OpenFile:
    """A descriptor with a count of its users; closed when the last one lets go.

    Everybody reads at explicit offsets (`pread`, `sendfile`); the file position
    belongs to nobody.
    """

    __slots__ = ("_users", "fd", "seen", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.seen = Seen()
        self._users = 1

    @property
    def users(self) -> int:
        """How many hold it."""
        return self._users

    def hold(self) -> OpenFile:
        """One more user."""
        self._users += 1
        return self

    def release(self) -> None:
        """One user fewer; the last closes the descriptor."""
        self._users -= 1
        if self._users == 0:
            os.close(self.fd)

    def fileno(self) -> int:
        """What `loop.sendfile` asks for."""
        return self.fd


class LocalBlobs(Blobs, Protocol):
    """Blobs on this machine's disk, under a budget."""

    def peek(self, key: BlobKey) -> OpenFile | None:
        """The open file, held once more for the caller, if it is open already."""

    async def open_file(self, key: BlobKey) -> OpenFile | None:
        """The blob as an open file, held once for the caller."""

    async def read(self, key: BlobKey, size_max: int) -> bytes | None:
        """The whole blob if there is one of at most `size_max` bytes."""

    def touch(self, key: BlobKey) -> None:
        """Note that the blob was used (from memory, say), for eviction."""

    async def put_bytes(self, key: BlobKey, data: bytes) -> None:
        """Keep a small verified blob. Raises `NoSpace`, `StorageUnavailable`."""

    async def reserve(self, size: int, *, left: int = 0) -> None:
        """Set room aside, evicting for it. Undone by `unreserve`.

        `left` bytes of it are taken already, by the spool of an interrupted fill.
        Raises `NoSpace`, `StorageUnavailable`.
        """

    def unreserve(self, size: int, *, left: int = 0) -> None:
        """Give back what `reserve` set aside, whether it was used or not.

        `left` bytes stay on the disk, in the spool of an interrupted fill.
        """

    def spool_path(self, key: BlobKey) -> Path:
        """Where the growing file of a fill is; its journal is beside it."""
