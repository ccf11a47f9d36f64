"""What a `FakeRegistry` can be told to do wrong with one answer, and how it is
done to a real socket.

All offsets count bytes of *this answer's body*, not of the blob.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

_PIECE_BYTES = 256 * 1024
_LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One wrong answer. Fields may be combined where that makes sense.

    Before the head: `delay` holds it back until the event is set; `hang_up`
    closes the connection without any answer.

    Another head: `status` answers that, with an OCI error envelope unless
    `body` is given; `html` answers 200 with a login page; `headers` are set
    last (`""` removes one); `content_type`; `content_range`; `ignore_range`
    answers 200 from byte 0.

    Another body: `body` replaces it; `flip_at` inverts the byte there;
    `length` declares *and sends* that many bytes, cut or padded with zeros;
    `chunked` sends no Content-Length.

    A broken body: `end_at` closes the connection in good order after so many
    bytes (with `chunked`: the body ends there in good order, too); `reset_at`
    resets it (TCP RST); `stall_at` sends nothing more until `stall` is set, or
    for ever. `rate_bytes_s` is a speed limit.
    """

    delay: asyncio.Event | None = None
    hang_up: bool = False
    status: int | None = None
    html: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    content_range: str | None = None
    ignore_range: bool = False
    body: bytes | None = None
    flip_at: int | None = None
    length: int | None = None
    chunked: bool = False
    end_at: int | None = None
    reset_at: int | None = None
    stall_at: int | None = None
    stall: asyncio.Event | None = None
    rate_bytes_s: float | None = None

    def distort(self, body: bytes) -> bytes:
        """The bytes to declare and send in place of `body`."""
        if self.flip_at is not None:
            flipped = bytes([body[self.flip_at] ^ 0xFF])
            body = body[: self.flip_at] + flipped + body[self.flip_at + 1 :]
        if self.length is not None:
            body = body[: self.length].ljust(self.length, b"\0")
        return body


NO_FAULT = Fault()


async def send(
    request: web.BaseRequest,
    *,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    fault: Fault,
    sent: Callable[[int], None],
) -> web.StreamResponse:
    """Answer `request` with `body`, or with what `fault` makes of it.

    `sent` hears of every piece handed to the socket.
    """
    body = fault.distort(body)
    response = web.StreamResponse(status=status, headers=headers)
    if fault.content_type is not None:
        response.headers["Content-Type"] = fault.content_type
    if fault.content_range is not None:
        response.headers["Content-Range"] = fault.content_range
    if fault.chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(body)
    for name, value in fault.headers.items():
        response.headers.popall(name, None)
        if value:
            response.headers[name] = value
    await response.prepare(request)
    transport = request.transport
    if transport is None or request.method == "HEAD":
        return response
    # Nothing may wait in user space, so that "after N bytes" means that. (asyncio's TLS
    # never goes on after such a pause.)
    if transport.get_extra_info("sslcontext") is None:
        transport.set_write_buffer_limits(0)
    stops = [at for at in (fault.end_at, fault.reset_at, fault.stall_at) if at is not None]
    await _write(response, body[: min(stops)] if stops else body, fault, sent)
    if fault.stall_at is not None:
        await (fault.stall or asyncio.Event()).wait()
        await _write(response, body[fault.stall_at :], fault, sent)
    elif fault.reset_at is not None:
        _reset(transport)
    elif fault.end_at is not None and not fault.chunked:
        transport.close()
    return response


async def _write(
    response: web.StreamResponse, body: bytes, fault: Fault, sent: Callable[[int], None]
) -> None:
    view = memoryview(body)
    piece_bytes = _PIECE_BYTES
    if fault.rate_bytes_s is not None:
        piece_bytes = max(1, min(piece_bytes, int(fault.rate_bytes_s / 20)))
    for start in range(0, len(view), piece_bytes):
        piece = view[start : start + piece_bytes]
        await response.write(piece)
        sent(len(piece))
        if fault.rate_bytes_s is not None:
            await asyncio.sleep(len(piece) / fault.rate_bytes_s)


def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def _reset(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
