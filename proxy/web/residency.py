"""Whether bytes of a file are in the page cache, and bringing them there.

`sendfile` (or a read) of a single page that is not stops the whole event loop for as
long as the disk takes. So each window is asked about first, by `mincore`: it sees each
page, also on overlayfs, tmpfs and FUSE, where `preadv2(RWF_NOWAIT)` can't tell, and
costs 0.004 CPU-s/GB in windows of 8 MiB. What it can't see is the kernel taking a page
back in the microseconds until the send, or, where a crowd sends the same bytes, in the
20 ms for which one answer does for all: pages just used are the last to be taken.

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

from proxy.cache.local import OpenFile

# As many as a fast disk likes to be asked for at a time.
_threads = ThreadPoolExecutor(16, thread_name_prefix="read-in")
_PIECE_BYTES = 1024 * 1024
_LATELY_S = 0.02
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


def lately_resident(file: OpenFile, offset: int, count: int) -> bool:
    """`resident`, asked once in a while for all readers of a file."""
    now = time.monotonic()
    start, end, until = file.seen
    fresh = now < until
    if fresh and start <= offset and offset + count <= end:
        return True
    if not resident(file.fd, offset, count):
        return False
    if fresh and start <= offset <= end:
        file.seen = (start, max(end, offset + count), until)
    else:
        file.seen = (offset, offset + count, now + _LATELY_S)
    return True


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
