"""Files into real TLS connections: every byte once and in order, little in memory, and
nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache.local import OpenFile
from proxy.errors import TransferBroken
from proxy.web import secure_outlet
from proxy.web.outlet import ClientGone
from proxy.web.secure_outlet import SecureOutlet
from tests.support import private_ca
from tests.support.waiting import until

SIZE = 12_000_000


class Serving(asyncio.Protocol):
    """A server's side that can say when it may write again, as aiohttp's can."""

    transport: asyncio.Transport
    made: asyncio.Future[None]

    def __init__(self) -> None:
        self.lost = False
        self.paused: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.made.set_result(None)

    def pause_writing(self) -> None:
        self.paused = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self.paused is not None and not self.paused.done():
            self.paused.set_result(None)
        self.paused = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.resume_writing()

    async def drain(self) -> None:
        if self.lost:
            raise ConnectionResetError("it is gone")
        if self.paused is not None:
            await self.paused  # Not shielded, as in aiohttp: who cancels it has it cancelled.


class Pair:
    """Both ends."""

    serving: Serving
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    ca = private_ca.issue(tmp_path / "ca")
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(ca.cert, ca.key)
    client_context = ssl.create_default_context(cafile=str(ca.ca))
    loop, made = asyncio.get_running_loop(), Pair()
    made.serving = Serving()
    made.serving.made = loop.create_future()
    server = await loop.create_server(lambda: made.serving, "127.0.0.1", 0, ssl=server_context)
    client = socket.socket()
    # So that little of a body fits into buffers.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.setblocking(False)
    await loop.sock_connect(client, server.sockets[0].getsockname())
    made.reader, made.writer = await asyncio.open_connection(
        sock=client, ssl=client_context, server_hostname="127.0.0.1", limit=16_384
    )
    await made.serving.made
    yield made
    made.writer.transport.abort()
    made.serving.transport.abort()
    server.close()
    await server.wait_closed()


@pytest.fixture
def file(tmp_path: Path):
    path = tmp_path / "blob"
    path.write_bytes(os.urandom(SIZE))
    opened = OpenFile(os.open(path, os.O_RDONLY), SIZE)
    yield opened, path.read_bytes()
    opened.release()


def outlet(pair: Pair, stall_s: float = 20) -> SecureOutlet:
    return SecureOutlet(pair.serving.transport, pair.serving.drain, stall_s=stall_s)


async def test_every_byte_arrives_once_and_in_order_however_the_client_reads(
    pair: Pair, file
) -> None:
    opened, data = file
    sender = outlet(pair)

    async def send() -> None:
        await sender.send(opened, 5000, 2_000_000)
        await sender.send(opened, 2_005_000, SIZE - 2_005_000)

    sending = asyncio.create_task(send())
    got = bytearray()
    while len(got) < SIZE - 5000:
        # Pauses between its reads, so that pieces wait above the socket, too.
        got += await pair.reader.read(7_000 if len(got) % 3 else 90_000)
    await sending
    assert bytes(got) == data[5000:]


async def test_little_waits_in_memory_for_a_client_that_takes_nothing(pair: Pair, file) -> None:
    opened, _ = file
    sending = asyncio.create_task(outlet(pair).send(opened, 0, SIZE))
    serving = pair.serving
    await until(lambda: serving.paused is not None, "it is paused")
    assert serving.transport.get_write_buffer_size() <= 256 * 1024
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_a_client_that_takes_nothing_is_given_up(pair: Pair, file) -> None:
    opened, _ = file
    with pytest.raises(ClientGone):
        await asyncio.wait_for(outlet(pair, stall_s=0.2).send(opened, 0, SIZE), 20)


class Fake(asyncio.Transport):
    """A transport that takes all at once; `waiting`: bytes that are above the socket."""

    def __init__(self, kernel: socket.socket, waiting: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.waiting = waiting

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.last = len(data)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.kernel

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high


async def test_a_client_that_takes_a_little_now_and_then_is_not(
    file, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = file
    drained, looks = asyncio.get_running_loop().create_future(), 0

    def less_each_time(_fd: int) -> int:
        nonlocal looks
        looks += 1
        if looks == 5:
            drained.set_result(None)
        return 1000 - looks

    async def drain() -> None:
        await drained

    monkeypatch.setattr(secure_outlet, "unsent", less_each_time)
    with socket.socket() as kernel:
        fake = Fake(kernel, waiting=1)
        sender = SecureOutlet(fake, drain, stall_s=0.01)
        await asyncio.wait_for(sender.send(opened, 0, 1000), 20)
    assert fake.last == 1000
    assert looks == 5


async def test_others_have_their_turn_however_small_the_pieces_of_one_that_keeps_up(
    file,
) -> None:
    opened, _ = file
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    async def never_full() -> None:
        pass

    with socket.socket() as kernel:
        fake = Fake(kernel, waiting=0)
        sender = SecureOutlet(fake, never_full, stall_s=20)
        asyncio.get_running_loop().call_soon(turn)
        for start in range(0, 8 * 1024 * 1024, 256 * 1024):
            await sender.send(opened, start, 256 * 1024)
    assert turns >= 8


async def test_a_client_that_leaves_is_noticed(pair: Pair, file) -> None:
    opened, _ = file
    sending = asyncio.create_task(outlet(pair).send(opened, 0, SIZE))
    await pair.reader.read(100_000)
    pair.writer.transport.abort()
    with pytest.raises(ClientGone):
        await asyncio.wait_for(sending, 20)


async def test_a_file_that_is_shorter_than_it_was_is_told(pair: Pair, file) -> None:
    opened, _ = file
    reading = asyncio.create_task(pair.reader.read(SIZE))
    with pytest.raises(TransferBroken, match="shorter"):
        await outlet(pair).send(opened, SIZE - 1000, 2000)
    await reading
