"""An HTTP client of bytes: sends exactly what a test wrote, however wrong, and
reads answers by their own framing. Well-behaved clients would mend the request.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """`headers` as sent, in order; `body` without its framing."""

    version: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """The value of a header; fails if it was sent twice."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    @property
    def code(self) -> str:
        """The OCI code of an error envelope."""
        envelope: dict[str, Any] = json.loads(self.body)
        (error,) = envelope["errors"]
        assert isinstance(error["message"], str)
        assert error["message"]
        return str(error["code"])


@dataclass(slots=True)
class RawClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, *, to_head: bool = False) -> RawAnswer:
        """The next answer; `to_head`: it answers a HEAD, so it has no body."""
        async with asyncio.timeout(DEADLINE_S):
            first = (await self.reader.readline()).decode("latin-1").rstrip("\r\n")
            if not first:
                raise ConnectionError("closed without an answer")
            version, status, _ = first.split(" ", 2)
            headers = []
            while line := (await self.reader.readline()).decode("latin-1").rstrip("\r\n"):
                name, _, value = line.partition(":")
                headers.append((name, value.strip()))
            answer = RawAnswer(version, int(status), tuple(headers), b"")
            length = answer.one("Content-Length")
            if to_head or answer.status in {204, 304}:
                body = b""
            elif length is not None:
                body = await self.reader.readexactly(int(length))
            else:
                body = await self.reader.read()
            return RawAnswer(version, int(status), tuple(headers), body)

    async def closed(self) -> bool:
        """Whether the other side ends the connection, waiting for it."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def connected(address: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawClient]:
    """A connection to `host:port`."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


def request(
    path: str, *lines: str, method: str = "GET", version: str = "1.1", host: str | None = "proxy"
) -> bytes:
    """The bytes of a request without a body."""
    hosts = [] if host is None else [f"Host: {host}"]
    text = "\r\n".join([f"{method} {path} HTTP/{version}", *hosts, *lines, "", ""])
    return text.encode("latin-1")


async def exchange(address: str, data: bytes, *, to_head: bool = False) -> RawAnswer:
    """One request on a connection of its own."""
    async with connected(address) as client:
        await client.send(data)
        return await client.receive(to_head=to_head)
