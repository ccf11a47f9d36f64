"""The spool's sidecar: which bytes are surely on disk, and what they hash to.

JSON lines. The first names the blob; each later one vouches for an extent:
`{"start": a, "end": b, "hash": h}`, where `h` is the blob's own hash function
over the bytes `[a, b)`. A line is written only after those bytes were fsynced,
and is then fsynced itself, so whatever a crash or power cut leaves behind, a
line that can be read tells the truth about bytes that were on disk.

What is there from the start on is vouched for by extents that all start at 0:
their hashes are snapshots of the running hash that the fill computes anyway, so
the journal costs no second hashing (a separate hash per 8 MiB piece would cost
another 0.5 CPU-s/GB). Only stretches that were fetched ahead for readers of
ranges have extents, and hashes, of their own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.oci.digest import Digest

VERSION = 1
EXTENT_BYTES = 8 * 1024 * 1024
SUFFIX = ".journal"
_SIZE_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes `[start, end)` hash to `hash` (hex)."""

    start: int
    end: int
    hash: str


@dataclass(frozen=True, slots=True)
class Journal:
    """What a journal file says; `size` of the blob in bytes."""

    digest: str
    size: int
    extents: tuple[Extent, ...]


def path_of(spool: Path) -> Path:
    """The journal beside a spool."""
    return spool.with_name(spool.name + SUFFIX)


def create(spool: Path, digest: Digest, size: int) -> int:
    """A fresh journal, open for appending; the descriptor. Blocks. Raises OSError."""
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    fd = os.open(path_of(spool), flags, 0o600)
    try:
        head = {"v": VERSION, "digest": str(digest), "size": size}
        os.write(fd, json.dumps(head).encode() + b"\n")
    except OSError:
        os.close(fd)
        raise
    return fd


def reopen(spool: Path) -> int:
    """An existing journal, open for appending. Blocks. Raises OSError.

    Starts a line of its own: a torn last line must not swallow the next.
    """
    fd = os.open(path_of(spool), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, b"\n")
    except OSError:
        os.close(fd)
        raise
    return fd


def append(fd: int, extents: Sequence[Extent]) -> None:
    """Vouch for extents that are on disk. Blocks. Raises OSError."""
    facts = [{"start": one.start, "end": one.end, "hash": one.hash} for one in extents]
    lines = b"".join(json.dumps(fact).encode() + b"\n" for fact in facts)
    if os.write(fd, lines) < len(lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fdatasync(fd)


def left_bytes(spool: Path) -> int:
    """What a spool and its journal take on the disk, holes left out; 0 if there is
    none. Blocks.
    """
    total = 0
    for path in (spool, path_of(spool)):
        with contextlib.suppress(OSError):
            stat = path.stat()
            total += min(stat.st_size, stat.st_blocks * 512)
    return total


def read(spool: Path) -> Journal | None:
    """What the journal says, torn and foreign lines left out. Blocks.

    None if there is none or its head can't be read.
    """
    try:
        with path_of(spool).open("rb") as file:
            lines = file.read(_SIZE_MAX).splitlines()
    except OSError:
        return None
    match _json(lines[0]) if lines else None:
        case {"v": 1, "digest": str(digest), "size": int(size)} if size > 0:
            extents = [extent for line in lines[1:] if (extent := _extent(line)) is not None]
            return Journal(digest, size, tuple(extents))
        case _:
            return None


def _extent(line: bytes) -> Extent | None:
    match _json(line):
        case {"start": int(start), "end": int(end), "hash": str(digest)} if 0 <= start < end:
            return Extent(start, end, digest)
        case _:
            return None


def _json(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
