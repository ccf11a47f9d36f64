"""Blobs as files: single operations, all of which block and belong in a thread.

They raise `StorageUnavailable` (`NoSpace` for a full disk) and know nothing of
budgets, open descriptors or the event loop.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from proxy.cache import keys
from proxy.cache.local import OpenFile
from proxy.ports import BlobKey
from proxy.storage import files


class FileTimes(NamedTuple):
    """Size in bytes; when it was stored and last used, in seconds since the epoch."""

    size: int
    stored_at: float
    used_at: float


class BlobFiles:
    """Those below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, key: BlobKey) -> Path:
        """Where it is, if it is."""
        return self._root / keys.blob(key)

    def open(self, key: BlobKey) -> OpenFile | None:
        """The blob, held once for the caller."""
        try:
            fd = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.translate(error, f"opening {key.digest}") from error
        return OpenFile(fd, os.fstat(fd).st_size)

    def read(self, key: BlobKey, size_max: int) -> bytes | None:
        """The whole blob if there is one of at most `size_max` bytes."""
        file = self.open(key)
        if file is None:
            return None
        try:
            return None if file.size > size_max else os.pread(file.fd, file.size, 0)
        except OSError as error:
            raise files.translate(error, f"reading {key.digest}") from error
        finally:
            os.close(file.fd)

    def peek(self, key: BlobKey, size_max: int) -> bytes | None:
        """As `read`, but it is no use of the blob: its file's times stay."""
        try:
            fd = _open_unnoticed(self.path(key))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.translate(error, f"opening {key.digest}") from error
        try:
            size = os.fstat(fd).st_size
            return None if size > size_max else os.pread(fd, size, 0)
        except OSError as error:
            raise files.translate(error, f"reading {key.digest}") from error
        finally:
            os.close(fd)

    def look(self, key: BlobKey) -> FileTimes | None:
        """Its size and times."""
        try:
            stat = self.path(key).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.translate(error, f"looking for {key.digest}") from error
        return FileTimes(stat.st_size, stat.st_mtime, stat.st_atime)

    def stat(self, key: BlobKey) -> int | None:
        """Size in bytes."""
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.translate(error, f"looking for {key.digest}") from error

    def touch(self, key: BlobKey, now: float) -> None:
        """Note a use; raises nothing."""
        # Lost touches only make eviction a little less clever.
        with contextlib.suppress(OSError):
            path = self.path(key)
            os.utime(path, (now, path.stat().st_mtime))

    def move(self, key: BlobKey, source: Path) -> int:
        """Make an fsynced file the blob; by how many bytes the store grew."""
        path = self.path(key)
        before = self.stat(key) or 0
        try:
            status = source.stat()
            # A resumed spool is old, the blob is not.
            os.utime(source, (time.time(), status.st_mtime))
            files.move(source, path)
        except OSError as error:
            raise files.translate(error, f"keeping {key.digest}") from error
        return status.st_size - before

    def write(self, key: BlobKey, data: bytes) -> int:
        """Make verified bytes the blob; by how many bytes the store grew."""
        before = self.stat(key) or 0
        try:
            files.write_whole(self.path(key), data, temporary=self._root / "tmp")
        except OSError as error:
            raise files.translate(error, f"keeping {key.digest}") from error
        return len(data) - before

    def delete(self, key: BlobKey) -> int:
        """Remove it; by how many bytes the store shrank."""
        size = self.stat(key) or 0
        try:
            self.path(key).unlink(missing_ok=True)
        except OSError as error:
            raise files.translate(error, f"deleting {key.digest}") from error
        return size


def _open_unnoticed(path: Path) -> int:
    """The times of its use are eviction's; the kernel would change them, too."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        # Only its owner may ask for that.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
