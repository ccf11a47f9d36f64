"""CPU seconds a GB of each step of a cold fill, in this process: `python -m
tests.bench.cold_steps [folder]`.

The upstream and the follower are child processes and are not counted. Each step is
timed alone, on blobs of 256 MiB, the least of five rounds; `relay` is receive, hash,
write and journal together, as a fill does them, with threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proxy.cache.journal import EXTENT_BYTES, Extent
from proxy.cache.pump import BATCH_BYTES, Pump
from proxy.cache.spool import Spool
from proxy.oci.digest import Digest
from proxy.oci.names import Repository
from proxy.upstream.registry import RegistryUpstream
from proxy.upstream.session import UpstreamConfig

SIZE = 256 * 1024 * 1024
ROUNDS = 5
_PIECE = bytes(1024 * 1024)
_WINDOW = 8 * 1024 * 1024
_HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n".encode()


def send_blobs(listener: socket.socket) -> None:
    """An upstream that answers every request with the same blob."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(_HEAD)
            for _ in range(SIZE // len(_PIECE)):
                connection.sendall(_PIECE)


def swallow(listener: socket.socket) -> None:
    """A follower."""
    buffer = bytearray(1024 * 1024)
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv_into(buffer):
                pass


@contextlib.contextmanager
def child(work: Callable[[socket.socket], None]) -> Iterator[int]:
    """Its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pid = os.fork()
        if pid == 0:
            work(listener)
        try:
            yield int(listener.getsockname()[1])
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


class Steps:
    """Each takes a whole blob through one part of the way."""

    def __init__(self, folder: Path, upstream_port: int, follower_port: int) -> None:
        url = f"http://127.0.0.1:{upstream_port}"
        self.upstream = RegistryUpstream(
            UpstreamConfig(name="lab", url=url), observe=lambda _event: None
        )
        self.follower_port = follower_port
        self.path = folder / "spool"
        self.digest = Digest.of(b"")
        self.disk = ThreadPoolExecutor(1)

    def _spool(self) -> Spool:
        spool = Spool(self.path, self.digest, SIZE)
        spool.create_blocking()
        return spool

    async def receive(self) -> None:
        async with self.upstream.open_blob(Repository.parse("app"), self.digest) as body:
            assert body is not None
            async for _ in body.chunks:
                pass

    async def hash(self) -> None:
        hasher = hashlib.sha256()
        for _ in range(SIZE // len(_PIECE)):
            hasher.update(_PIECE)

    async def write(self) -> None:
        spool = self._spool()
        assert spool.file is not None
        for offset in range(0, SIZE, BATCH_BYTES):
            os.pwritev(spool.file.fd, [_PIECE[:BATCH_BYTES]], offset)
        spool.close()

    async def journal(self) -> None:
        spool = self._spool()
        for end in range(EXTENT_BYTES, SIZE + 1, EXTENT_BYTES):
            spool.journal_blocking(Extent(0, end, self.digest.hex))
        spool.close()

    async def relay(self) -> None:
        spool = self._spool()
        pump, position = Pump(spool, self.disk), 0
        async with self.upstream.open_blob(Repository.parse("app"), self.digest) as body:
            assert body is not None
            async for chunk in body.chunks:
                pump.push(position, chunk)
                position += len(chunk)
                if pump.full:
                    await pump.room()
        await pump.drain()
        await pump.settle()
        spool.close()

    async def send(self) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "127.0.0.1", self.follower_port
        )
        with self.path.open("rb") as file:
            for offset in range(0, SIZE, _WINDOW):
                await loop.sendfile(transport, file, offset, _WINDOW, fallback=False)
        transport.close()


async def measured(step: Callable[[], Awaitable[None]]) -> float:
    """CPU seconds a GB."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        await step()
        seconds.append(time.process_time() - began)
    return min(seconds) / SIZE * 1e9


async def table(steps: Steps) -> str:
    names = ("receive", "hash", "write", "journal", "relay", "send")
    found = {name: await measured(getattr(steps, name)) for name in names}
    await steps.upstream.aclose()
    steps.disk.shutdown()
    rows = [f"| {name} | {seconds:.2f} |" for name, seconds in found.items()]
    return "\n".join(["| Step | CPU-s/GB |", "|---|---|", *rows])


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        child(send_blobs) as upstream_port,
        child(swallow) as follower_port,
    ):

        async def run() -> str:
            return await table(Steps(Path(name), upstream_port, follower_port))

        print(asyncio.run(run()))


if __name__ == "__main__":
    main()
