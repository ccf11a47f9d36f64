"""A TCP relay in front of a server: it counts the HTTP requests passing through, and
is a network that can be slow, frozen, cut, or refuse what would be written.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_REQUEST = re.compile(rb"(?:^|\r\n)(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
_WRITES = {b"PUT", b"POST", b"DELETE"}
_PIECE_BYTES = 256 * 1024
_REFUSALS = {
    403: b"HTTP/1.1 403 Forbidden\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\n",
}
_CODES = {403: b"AccessDenied", 503: b"ServiceUnavailable"}


class Relay:
    """`url` leads to the server; `seen` are "METHOD /path" in order of arrival.

    `flows`: while clear, nothing moves and nothing ends, as behind a dead switch.
    `writes`: while clear, this is so for connections from the next PUT or POST on.
    `refusing`: the status with which requests that write are answered here.
    `rate_bytes_s`: of each connection, each way.
    """

    def __init__(self, port: int, host: str) -> None:
        self.seen: list[str] = []
        self.flows = asyncio.Event()
        self.flows.set()
        self.writes = asyncio.Event()
        self.writes.set()
        self.refusing: int | None = None
        self.rate_bytes_s: float | None = None
        self._to, self._host, self._at = port, host, 0
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        return f"{self._host}:{self._at}"

    def take(self) -> list[str]:
        """What was seen since the last call."""
        seen, self.seen = self.seen, []
        return seen

    async def start(self) -> None:
        """Pass on; after `cut` at the same port."""
        self._server = await asyncio.start_server(self._serve, self._host, self._at)
        self._at = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End all connections and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both ways of one connection, which end together."""
        with suppress(ConnectionError):
            try:
                await self.flows.wait()
                beyond, to_beyond = await asyncio.open_connection("127.0.0.1", self._to)
            except BaseException:
                writer.transport.abort()
                raise
            ways = [
                asyncio.create_task(self._up(reader, to_beyond, writer)),
                asyncio.create_task(self._down(beyond, writer)),
            ]
            try:
                await asyncio.gather(*ways)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                for one in (writer, to_beyond):
                    one.transport.abort()

    async def _up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
    ) -> None:
        refused = False
        while data := await reader.read(_PIECE_BYTES):
            found = _REQUEST.findall(data)
            self.seen += [f"{method.decode()} {path.decode()}" for method, path in found]
            if _WRITES & {method for method, _ in found}:
                await self.writes.wait()
                if self.refusing is not None:
                    refused = True
                    back.write(_refusal(self.refusing))
            if not refused:  # else what is left of its body is of no use
                await self._pass(data, writer)
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE_BYTES):
            await self._pass(data, writer)
        writer.close()

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.rate_bytes_s is not None:
            await asyncio.sleep(len(data) / self.rate_bytes_s)
        await self.flows.wait()
        writer.write(data)
        await writer.drain()


def _refusal(status: int) -> bytes:
    body = b"<Error><Code>" + _CODES[status] + b"</Code></Error>"
    length = f"Content-Length: {len(body)}\r\n".encode()
    return _REFUSALS[status] + length + b"Connection: close\r\n\r\n" + body


@asynccontextmanager
async def relay_to(port: int, *, host: str = "127.0.0.1") -> AsyncIterator[Relay]:
    """To a port on loopback, from a port of our choice at `host`, byte for byte."""
    relay = Relay(port, host)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.cut()
