"""A link that breaks: a relay in front of a server, on a loopback port of its own.

    async with FlakyLink(port, cut_bytes=2_000_000) as link:
        ... f"http://127.0.0.1:{link.port}" ...
        assert link.delivered <= 1.02 * size

It resets all its connections after so many bytes or seconds, lets no more than `rate`
bytes a second through, can be taken down and held. `delivered` is what got across to the
client's side: what a reset threw away on ours is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import time
from types import TracebackType
from typing import Self

PIECE_BYTES = 16 * 1024
_BUFFER_BYTES = 32 * 1024
_LINGER_ZERO = struct.pack("ii", 1, 0)
# What a shaped link may let through at once.
_BURST_S = 0.02


class FlakyLink:
    """See the module. Bytes towards the server are neither counted nor shaped."""

    def __init__(
        self,
        target: int,
        *,
        cut_bytes: int | None = None,
        cut_s: float | None = None,
        rate: float | None = None,
    ) -> None:
        self.port = 0
        self.delivered = 0
        self.cuts = 0
        self.connections = 0
        self.log: list[tuple[float, int]] = []
        self.hold_at: int | None = None
        self._target = target
        self._cut_bytes = cut_bytes
        self._next_cut = cut_bytes
        self._cut_s = cut_s
        self._rate = rate
        self._free_at = 0.0
        self._turn = asyncio.Lock()
        self._resumed = asyncio.Event()
        self._held = asyncio.Event()
        self._open: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.up()
        if self._cut_s is not None:
            self._cutting = asyncio.create_task(self._cut_now_and_then(self._cut_s))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
        self.down()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def up(self) -> None:
        """Accept; after `down()` at the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._accepting = asyncio.create_task(self._accept(self._listener))

    def down(self) -> None:
        """Reset all connections and refuse new ones."""
        if self._listener is not None and self._accepting is not None:
            self._accepting.cancel()
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Reset all connections."""
        self.cuts += 1
        for one in list(self._open):
            with contextlib.suppress(OSError):
                waiting = fcntl.ioctl(one, termios.TIOCOUTQ, b"\0" * 4)
                self._count(-struct.unpack("i", waiting)[0])
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._open.discard(one)
        for task in self._tasks:
            task.cancel()

    async def held(self) -> None:
        """Until as much as `hold_at` has been delivered; nothing more is."""
        await self._held.wait()

    def release(self, hold_at: int | None = None) -> None:
        """Go on, up to there."""
        self.hold_at = hold_at
        self._held.clear()
        self._resumed.set()
        self._resumed = asyncio.Event()

    async def _cut_now_and_then(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            self.cut()

    def _count(self, count: int) -> None:
        self.delivered += count
        self.log.append((time.monotonic(), count))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.connections += 1
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            task = asyncio.create_task(self._relay(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        for one in (client, server):
            one.setblocking(False)
        self._open.add(client)
        try:
            await loop.sock_connect(server, ("127.0.0.1", self._target))
            asking = asyncio.create_task(self._ask(client, server))
            try:
                await self._answer(server, client)
            finally:
                asking.cancel()
        except OSError:
            pass  # Either side has gone; the other one sees it below.
        finally:
            self._open.discard(client)
            client.close()
            server.close()

    async def _ask(self, client: socket.socket, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(client, PIECE_BYTES):
                await loop.sock_sendall(server, data)
            server.shutdown(socket.SHUT_WR)

    async def _answer(self, server: socket.socket, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(server, PIECE_BYTES):
            await self._pass(len(data))
            await loop.sock_sendall(client, data)
            self._count(len(data))
            while self.hold_at is not None and self.delivered >= self.hold_at:
                self._held.set()
                await self._resumed.wait()
            if self._next_cut is not None and self.delivered >= self._next_cut:
                self._next_cut = self.delivered + (self._cut_bytes or 0)
                self.cut()
                return

    async def _pass(self, count: int) -> None:
        """Through the narrow place, one after the other."""
        if self._rate is None:
            return
        async with self._turn:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _BURST_S) + count / self._rate
            if self._free_at > now:
                await asyncio.sleep(self._free_at - now)
