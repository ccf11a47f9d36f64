"""CPU seconds a GB of each step of a cold fill, and of ways not taken: `python -m
tests.bench.cold_steps [FOLDER] [--rounds N] [--mib N]`.

The upstream and the follower are child processes and are not counted. Each step takes
a blob of 256 MiB through one part of the way, alone; `relay` is receive, hash, write
and journal together, as a fill does them, with threads. Rounds of all steps alternate,
so that a machine that is slower for a while is so for all of them; medians are told.
Wall time is where the steps differ that only move work between the loop and a thread.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Literal

import aiohttp

from proxy.cache import pump
from proxy.cache.journal import EXTENT_BYTES, Extent
from proxy.cache.spool import Spool
from proxy.oci.digest import Digest, Hasher
from proxy.oci.names import Repository
from proxy.ports import Chunk
from proxy.upstream import direct
from proxy.upstream.registry import RegistryUpstream
from proxy.upstream.session import READ_BUFFER_BYTES, UpstreamConfig
from tests.bench.children import child, send_blobs, swallow

_KIB, _MIB = 1024, 1024 * 1024
_SIZE = 256 * _MIB
_ROUNDS = 5
_PIECE = bytes(_MIB)
_WINDOW = 8 * _MIB


@contextlib.contextmanager
def constant(module: ModuleType, name: str, value: int) -> Iterator[None]:
    """A constant of the product with another value."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


class _NoHash(Hasher):
    """Where the step hashes elsewhere."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        pass

    def copy(self) -> _NoHash:
        return self

    def hexdigest(self) -> str:
        return ""


class _Unhashed(Digest):
    def hasher(self) -> _NoHash:
        return _NoHash()


class Steps:
    """Each takes a whole blob of `size` bytes (whole MiB) through one part of the way."""

    def __init__(self, folder: Path, size: int, upstream_port: int, follower_port: int) -> None:
        self.size = size
        self.url = f"http://127.0.0.1:{upstream_port}"
        self.upstream = RegistryUpstream(
            UpstreamConfig(name="lab", url=self.url), observe=lambda _event: None
        )
        self.follower_port = follower_port
        self.path = folder / "spool"
        self.digest = Digest.of(b"")
        self.disk = ThreadPoolExecutor(1)

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """By what they are called in the table; `send` sends what the ones before wrote."""
        return {
            "receive, 1 MiB blocks": self.receive,
            "receive, 64 KiB blocks": partial(self.receive, 64 * _KIB),
            "receive, 256 KiB blocks": partial(self.receive, 256 * _KIB),
            "receive, 4 MiB blocks": partial(self.receive, 4 * _MIB),
            "receive, aiohttp's iter_any": self.iter_any,
            "hash, 1 MiB at a time": self.hash,
            "hash, 256 KiB at a time": partial(self.hash, 256 * _KIB),
            "write, into allocated space": self.write,
            "write, nothing allocated": partial(self.write, whole=False),
            "journal": self.journal,
            "relay": self.relay,
            "relay, nothing allocated": partial(self.relay, whole=False),
            "relay, batches of 256 KiB": partial(self.relay, batch=256 * _KIB),
            "relay, batches of 4 MiB": partial(self.relay, batch=4 * _MIB),
            "relay, not hashed": partial(self.relay, hashed="nowhere"),
            "relay, hashed on the loop": partial(self.relay, hashed="loop"),
            "inline, 256 KiB: hashed on the loop": partial(
                self.relay, block=256 * _KIB, hashed="loop"
            ),
            "inline, 256 KiB: hashed and written on the loop": self.inline,
            "send": self.send,
        }

    def _spool(self, digest: Digest | None = None, *, whole: bool = True) -> Spool:
        spool = Spool(self.path, digest or self.digest, self.size)
        spool.create_blocking(whole=whole)
        return spool

    async def _received(self, block: int) -> AsyncIterator[Chunk]:
        with constant(direct, "_BLOCK_BYTES", block):
            async with self.upstream.open_blob(Repository.parse("app"), self.digest) as body:
                assert body is not None
                assert isinstance(body.chunks, direct.DirectBody)
                async for chunk in body.chunks:
                    yield chunk

    async def receive(self, block: int = _MIB) -> None:
        count = 0
        async for chunk in self._received(block):
            count += len(chunk)
        assert count == self.size

    async def iter_any(self) -> None:
        count = 0
        async with (
            aiohttp.ClientSession(read_bufsize=READ_BUFFER_BYTES) as session,
            session.get(f"{self.url}/v2/") as response,
        ):
            async for chunk in response.content.iter_any():
                count += len(chunk)
        assert count == self.size

    async def hash(self, at_a_time: int = _MIB) -> None:
        hasher, piece = hashlib.sha256(), _PIECE[:at_a_time]
        for _ in range(self.size // len(piece)):
            hasher.update(piece)

    async def write(self, *, whole: bool = True) -> None:
        spool = self._spool(whole=whole)
        assert spool.file is not None
        for offset in range(0, self.size, len(_PIECE)):
            os.pwritev(spool.file.fd, [_PIECE], offset)
        spool.close()

    async def journal(self) -> None:
        spool = self._spool()
        for end in range(EXTENT_BYTES, self.size + 1, EXTENT_BYTES):
            spool.journal_blocking(Extent(0, end, self.digest.hex))
        spool.close()

    async def relay(
        self,
        *,
        block: int = _MIB,
        batch: int = pump.BATCH_BYTES,
        whole: bool = True,
        hashed: Literal["thread", "loop", "nowhere"] = "thread",
    ) -> None:
        digest = None if hashed == "thread" else _Unhashed.parse(str(self.digest))
        spool = self._spool(digest, whole=whole)
        feeding, hasher, position = pump.Pump(spool, self.disk), hashlib.sha256(), 0
        with constant(pump, "BATCH_BYTES", batch):
            async for chunk in self._received(block):
                if hashed == "loop":
                    hasher.update(chunk)
                feeding.push(position, chunk)
                position += len(chunk)
                if feeding.full:
                    await feeding.room()
            await feeding.drain()
            await feeding.settle()
        assert spool.hashed == self.size
        spool.close()

    async def inline(self) -> None:
        """Only the journal's lines are a thread's work."""
        loop, spool = asyncio.get_running_loop(), self._spool()
        assert spool.file is not None
        hasher, position, journaled = hashlib.sha256(), 0, 0
        lines = []
        async for chunk in self._received(256 * _KIB):
            hasher.update(chunk)
            os.pwrite(spool.file.fd, chunk, position)
            position += len(chunk)
            if position - journaled >= EXTENT_BYTES:
                journaled = position
                extent = Extent(0, journaled, hasher.copy().hexdigest())
                lines.append(loop.run_in_executor(self.disk, spool.journal_blocking, extent))
        await asyncio.gather(*lines)
        assert position == self.size
        spool.close()

    async def send(self) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "127.0.0.1", self.follower_port
        )
        with self.path.open("rb") as file:
            for offset in range(0, self.size, _WINDOW):
                await loop.sendfile(transport, file, offset, _WINDOW, fallback=False)
        transport.close()


@dataclass(slots=True)
class Taken:
    """Seconds a GB of one step, a number for each round."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)


async def rounds(steps: Steps, count: int) -> dict[str, Taken]:
    """All steps in turn, `count` times."""
    found = {name: Taken() for name in steps.all()}
    for _ in range(count):
        for name, step in steps.all().items():
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            await step()
            found[name].cpu_s.append((time.process_time() - cpu_s) / steps.size * 1e9)
            found[name].wall_s.append((time.perf_counter() - wall_s) / steps.size * 1e9)
    await steps.upstream.aclose()
    steps.disk.shutdown()
    return found


def measure(parent: str | None, size: int, count: int) -> dict[str, Taken]:
    """`parent`: where the spool's folder is made; None: where temporary files are."""
    with (
        tempfile.TemporaryDirectory(dir=parent) as name,
        child(partial(send_blobs, size)) as upstream_port,
        child(swallow) as follower_port,
    ):

        async def run() -> dict[str, Taken]:
            return await rounds(Steps(Path(name), size, upstream_port, follower_port), count)

        return asyncio.run(run())


def table(found: dict[str, Taken]) -> str:
    """Medians, with the spread of the CPU time, and its share of the same round's relay."""
    relay, rows = found["relay"].cpu_s, []
    for name, taken in found.items():
        cpu_s = taken.cpu_s
        share = median(own / whole for own, whole in zip(cpu_s, relay, strict=True))
        rows.append(
            f"| {name} | {median(cpu_s):.2f} ({min(cpu_s):.2f}..{max(cpu_s):.2f}) "
            f"| {share:.2f} | {median(taken.wall_s):.2f} |"
        )
    return "\n".join(["| Step | CPU-s/GB | of relay | wall, s/GB |", "|---|---|---|---|", *rows])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cold_steps", description=__doc__)
    parser.add_argument("folder", nargs="?", help="on the file system to write to")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"default {_ROUNDS}")
    parser.add_argument("--mib", type=int, default=_SIZE // _MIB, help="of the blob")
    arguments = parser.parse_args()
    print(table(measure(arguments.folder, arguments.mib * _MIB, arguments.rounds)))


if __name__ == "__main__":
    main()
