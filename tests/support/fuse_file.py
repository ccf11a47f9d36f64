"""One file, as a file system of its own, whose reads and writes can be held back.

Over the kernel's FUSE device and without any library; the content is in memory. A loop
device on the file is a disk that hangs when told to: everything above it (file system,
page cache, write-back, `sendfile`) is the kernel's own.

This process must never wait for what it serves: not for the mounts (`slow_disk` has
another one for them), nor, when it needs memory, for the kernel to write to that disk.

Only what a loop device asks for is answered: `linux/fuse.h`, protocol 7.31.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import time
from typing import Literal

# What is held for so long goes on by itself, so that a test that hangs is not a machine
# that hangs.
LIMIT_S = 120.0
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_IO = struct.Struct("<QQII")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_IO_BYTES = 128 * 1024

_READ, _WRITE, _FSYNC = 15, 16, 20
_UNANSWERED = {2, 36, 42}  # FORGET, INTERRUPT, BATCH_FORGET
_DIRECT_IO = 1
_ASYNC_READ, _BIG_WRITES = 1, 1 << 5
_PR_SET_IO_FLUSHER = 57

_KINDS = {"read": {_READ}, "write": {_WRITE, _FSYNC}}


class HeldFile:
    """The server of one file; single-threaded. `fd` is the device: when it can be read,
    call `request`. Raises OSError where there is no FUSE.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.content = os.memfd_create("disk")
        os.truncate(self.content, size)
        self._hold: set[int] = set()
        self._held: list[tuple[int, int, bytes]] = []
        self._since = 0.0
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        # Where it is refused, only a machine without any free memory would notice.
        ctypes.CDLL(None).prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0)

    @property
    def mount_options(self) -> str:
        """For `mount` of type `fuse` on a regular file."""
        mode = f"{stat.S_IFREG | 0o600:o}"
        return f"fd={self.fd},rootmode={mode},user_id=0,group_id=0,max_read={_IO_BYTES}"

    @property
    def held(self) -> int:
        """How many requests wait."""
        if self._held and time.monotonic() - self._since > LIMIT_S:
            self.release()
        return len(self._held)

    def hold(self, kind: Literal["read", "write"]) -> None:
        """Requests of this kind wait from now on (`write`: syncs, too)."""
        self._hold |= _KINDS[kind]

    def release(self) -> None:
        """Answer what waits, and hold nothing."""
        self._hold.clear()
        held, self._held = self._held, []
        for opcode, unique, body in held:
            self._answer(opcode, unique, body)

    def request(self) -> bool:
        """Take one from the kernel; False when the file was unmounted."""
        try:
            data = os.read(self.fd, _IO_BYTES + 65536)
        except OSError as error:
            return error.errno in {errno.EINTR, errno.EAGAIN, errno.ENOENT}
        _, opcode, unique, *_ = _IN.unpack_from(data)
        body = data[_IN.size :]
        if opcode in self._hold:
            self._since = self._since if self._held else time.monotonic()
            self._held.append((opcode, unique, body))
        elif opcode not in _UNANSWERED:
            self._answer(opcode, unique, body)
        return True

    def _answer(self, opcode: int, unique: int, body: bytes) -> None:
        answer = self._work(opcode, body)
        code, data = (answer, b"") if isinstance(answer, int) else (0, answer)
        head = _OUT.pack(_OUT.size + len(data), code, unique)
        # Who asked may have been killed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            os.writev(self.fd, [head, data])

    def _work(self, opcode: int, body: bytes) -> bytes | int:
        """The body of the answer, or an error number below 0."""
        match opcode:
            case 26:  # INIT
                _, _, read_ahead, _ = struct.unpack_from("<IIII", body)
                flags = _ASYNC_READ | _BIG_WRITES
                return struct.pack(
                    "<IIIIHHIIHH32x", 7, 31, read_ahead, flags, 64, 48, _IO_BYTES, 1, 32, 0
                )
            case 3 | 4:  # GETATTR, SETATTR
                return struct.pack("<QII", 3600, 0, 0) + self._attributes()
            case 14:  # OPEN
                return struct.pack("<QII", 0, _DIRECT_IO, 0)
            case 15:  # READ
                _, offset, size, _ = _IO.unpack_from(body)
                return os.pread(self.content, size, offset)
            case 16:  # WRITE
                _, offset, size, _ = _IO.unpack_from(body)
                os.pwrite(self.content, body[40 : 40 + size], offset)
                return struct.pack("<II", size, 0)
            case 17:  # STATFS
                blocks = self._size // 4096
                return struct.pack("<QQQQQIIII24x", blocks, 0, 0, 1, 0, 4096, 255, 4096, 0)
            case 18 | 20 | 25 | 38:  # RELEASE, FSYNC, FLUSH, DESTROY
                return b""
            case _:
                return -errno.ENOSYS

    def _attributes(self) -> bytes:
        mode = stat.S_IFREG | 0o600
        times = (0,) * 6
        return _ATTR.pack(1, self._size, self._size // 512, *times, mode, 1, 0, 0, 0, 4096, 0)
