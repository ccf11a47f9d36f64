"""A large body straight from the socket into memory that is used again and again.

aiohttp hands a body over in fresh `bytes`, copied once by its parser, with the page
faults: a quarter to a half more CPU time for receiving than this takes (0.42 - 0.53
against 0.29 - 0.36 s/GB; the table and its machine: `cache/pump.py`). So once the head of a large
answer has been read, the connection's protocol is replaced by this one: `recv_into`
puts bytes into blocks, views of these are what the reader gets, and a block is filled
anew when nobody holds a view of it any more. Blocks of 64 KiB cost twice as much,
those of 4 MiB a quarter more, and those of 256 KiB no less.

Only for a body whose length is known and that is neither chunked nor compressed. The
connection can't be used again afterwards; for megabytes that does not matter.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Self

import aiohttp

from proxy.errors import TransferBroken
from proxy.upstream.link.pacer import Paced
from proxy.upstream.translate import LIBRARY_ERRORS

DIRECT_BYTES_MIN = 4 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024
_WAITING_BYTES_MAX = 2 * 1024 * 1024
# A view into a block shorter than this is not worth asking the kernel for.
_ROOM_MIN = 64 * 1024


def _counted(blocks: list[bytearray], references: int) -> bytearray | None:
    """The first block of which `sys.getrefcount` says so much, as seen from here."""
    for block in blocks:
        if sys.getrefcount(block) == references:
            return block
    return None


# What it says of a block that only a list refers to: the loop and the call may count, too,
# which is for the version of Python to decide.
_UNUSED = next(count for count in range(1, 9) if _counted([bytearray()], count) is not None)


class DirectBody(asyncio.BufferedProtocol, AsyncIterator[memoryview]):
    """The next `length` bytes of a connection. Raises `TransferBroken` when they end
    early, stall for `stall_s`, or are reset.

    `paced` says when the socket may be read; bytes that are here are handed out.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        length: int,
        name: str,
        *,
        stall_s: float,
        paced: Paced | None = None,
    ) -> None:
        self._name = name
        self._paced = paced
        self._left = length
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._blocks: list[bytearray] = []
        self._block = bytearray()
        self._filled = 0
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: TransferBroken | None = None
        connection = response.connection
        transport = None if connection is None else connection.transport
        if connection is None or not isinstance(transport, asyncio.Transport):
            raise TransferBroken(f"{name} hung up")
        self._transport = transport
        self._before = connection.protocol
        transport.pause_reading()
        if paced is not None:
            connected = transport.get_extra_info("socket")
            # Of what it says it allows, half is for its own needs.
            ahead = connected.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            paced.expect(length, ahead)
        try:
            while data := response.content.read_nowait():
                self._arrived(memoryview(data))
        except LIBRARY_ERRORS as error:
            raise TransferBroken(f"{name} broke off the transfer") from error
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(stall_s, self._look)
        transport.set_protocol(self)
        if self._wanted:
            transport.resume_reading()

    # --- the reader ----------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        while not self._waiting:
            if self._left == 0:
                self._timer.cancel()
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        view = self._waiting.popleft()
        self._waiting_bytes -= len(view)
        self._read_on()
        return view

    @property
    def _wanted(self) -> bool:
        """Whether more may be read from the socket."""
        held = self._paced is not None and self._paced.held
        return self._left > 0 and self._waiting_bytes < _WAITING_BYTES_MAX and not held

    def _read_on(self) -> None:
        if not self._wanted or self._error is not None:
            return
        if not self._transport.is_reading() and not self._transport.is_closing():
            # The time we did not listen is not the sender's.
            self._heard_at = self._loop.time()
            self._transport.resume_reading()

    # --- the connection --------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's wish
        """Where the next bytes go."""
        if len(self._block) - self._filled < _ROOM_MIN:
            self._block, self._filled = self._unused_block(), 0
        end = min(len(self._block), self._filled + self._left)
        piece = None if self._paced is None else self._paced.piece
        if piece is not None:
            end = min(end, self._filled + piece)
        return memoryview(self._block)[self._filled : end]

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
        self._heard_at = self._loop.time()
        start, self._filled = self._filled, self._filled + nbytes
        self._arrived(memoryview(self._block)[start : self._filled])

    def eof_received(self) -> None:
        """The sender is done."""
        self._broken(f"{self._name} ended the transfer early")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is no more."""
        self._timer.cancel()
        self._broken(f"{self._name} broke off the transfer")
        if isinstance(self._before, asyncio.Protocol):
            self._before.connection_lost(exc)

    def _arrived(self, view: memoryview) -> None:
        self._left -= len(view)
        self._waiting.append(view)
        self._waiting_bytes += len(view)
        if self._paced is not None:
            self._paced.took(len(view), self._read_on)
        if not self._wanted:
            self._transport.pause_reading()
        self._wake()

    def _unused_block(self) -> bytearray:
        unused = _counted(self._blocks, _UNUSED)
        if unused is not None:
            return unused
        self._blocks.append(bytearray(_BLOCK_BYTES))
        return self._blocks[-1]

    def _look(self) -> None:
        """Whether the sender has been silent for too long, although we listen."""
        silent_s = self._loop.time() - self._heard_at
        if self._transport.is_reading() and silent_s >= self._stall_s:
            self._broken(f"{self._name} stopped sending")
            return
        left_s = self._stall_s - silent_s if self._transport.is_reading() else self._stall_s
        self._timer = self._loop.call_later(max(left_s, 0.01), self._look)

    def _broken(self, reason: str) -> None:
        if self._left and self._error is None:
            self._error = TransferBroken(reason)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
