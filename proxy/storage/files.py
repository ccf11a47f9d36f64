"""Small file operations that survive kill -9 and power loss. All of them block.

The order is always: write beside, fsync, rename. A reader sees the old file or
the new one, whole.
"""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

from proxy.errors import NoSpace, StorageUnavailable

_counter = itertools.count()


def translate(error: OSError, what: str) -> StorageUnavailable:
    """The error in our words; `NoSpace` for a full disk or quota."""
    kind = NoSpace if error.errno in {errno.ENOSPC, errno.EDQUOT} else StorageUnavailable
    return kind(f"{what}: {error.strerror or error}")


def write_whole(path: Path, data: bytes, *, temporary: Path) -> None:
    """Put `data` at `path`, durably, all or nothing.

    `temporary` is a folder on the same file system. Raises OSError with nothing
    left behind.
    """
    beside = temporary / f"{os.getpid()}-{next(_counter)}"
    fd = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fdatasync(fd)
        finally:
            os.close(fd)
        move(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def move(source: Path, path: Path) -> None:
    """Rename an fsynced file into place and make the name durable. Raises OSError."""
    try:
        source.rename(path)
    except FileNotFoundError:
        if not source.exists():
            raise
        path.parent.mkdir(parents=True, exist_ok=True)
        source.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
