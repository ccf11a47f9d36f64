"""A TCP relay in front of an HTTP server that counts the requests passing through."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_REQUEST = re.compile(rb"(?:^|\r\n)(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
_PIECE_BYTES = 256 * 1024


@dataclass(slots=True)
class Relay:
    """`url` leads to the server; `seen` are "METHOD /path" in order of arrival."""

    url: str
    seen: list[str] = field(default_factory=list)

    def take(self) -> list[str]:
        """What was seen since the last call."""
        seen, self.seen = self.seen, []
        return seen


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    """Requests on loopback, passed on byte for byte."""
    relay, running = Relay(""), set[asyncio.Task[None]]()

    async def copy(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool
    ) -> None:
        try:
            while data := await reader.read(_PIECE_BYTES):
                if count:
                    found = _REQUEST.findall(data)
                    relay.seen += [f"{method.decode()} {path.decode()}" for method, path in found]
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # The other direction sees it, too.
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond_reader, beyond_writer = await asyncio.open_connection("127.0.0.1", port)
        for task in (
            asyncio.create_task(copy(reader, beyond_writer, count=True)),
            asyncio.create_task(copy(beyond_reader, writer, count=False)),
        ):
            running.add(task)
            task.add_done_callback(running.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
