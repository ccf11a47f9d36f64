"""Whether bytes of a file are in the page cache, and bringing them there.

`sendfile` (or a read) of a single page that is not stops the whole event loop for as
long as the disk takes. So each window is asked about first, by `mincore`: it sees each
page, also on overlayfs, tmpfs and FUSE, where `preadv2(RWF_NOWAIT)` can't tell. That
costs 0.004 to 0.03 CPU-s/GB, by machine, up to a sixth of all that sending costs. So
bytes that it has seen are counted from then on: `cachestat` (Linux 6.5) says how many
pages of a stretch are in the cache, in 0.0004 CPU-s/GB, but not whether they have been
read in yet; where that is less than all, or not to be had, `mincore` is asked again.

What this can't see is the kernel taking a page back in the microseconds until the send,
or, where a crowd sends the same bytes, in the 20 ms for which one answer does for all;
or a page that was taken back and that somebody else is reading in anew (a scrub, say),
for `_PAGES_S` after it was seen. Pages just used are the last to be taken.

Those who wait for the disk do so in threads of their own: a few dozen readers of one
hanging disk would otherwise take all of the loop's, which everybody needs who looks up
a record or a host name.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import time
from concurrent.futures import ThreadPoolExecutor

from proxy.cache.extents import Extents
from proxy.cache.local import OpenFile

# As many as a fast disk likes to be asked for at a time.
_threads = ThreadPoolExecutor(16, thread_name_prefix="read-in")
_PIECE_BYTES = 1024 * 1024
_LATELY_S = 0.02
_PAGES_S = 30.0
# Less than this is looked at about as fast as counted.
_COUNTED_BYTES_MIN = 1024 * 1024
_CACHESTAT = 451  # its number everywhere but on Alpha
_FAILED = ctypes.c_void_p(-1).value

# Without giving up the interpreter lock: none of these waits.
_libc = ctypes.PyDLL(None)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_mincore = _libc.mincore
_mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2 + [ctypes.c_long]


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Counts(ctypes.Structure):
    """cachestat(2): pages in the cache, and four more numbers."""

    _fields_ = (("cached", ctypes.c_uint64), ("others", ctypes.c_uint64 * 4))


def resident(fd: int, offset: int, count: int) -> bool:
    """Whether all of `[offset, offset + count)` can be read without waiting.

    True, too, where nobody can tell (the file is not ours, no memory for a mapping).
    """
    start = offset - offset % mmap.PAGESIZE
    length = offset + count - start
    address = _mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, start)
    if address == _FAILED:
        return True
    try:
        pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        if _mincore(address, length, pages) != 0:
            return True
        # The lowest bit says it; the kernel leaves the others 0.
        return b"\0" not in pages.raw
    finally:
        _munmap(address, length)


def all_cached(fd: int, offset: int, count: int) -> bool:
    """Whether all pages of `[offset, offset + count)` are in the cache, read in or not yet.

    False, too, where nobody can tell (an older kernel, overlayfs, the file is not ours).
    """
    start = offset - offset % mmap.PAGESIZE
    length = offset + count - start
    span, counts = _Range(start, length), _Counts()
    failed = _syscall(_CACHESTAT, fd, ctypes.byref(span), ctypes.byref(counts), 0)
    return not failed and counts.cached >= -(-length // mmap.PAGESIZE)


def lately_resident(file: OpenFile, offset: int, count: int) -> bool:
    """`resident`, asked once in a while for all readers of a file."""
    now = time.monotonic()
    start, end, until = file.seen.lately
    fresh = now < until
    if fresh and start <= offset and offset + count <= end:
        return True
    if not _still_there(file, offset, count, now):
        if not resident(file.fd, offset, count):
            # What is being read in is counted before it is there.
            file.seen.pages_until = 0.0
            return False
        if count >= _COUNTED_BYTES_MIN:
            file.seen.pages.add(offset, offset + count)
    if fresh and start <= offset <= end:
        file.seen.lately = (start, max(end, offset + count), until)
    else:
        file.seen.lately = (offset, offset + count, now + _LATELY_S)
    return True


def _still_there(file: OpenFile, offset: int, count: int, now: float) -> bool:
    seen = file.seen
    if now >= seen.pages_until:
        seen.pages, seen.pages_until = Extents(), now + _PAGES_S
    return seen.pages.gap(offset, offset + count) is None and all_cached(file.fd, offset, count)


async def bring_in(fd: int, offset: int, count: int) -> None:
    """`read_in`, in a thread. Raises OSError."""
    await asyncio.get_running_loop().run_in_executor(_threads, read_in, fd, offset, count)


def read_in(fd: int, offset: int, count: int) -> None:
    """Bring `[offset, offset + count)` into the page cache. Blocks. Raises OSError.

    By reading all of it: read-ahead alone is advice, of which the kernel takes as much
    as it likes (and of a window of 16 MiB the first 128 KiB to 1 MiB).
    """
    os.posix_fadvise(fd, offset, count, os.POSIX_FADV_WILLNEED)
    buffer = memoryview(bytearray(min(count, _PIECE_BYTES)))
    end = offset + count
    while offset < end:
        read = os.preadv(fd, [buffer[: end - offset]], offset)
        if read == 0:
            return
        offset += read
