"""Three real replicas, real Redis, real S3, a counting upstream in this process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.entrepot import Entrepot
from tests.support.fake_registry import FakeRegistry
from tests.support.processes import free_port
from tests.support.redis_server import RedisServer
from tests.support.seaweed import Seaweed

REPLICAS = 3
SECRET = "a secret of the test replicas"
CLIENT_S = 60.0


@dataclass(slots=True)
class Got:
    """What a client that resumes, as containerd does, ended up with."""

    body: bytes
    resumes: int
    first_byte_s: float
    error: str = ""

    @property
    def sha256(self) -> str:
        return "sha256:" + hashlib.sha256(self.body).hexdigest()


@dataclass(slots=True)
class Cluster:
    """Replicas and what they share. `settings` are added to each one's."""

    folder: Path
    upstream: FakeRegistry
    redis: RedisServer
    s3: Seaweed
    client: aiohttp.ClientSession
    replicas: list[Entrepot] = field(default_factory=list)

    def settings(self, number: int, **more: Any) -> dict[str, Any]:
        return {
            "presets": False,
            "default_upstream": "lab",
            "disk_free_bytes_min": 0,
            "drain_s": 2,
            "storage": {"s3": self.s3.settings()},
            "redis": {"url": self.redis.url},
            "peer_listen": f"127.0.0.1:{free_port()}",
            "peer_secret": SECRET,
            **more,
        }

    async def start(self, count: int = REPLICAS, **more: Any) -> None:
        """More replicas, all at once."""
        first = len(self.replicas)
        for number in range(first, first + count):
            upstreams = {"lab": {"url": self.upstream.url}}
            self.replicas.append(
                Entrepot(
                    self.folder / f"replica-{number}",
                    upstreams=upstreams,
                    **self.settings(number, **more),
                )
            )
        started = self.replicas[first:]
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in started))

    async def pull(self, number: int, path: str, *, failover: bool = False) -> Got:
        """A blob from one replica, resumed with Range after a cut (elsewhere, if
        `failover`: behind one address the next try may land on any replica).
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        got = Got(b"", 0, -1.0)
        received = bytearray()
        for attempt in range(8):
            replica = self.replicas[(number + (attempt if failover else 0)) % len(self.replicas)]
            headers = {"Range": f"bytes={len(received)}-"} if received else {}
            try:
                async with asyncio.timeout(CLIENT_S):
                    async with self.client.get(replica.url + path, headers=headers) as response:
                        got.error = "" if response.status in {200, 206} else await response.text()
                        if got.error:
                            continue
                        async for chunk in response.content.iter_any():
                            if got.first_byte_s < 0:
                                got.first_byte_s = loop.time() - began
                            received += chunk
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                got.error = repr(error)
                got.resumes += 1
                await asyncio.sleep(0.1)
                continue
            break
        got.body = bytes(received)
        return got

    async def metric(self, number: int, name: str) -> float:
        """The sum over labels of one replica's metric."""
        async with self.client.get(self.replicas[number].admin + "/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """One S3 server; tests use prefixes of their own where it matters."""
    with Seaweed(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    """An empty, well-behaved registry."""
    async with FakeRegistry() as registry:
        yield registry


@pytest.fixture
async def cluster(
    tmp_path: Path, upstream: FakeRegistry, s3: Seaweed
) -> AsyncIterator[Cluster]:
    """Redis and S3 are up; replicas are started by the test."""
    async with AsyncExitStack() as stack:
        processes = stack.enter_context(ExitStack())
        redis = RedisServer(tmp_path / "redis")
        processes.callback(redis.stop)
        await asyncio.to_thread(redis.start)
        client = await stack.enter_async_context(
            aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        )
        one = Cluster(tmp_path, upstream, redis, s3, client)
        try:
            yield one
        finally:
            for replica in one.replicas:
                await asyncio.to_thread(replica.kill)
