"""Putting content on the wire.

Plain HTTP: the kernel's `sendfile` at explicit offsets, in windows that grow
while the client keeps up (8 MiB cost 0.11 CPU-s/GB, 256 KiB 0.3). TLS: pieces at
explicit offsets and never `loop.sendfile`, whose fallback moves the shared file
position under the other readers.

A body that can't be finished is *cut*: the connection is aborted. Returning
normally would leave it open with the next response landing inside this body;
raising would append an error page to it.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import Transport
from collections.abc import Iterable

from aiohttp import web

from proxy.cache.content import Bytes, Content, File, Stream
from proxy.cache.local import OpenFile
from proxy.errors import EntrepotError, TransferBroken
from proxy.oci.ranges import ByteRange
from proxy.ports import Chunk
from proxy.web import residency
from proxy.web.outlet import ClientGone, Outlet
from proxy.web.secure_outlet import SecureOutlet

_WINDOW_MIN = 1024 * 1024
_WINDOW_MAX = 16 * 1024 * 1024
_WINDOW_FAST_S = 1.0
_SECURE_WINDOW = 4 * 1024 * 1024
_PIECE = 256 * 1024


class Sender:
    """Sends the bodies of one response; `sent` counts body bytes."""

    def __init__(
        self, request: web.BaseRequest, response: web.StreamResponse, *, stall_s: float
    ) -> None:
        self._request = request
        self._response = response
        self._stall_s = stall_s
        self._window = _WINDOW_MIN
        self._outlet: Outlet | None = None
        self._secure: SecureOutlet | None = None
        self.sent = 0

    def cut(self) -> None:
        """End the connection so that nobody takes the body for complete."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def write(self, data: Chunk) -> None:
        """Raises `ClientGone`."""
        try:
            async with asyncio.timeout(self._stall_s):
                await self._response.write(data)
        except (ConnectionError, TimeoutError) as error:
            raise ClientGone from error
        self.sent += len(data)

    async def send(self, content: Content, span: ByteRange) -> None:
        """Raises `ClientGone`, or an `EntrepotError` when the bytes stop coming."""
        match content:
            case Bytes(data):
                await self.write(data[span.start : span.end])
            case File():
                await self._send_file(content, span)
            case Stream():
                async with content.open(span.start, span.end) as chunks:
                    async for chunk in chunks:
                        await self.write(chunk)

    async def _send_file(self, content: File, span: ByteRange) -> None:
        whole = (span.start, span.end) == (0, content.size)
        offset = span.start
        try:
            while offset < span.end:
                ready = min(content.readable(offset, whole=whole), span.end)
                if ready <= offset:
                    await content.wait(offset, whole=whole)
                    continue
                count = min(ready - offset, self._window)
                fresh = content.just_written(offset)
                if not fresh and not residency.lately_resident(content.file, offset, count):
                    try:
                        await residency.bring_in(content.file.fd, offset, count)
                    except OSError as error:
                        raise TransferBroken(f"reading a blob: {error.strerror}") from error
                offset += await self._send_window(content.file, offset, count)
        finally:
            if self._outlet is not None:
                self._outlet.close()
                self._outlet = None

    async def _send_window(self, file: OpenFile, offset: int, count: int) -> int:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        loop = asyncio.get_running_loop()
        started = loop.time()
        if self._tls(transport):
            count = min(count, _SECURE_WINDOW)
            await self._encrypt(transport, file, offset, count)
        # While the head (or a part's) still waits in the transport, nothing may pass it.
        elif transport.get_write_buffer_size() > 0:
            return await self._read_and_write(file, offset, count)
        else:
            try:
                if self._outlet is None:
                    self._outlet = Outlet(transport, stall_s=self._stall_s)
                await self._outlet.send(file, offset, count)
            except OSError:
                # This file system can't, or there is no descriptor left.
                return await self._read_and_write(file, offset, count)
        if loop.time() - started < _WINDOW_FAST_S:
            self._window = min(_WINDOW_MAX, self._window * 4)
        else:
            self._window = max(_WINDOW_MIN, self._window // 4)
        self.sent += count
        return count

    def _tls(self, transport: Transport) -> bool:
        return transport.get_extra_info("sslcontext") is not None

    async def _encrypt(self, transport: Transport, file: OpenFile, offset: int, count: int) -> None:
        if self._secure is None:
            drain = self._request.writer.drain
            self._secure = SecureOutlet(transport, drain, stall_s=self._stall_s)
        await self._secure.send(file, offset, count)

    async def _read_and_write(self, file: OpenFile, offset: int, count: int) -> int:
        data = os.pread(file.fd, min(count, _PIECE), offset)
        if not data:
            raise TransferBroken("a stored blob is shorter than it was")
        await self.write(data)
        return len(data)


async def deliver(sender: Sender, content: Content, pieces: Iterable[bytes | ByteRange]) -> bool:
    """Send bytes as they are and ranges of `content`, in order.

    False if the body had to be cut or the client left.
    """
    pieces = list(pieces)
    if isinstance(content, File):
        content.expect([piece for piece in pieces if isinstance(piece, ByteRange)])
    try:
        for piece in pieces:
            if isinstance(piece, ByteRange):
                await sender.send(content, piece)
            else:
                await sender.write(piece)
    except (ClientGone, EntrepotError):
        sender.cut()
        return False
    except BaseException:
        sender.cut()
        raise
    return True
