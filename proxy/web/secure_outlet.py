"""A client's TLS connection, filled from files.

What each GB costs here (CPU-seconds, TLS 1.3 with AES-256-GCM; a loop without asyncio
over the same calls takes 0.50): encrypting 0.25, sending 0.15, reading the file 0.10,
the library's buffers and the loop 0.05. Larger pieces cost more, since each is a block
that the allocator takes from the kernel and gives back (256 KiB: 0.63 in all); mapped
files would save the reading (0.44), but then a bad disk kills the process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from proxy.cache.local import OpenFile
from proxy.errors import TransferBroken
from proxy.web.outlet import ClientGone, unsent

_PIECE = 64 * 1024
# In this time a piece is encrypted a hundred times: others have their turn.
_TURN_BYTES = 1024 * 1024
# What may wait above the socket, for each connection.
_WAITING_BYTES_MAX = 64 * 1024


class SecureOutlet:
    """The TLS `transport` of one response, whose head is written."""

    def __init__(
        self, transport: asyncio.Transport, drain: Callable[[], Awaitable[None]], *, stall_s: float
    ) -> None:
        """`drain` waits until the transport wants more."""
        self._transport = transport
        self._drain = drain
        self._stall_s = stall_s
        self._socket = transport.get_extra_info("socket")
        self._buffer = memoryview(bytearray(_PIECE))
        self._written = self._turn = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seen = (0, 0)
        self._stalled = False
        # The library's own limit is eight times as much.
        transport.set_write_buffer_limits(high=_WAITING_BYTES_MAX)

    async def send(self, file: OpenFile, offset: int, count: int) -> None:
        """Bytes `[offset, offset + count)` of a file.

        Raises `ClientGone`, also when the client takes nothing for `stall_s` (noticed
        within twice that), and `TransferBroken` when the file can't be read.
        """
        end = offset + count
        while offset < end:
            if self._transport.is_closing():
                raise ClientGone
            size = self._piece(file, offset, min(_PIECE, end - offset))
            offset += size
            self._turn += size
            if self._transport.get_write_buffer_size() > 0:
                # The piece itself may be among what waits.
                self._buffer = memoryview(bytearray(_PIECE))
                await self._drained()
            if self._turn >= _TURN_BYTES:
                # Also when a reset is heard of (the task is cancelled): the transport tells nothing.
                self._turn = 0
                await asyncio.sleep(0)
                await self._drained()

    def _piece(self, file: OpenFile, offset: int, count: int) -> int:
        try:
            size = os.preadv(file.fd, [self._buffer[:count]], offset)
        except OSError as error:
            raise TransferBroken(f"reading a blob: {error.strerror}") from error
        if size == 0:
            raise TransferBroken("a stored blob is shorter than it was")
        self._transport.write(self._buffer[:size])
        self._written += size
        return size

    async def _drained(self) -> None:
        self._seen = self._state()
        self._timer = self._loop.call_later(self._stall_s, self._look)
        try:
            # Never cancelled from here: the waiter is the library's, who would keep it so.
            await self._drain()
        except ConnectionError as error:
            raise ClientGone from error
        finally:
            self._timer.cancel()
        if self._stalled:
            raise ClientGone

    def _look(self) -> None:
        seen, self._seen = self._seen, self._state()
        if seen == self._seen:
            self._stalled = True
            self._transport.abort()  # which ends the waiting
            return
        self._timer = self._loop.call_later(self._stall_s, self._look)

    def _state(self) -> tuple[int, int]:
        """Changes whenever the client takes something."""
        return self._written, unsent(self._socket.fileno())
