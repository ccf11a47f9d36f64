"""Files into real sockets: every byte once and in order, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from proxy.cache.local import OpenFile
from proxy.errors import TransferBroken
from proxy.web import outlets
from proxy.web.outlet import ClientGone, Outlet

SIZE = 12_000_000


class Pair:
    """A server's transport and the client's blocking-free socket."""

    transport: asyncio.Transport
    client: socket.socket


@pytest.fixture
async def pair():
    loop, made = asyncio.get_running_loop(), Pair()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        made.client = socket.socket()
        # So that little of a body fits into buffers.
        made.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        made.client.connect(listening.getsockname())
        served, _ = listening.accept()
    made.client.setblocking(False)
    made.transport, _ = await loop.create_connection(asyncio.Protocol, sock=served)
    yield made
    made.client.close()
    made.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
def file(tmp_path: Path):
    path = tmp_path / "blob"
    path.write_bytes(os.urandom(SIZE))
    opened = OpenFile(os.open(path, os.O_RDONLY), SIZE)
    yield opened, path.read_bytes()
    opened.release()


async def take(pair: Pair, count: int, piece: int = 100_000) -> bytes:
    loop, got = asyncio.get_running_loop(), bytearray()
    while len(got) < count:
        got += await loop.sock_recv(pair.client, piece)
    return bytes(got)


async def test_every_byte_arrives_once_and_in_order(pair: Pair, file) -> None:
    opened, data = file
    outlet = Outlet(pair.transport, stall_s=20)
    taking = asyncio.create_task(take(pair, SIZE - 5000))
    await outlet.send(opened, 5000, 3_000_000)
    await outlet.send(opened, 3_005_000, SIZE - 3_005_000)
    assert await taking == data[5000:]
    outlet.close()
    outlet.close()


async def test_every_byte_arrives_once_though_nobody_tells_when_the_socket_takes_more(
    pair: Pair, file, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, data = file
    refused = 0

    def too_many() -> None:
        nonlocal refused
        refused += 1
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(outlets.select, "epoll", too_many)
    outlet = Outlet(pair.transport, stall_s=20)
    taking = asyncio.create_task(take(pair, SIZE))
    await outlet.send(opened, 0, SIZE)
    assert await taking == data
    assert refused
    outlet.close()


async def test_who_was_offered_nothing_is_not_blamed_for_having_taken_nothing(
    pair: Pair, file
) -> None:
    opened, data = file
    outlet = Outlet(pair.transport, stall_s=20)
    taking = asyncio.create_task(take(pair, 5_000_000))
    await outlet.send(opened, 0, 5_000_000)
    assert await taking == data[:5_000_000]
    outlet._look()
    taking = asyncio.create_task(take(pair, 1000))
    sending = asyncio.create_task(outlet.send(opened, 5_000_000, 1000))
    await asyncio.sleep(0)  # It waits for its turn now.
    outlet._look()
    await sending
    assert await taking == data[5_000_000:5_001_000]
    outlet.close()


async def test_a_client_that_leaves_is_noticed(pair: Pair, file) -> None:
    opened, _ = file
    outlet = Outlet(pair.transport, stall_s=20)
    sending = asyncio.create_task(outlet.send(opened, 0, SIZE))
    await take(pair, 100_000)
    pair.client.close()
    with pytest.raises(ClientGone):
        await asyncio.wait_for(sending, 20)
    outlet.close()


async def test_a_client_that_takes_nothing_is_given_up(pair: Pair, file) -> None:
    opened, _ = file
    outlet = Outlet(pair.transport, stall_s=0.2)
    with pytest.raises(ClientGone):
        await asyncio.wait_for(outlet.send(opened, 0, SIZE), 20)
    outlet.close()


async def test_a_client_that_takes_a_little_now_and_then_is_not(pair: Pair, file) -> None:
    """Less in all than what makes the socket writable again."""
    opened, data = file
    # Each look finds something taken: there are many takings in the time between two.
    outlet = Outlet(pair.transport, stall_s=2)
    sending = asyncio.create_task(outlet.send(opened, 0, SIZE))
    got, loop = bytearray(), asyncio.get_running_loop()
    until = loop.time() + 6
    while loop.time() < until:
        got += await loop.sock_recv(pair.client, 2000)
        await asyncio.sleep(0.01)
        assert not sending.done()
    got += await take(pair, SIZE - len(got))
    await sending
    assert bytes(got) == data
    outlet.close()


async def test_a_file_that_is_shorter_than_it_was_is_said_to_be(pair: Pair, file) -> None:
    opened, _ = file
    outlet = Outlet(pair.transport, stall_s=20)
    taking = asyncio.create_task(take(pair, 1000))
    with pytest.raises(TransferBroken):
        await outlet.send(opened, SIZE - 1000, 2000)
    assert len(await taking) == 1000
    outlet.close()


async def test_what_is_cancelled_leaves_no_writer_behind(pair: Pair, file) -> None:
    opened, _ = file
    outlet = Outlet(pair.transport, stall_s=20)
    sending = asyncio.create_task(outlet.send(opened, 0, SIZE))
    await take(pair, 100_000)
    sending.cancel()
    await asyncio.wait([sending])
    fd = outlet._fd
    outlet.close()
    assert not asyncio.get_running_loop().remove_writer(fd)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


async def test_a_closed_transport_has_no_outlet(pair: Pair) -> None:
    pair.transport.abort()
    await asyncio.sleep(0)
    with pytest.raises(ClientGone):
        Outlet(pair.transport, stall_s=1)
