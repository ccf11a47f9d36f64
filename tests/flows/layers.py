"""What tests of single blobs share: layers, their paths, and waiting for a fill."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from tests.flows.conftest import Running, World
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.images import Content, image
from tests.support.waiting import until

MIB = 1024 * 1024


def add_layer(upstream: FakeRegistry, size: int, repository: str = "app") -> Content:
    """A layer of `size` bytes, alone in its image; the same bytes each time."""
    return upstream.add(repository, image(size), "v1").layers[0]


def add_layers(upstream: FakeRegistry, count: int, size: int = 3_000_000) -> list[Content]:
    """Different layers of `app`, each in an image of its own."""
    return [
        upstream.add("app", image(size, seed=str(number)), f"v{number}").layers[0]
        for number in range(count)
    ]


def add_stalled_layer(
    upstream: FakeRegistry, size: int, *, at: int
) -> tuple[Content, asyncio.Event]:
    """A layer whose first fetch stops at `at` until the event is set."""
    blob = add_layer(upstream, size)
    held = asyncio.Event()
    upstream.inject(Fault(stall_at=at, stall=held), kind="blob", method="GET")
    return blob, held


def path_of(blob: Content, repository: str = "app") -> str:
    return f"/v2/lab/{repository}/blobs/{blob.digest}"


def file_of(world: World, blob: Content) -> Path:
    """Where a proxy of this world keeps it."""
    hexadecimal = blob.digest.hex
    return world.root / "data" / "blobs" / "public" / "sha256" / hexadecimal[:2] / hexadecimal


async def pull_layer(proxy: Running, blob: Content, repository: str = "app") -> None:
    """All of it, right."""
    answer = await proxy.ask(path_of(blob, repository))
    assert (answer.status, answer.cut) == (200, False), answer.body[:300]
    assert answer.body == blob.body


async def until_landed(proxy: Running) -> None:
    """Until no fill is under way."""

    async def landed() -> bool:
        return not (await proxy.status())["flights"]

    await until(landed, "no fill is under way")


async def until_written(proxy: Running, at_least: int) -> None:
    """Until the one fill under way has so many bytes."""

    async def written() -> bool:
        flights = (await proxy.status())["flights"]
        return bool(flights) and flights[0]["written"] >= at_least

    await until(written, f"{at_least} bytes are written")


async def raw_get(
    proxy: Running, target: str, *, receive_bytes: int | None = None, headers: str = ""
) -> socket.socket:
    """A request on a socket of its own, answered into a small window if wished.

    Each of `headers` ends with its line.
    """
    host, _, port = proxy.entrepot.address.partition(":")
    connection = socket.socket()
    connection.setblocking(False)
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (host, int(port)))
    await loop.sock_sendall(
        connection, f"GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()
    )
    return connection


async def receive(connection: socket.socket, count: int) -> None:
    """So many bytes of an answer, head included; no more is read."""
    loop = asyncio.get_running_loop()
    while count > 0:
        data = await loop.sock_recv(connection, min(count, 1 << 16))
        assert data, f"closed with {count} bytes to come"
        count -= len(data)


async def read_until_closed(connection: socket.socket) -> bytes:
    """Everything until the other side closes or resets."""
    received = bytearray()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(connection, 1 << 20):
            received += data
    return bytes(received)
