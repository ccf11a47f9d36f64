"""A client's socket, filled from files by the kernel.

asyncio's own `sendfile` costs a dozen system calls around each one that counts; with
256 clients at one growing file that was more than half of the work. Here it is one call,
whenever the socket takes bytes and it is its turn (`web/outlets.py`), and the task is
woken when all is sent. The descriptor is a duplicate: should the transport's be closed,
and its number be another client's, that one still gets nothing of this.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios

from proxy.cache.local import OpenFile
from proxy.errors import TransferBroken
from proxy.web import outlets

_GONE = {
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EBADF,
    errno.ECONNABORTED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}
# How long until a socket is tried again of which nobody can tell when it takes bytes.
_AGAIN_S = 0.02


class ClientGone(Exception):
    """The client left, or took nothing for too long."""


class Outlet:
    """The plain socket of `transport`, whose write buffer is empty whenever `send` is
    called, and of which nobody else makes use meanwhile. `close` it.
    """

    def __init__(self, transport: asyncio.Transport, *, stall_s: float) -> None:
        """Raises `ClientGone` if it is closed already, `OSError` if there is no descriptor."""
        socket = transport.get_extra_info("socket")
        if socket is None or socket.fileno() < 0:
            raise ClientGone
        self._fd = os.dup(socket.fileno())
        self._transport = transport
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._outlets = outlets.of_this_loop()
        self._watching = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._file_fd = -1
        self._start = self._offset = self._end = 0
        self._sends = self._sent = 0
        self._seen = (0, 0, 0)

    def close(self) -> None:
        """Let go of the socket. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watching:
            self._outlets.leave(self._fd)
            self._watching = False
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def send(self, file: OpenFile, offset: int, count: int) -> None:
        """Bytes `[offset, offset + count)` of a file.

        Raises `ClientGone`, also when the client takes nothing for `stall_s` (noticed
        within twice that); `TransferBroken` when the file can't be read; `OSError`
        (`EINVAL`, `ENOSYS`) when the kernel can't send from it.
        """
        self._sends += 1
        self._file_fd = file.fd
        self._start, self._offset, self._end = offset, offset, offset + count
        self._waiter = self._loop.create_future()
        self._outlets.soon(self._go)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _fill(self) -> bool:
        """Send until all is sent (True) or the socket is full. Raises as `send` does."""
        while self._offset < self._end:
            if self._transport.is_closing():
                raise ClientGone
            try:
                sent = os.sendfile(self._fd, self._file_fd, self._offset, self._end - self._offset)
            except BlockingIOError:
                return False
            except OSError as error:
                _explain(error, begun=self._offset > self._start)
                raise
            if sent == 0:
                raise TransferBroken("a stored blob is shorter than it was")
            self._offset += sent
            self._sent += sent
        return True

    def _go(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        try:
            if self._fill():
                waiter.set_result(None)
            elif not self._watching:
                self._watch()
        except (ClientGone, TransferBroken, OSError) as error:
            waiter.set_exception(error)

    def _watch(self) -> None:
        if self._timer is None:
            self._seen = self._state()
            self._timer = self._loop.call_later(self._stall_s, self._look)
        try:
            self._outlets.watch(self._fd, self._go)
            self._watching = True
        except OSError:
            # Too many open files, say. Part of the window is out: no other way may begin it anew.
            self._loop.call_later(_AGAIN_S, self._outlets.soon, self._go)

    def _look(self) -> None:
        """Whether the client has taken anything since the last look, `stall_s` ago, or was
        offered nothing for a while.

        What it has acknowledged counts: a full socket is only said to be writable when
        a third of it is free, which at 10 KB/s takes minutes.
        """
        seen, self._seen = self._seen, self._state()
        waiter = self._waiter
        if waiter is not None and not waiter.done() and seen == self._seen:
            waiter.set_exception(ClientGone())
            return
        self._timer = self._loop.call_later(self._stall_s, self._look)

    def _state(self) -> tuple[int, int, int]:
        return self._sends, self._sent, unsent(self._fd)


def _explain(error: OSError, *, begun: bool) -> None:
    if error.errno in _GONE:
        raise ClientGone from error
    if begun or error.errno not in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
        raise TransferBroken(f"reading a blob: {error.strerror}") from error


def unsent(fd: int) -> int:
    """Bytes in the socket that the other side has not acknowledged."""
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0" * 4))
    except (OSError, ValueError):  # the latter if it is closed
        return 0
    return int(count)
